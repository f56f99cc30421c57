"""Two versions of saematch side by side: did a change make anything slower?

    python benchmarks/paired.py BEFORE AFTER [--pairs 5] [--cases planted576:2048,planted576:8192] [--no-main-job]

BEFORE and AFTER are checkouts (`git worktree add ../before REVISION`). The versions take turns, each in a process of
its own, on the same descriptors (benchmarks/cases.py of AFTER). Prints a Markdown table: median seconds of both, and
the median of the ratios of runs that followed each other.
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
from pathlib import Path

WHOLE = {  # timed from outside
    "import saematch, every public name used": [
        "-c",
        "import saematch; [getattr(saematch, n) for n in saematch.__all__]",
    ],
    "saematch --help": ["-m", "saematch", "--help"],
}
ASSIGN = """
import sys, time
from safetensors.torch import load_file
from saematch import assign
d = load_file(sys.argv[1])
X, Y = d["X"], d["Y"]
assign(X[:300], Y[:300])  # what is loaded at first use
start = time.perf_counter()
assign(X, Y)
print(time.perf_counter() - start)
"""


def run(checkout, args, cwd):
    "(seconds, what it printed) of a Python process that imports saematch from a checkout."
    start = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(Path(checkout).resolve())}
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed in {checkout}: {args[:3]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start, done.stdout


def descriptors(case, n, checkout, folder):
    "A file of descriptors X and Y."
    path = Path(folder) / f"{case}-{n}.safetensors"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(checkout).resolve() / 'benchmarks')!r}); "
        "from cases import descriptors; from safetensors.torch import save_file; "
        f"X, Y = descriptors({case!r}, {n}); save_file(dict(X=X, Y=Y), {str(path)!r})"
    )
    run(checkout, ["-c", code], folder)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cases", default="planted576:2048,planted576:8192,planted576:16384")
    parser.add_argument("--no-main-job", action="store_true")
    asked = parser.parse_args()
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {asked.pairs} pairs of runs (a third of them of the main job)\n"
    )
    print("| | before, s | after, s | after / before |\n| --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = {name: (args, asked.pairs, False) for name, args in WHOLE.items()}
        if not asked.no_main_job:
            jobs["saematch run"] = ["-m", "saematch", "run", "--out", "{fresh}"], max(1, asked.pairs // 3), False
        for case in filter(None, asked.cases.split(",")):
            name, n = case.split(":")
            args = ["-c", ASSIGN, str(descriptors(name, int(n), asked.after, folder))]
            jobs[f"assign, {name}, {int(n):,} rows"] = args, asked.pairs, True
        for name, (args, pairs, printed) in jobs.items():
            found = []
            for k in range(pairs):
                order = (asked.before, asked.after) if k % 2 == 0 else (asked.after, asked.before)
                times = {}
                for which in order:
                    fresh = [a.replace("{fresh}", f"out{time.monotonic_ns()}") for a in args]
                    whole, said = run(which, fresh, folder)
                    times[which] = float(said) if printed else whole
                found.append((times[asked.before], times[asked.after]))
            before, after = (statistics.median(t) for t in zip(*found))
            ratio = statistics.median(b / a for a, b in found)
            print(f"| {name} | {before:.3g} | {after:.3g} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
