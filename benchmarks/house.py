"""Time and memory of the house: imports, the command line, the main job.

    python benchmarks/house.py [--runs 5]

Prints a Markdown table of medians. Alternatives run in turn, A B A B ..., each in a process of its own.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date

PUBLIC = "import saematch; [getattr(saematch, n) for n in saematch.__all__]"
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import saematch": ["-c", "import saematch"],
    "import saematch, every public name used": ["-c", PUBLIC],
    "saematch --help": ["-m", "saematch", "--help"],
}


def timed(args, cwd):
    "(seconds, peak MiB) of one process."
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *args], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {args}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-main-job", action="store_true", help="imports and help only")
    asked = parser.parse_args()
    runs = asked.runs
    with tempfile.TemporaryDirectory() as folder:
        found = {name: [] for name in COMMANDS}
        for _ in range(runs):
            for name, args in COMMANDS.items():
                found[name].append(timed(args, folder))
        if not asked.no_main_job:
            found["saematch run (embedded default)"] = [
                timed(["-m", "saematch", "run", "--out", f"out{k}"], folder) for k in range(max(1, runs // 2))
            ]
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, medians of {runs} runs ({max(1, runs // 2)} of the main job)\n"
    )
    print("| | seconds | of `import torch` | peak MiB |\n| --- | --- | --- | --- |")
    torch_time = statistics.median(t for t, _ in found["import torch"])
    for name, values in found.items():
        t, m = (statistics.median(v) for v in zip(*values))
        print(f"| `{name}` | {t:.2f} | {t / torch_time:.2f} | {m:.0f} |")


if __name__ == "__main__":
    main()
