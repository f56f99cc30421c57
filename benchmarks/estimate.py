"""What `saematch run --dry-run` says beside what the run takes: CPU seconds and disk, part by part.

    python benchmarks/estimate.py [--layers 14-16] [--documents 4] [--suite smollm2-135m-resid]

The run is made in three calls in one folder, each of which finds done what the one before has made: matches, then
lineages, then the evaluation on a few documents; a fourth call has nothing left to do. Each call also starts Python and
writes the report of what there is by then (`IN`), so CPU seconds are compared call by call. The speed of the machine is
measured again right before, since others may work on it. Prints two Markdown tables.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from saematch.studies.ahead import plan_run
from saematch.studies.cost import this_machine
from saematch.studies.options import Trial

PLACES = dict(matches=("matches",), lineages=("lineages.safetensors", "lineages"), evaluation=("evidence",))

AGAIN = ("report", "cards", "judged", "fit", "pairing")  # what every call does that follows an evaluation
IN = {  # call -> kinds of the plan
    "matches": ("matches", "report"),
    "lineages": ("lineages", "report", "cards"),
    "evaluation": ("losses", "chunk", *AGAIN),
    "nothing": AGAIN,
}


def cpu() -> float:
    "CPU seconds of all children so far."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bytes_of(path: Path) -> int:
    "What a file or folder takes."
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="smollm2-135m-resid")
    parser.add_argument("--layers", default="14-16")
    parser.add_argument("--documents", type=int, default=4)
    a = parser.parse_args()
    few = dict(documents=a.documents, loss_documents=1, fit_documents=2, features=10, feature_documents=6)
    trial, machine = Trial(**few), this_machine(again=True)
    parts = plan_run(a.suite, a.layers, trial=trial, machine=machine).frame()
    print(f"{date.today()}, {platform.machine()}, layers {a.layers} of {a.suite}, one thread of a core of", end=" ")
    print(f"{machine.flops / 1e9:.0f} Gflop/s at that moment\n", flush=True)
    env = os.environ | dict(OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        base = ["run", "--suite", a.suite, "--layers", a.layers, "--out", out, "--jobs", 1]
        evaluate = ["--evaluate", *(x for k, v in few.items() for x in (f"--{k.replace('_', '-')}", v))]
        used = {}
        for part, more in (
            ("matches", ["--no-lineages"]),
            ("lineages", []),
            ("evaluation", evaluate),
            ("nothing", evaluate),
        ):
            before = cpu()
            args = [
                sys.executable,
                "-c",
                "from saematch.studies.cli import main; raise SystemExit(main())",
                *base,
                *more,
            ]
            subprocess.run(
                list(map(str, args)), check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            used[part] = cpu() - before
        disk = {part: sum(bytes_of(out / p) for p in places) for part, places in PLACES.items()}
        disk["report"] = bytes_of(out) - sum(disk.values())
    said = parts.groupby("part").disk.sum()
    print("| call | CPU s, estimated | measured | ratio |\n| --- | --- | --- | --- |")
    for call, took in used.items():
        known = parts[parts.kind.isin(IN[call]) | parts.part.isin({"matches", "lineages"} & {call})].core_seconds.sum()
        print(f"| {call} | {known:.1f} | {took:.1f} | {known / took:.2f} |")
    print("\n| part | MiB, estimated | measured | ratio |\n| --- | --- | --- | --- |")
    for part in (*PLACES, "report"):
        size, held = said[part] / 2**20, disk[part] / 2**20
        print(f"| {part} | {size:.2f} | {held:.2f} | {size / held:.2f} |")


if __name__ == "__main__":
    main()
