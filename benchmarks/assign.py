"""Exact assignment against the alternatives, cost construction included, each solve in a process of its own.

    python benchmarks/assign.py CASE[:N] ... [--solvers assign,assign-stream,scipy,lapjv,lapjvx,lapjvs,knn]
                                             [--runs 3] [--limit 900]
    python benchmarks/assign.py planted576:16384 --growth 2048,4096,8192,16384    (times against n, with exponents)

Prints a Markdown table: median seconds, peak MiB of the process (the descriptors and the imports included), the
objective against the best found, and the gap proven. Alternatives run in turn, A B A B .... A solver that fails or
exceeds the limit once is not run again. Cases: benchmarks/cases.py. `pip install lapx` first; lapx is no requirement
of saematch.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

SOLVERS = ("assign", "scipy", "lapjv", "lapjvx", "lapjvs", "knn")


def solve(solver: str, X, Y) -> dict:
    "index [n] and what else there is to say; everything from the descriptors on is inside the measured time."
    import torch

    if solver in ("assign", "assign-stream"):  # the latter computes each cost again and again, whatever the memory
        from saematch import assign

        a = assign(X, Y, keep=False if solver == "assign-stream" else None)
        return dict(index=a.index, gap=a.gap / a.scale, passes=a.history[-1]["passes"])
    from saematch.lap.metric import cost_matrix

    if solver == "knn":
        return dict(index=knn(X, Y))
    cost = cost_matrix(X, Y)
    if solver == "scipy":
        from saematch.matching.baselines import dense

        return dict(index=dense(cost))
    import lap

    if solver == "lapjvs":  # its fastest way: float32
        cost = cost.float().numpy()
        return dict(index=torch.as_tensor(lap.lapjvs(cost, return_cost=False, jvx_like=False)[0]).long())
    cost = cost.numpy()
    if solver == "lapjv":
        return dict(index=torch.as_tensor(lap.lapjv(cost, return_cost=False)[0]).long())
    return dict(index=torch.as_tensor(lap.lapjvx(cost, return_cost=False)[1]).long())


def knn(X, Y, k: int = 16):
    "OR-tools on the graph of the k nearest neighbours of each row and column: no guarantee, often no perfect matching."
    import torch
    from ortools.graph.python import linear_sum_assignment as lsa

    from saematch.lap.metric import cost_matrix

    cost = cost_matrix(X, Y).float()
    n, m = cost.shape
    of_rows, of_columns = cost.topk(min(k, m), 1, largest=False).indices, cost.topk(min(k, n), 0, largest=False).indices
    flat = torch.cat(
        [(torch.arange(n)[:, None] * m + of_rows).flatten(), (of_columns * m + torch.arange(m)).flatten()]
    ).unique()
    i, j = flat // m, flat % m
    w = (cost[i, j] / cost[i, j].max() * 2**30).round().long()
    solver = lsa.SimpleLinearSumAssignment()
    solver.add_arcs_with_cost(i.int().numpy(), j.int().numpy(), w.numpy())
    if solver.solve() != solver.OPTIMAL:
        raise RuntimeError("the graph of nearest neighbours has no perfect matching")
    return torch.tensor([solver.right_mate(r) for r in range(n)])


def one(solver: str, file: str):
    "Solve what is in `file` and print a JSON line."
    from safetensors.torch import load_file

    data = load_file(file)
    start = time.perf_counter()
    try:
        found = solve(solver, data["X"], data["Y"])
    except RuntimeError as e:
        return print(json.dumps(dict(failed=str(e)[:60])))
    seconds, mib = time.perf_counter() - start, peak()
    from saematch.lap.metric import pair_cost

    objective = float(pair_cost(data["X"], data["Y"], found.pop("index")).nansum())
    print(json.dumps(dict(seconds=seconds, objective=objective, mib=mib, **found)))


def peak() -> float:
    """Peak MiB of this process.

    Not ru_maxrss where it can be helped: that counts the parent from before the program was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def process(solver: str, file: str, limit: float) -> dict:
    "What `one` prints, with the peak memory of its process; `failed` says why there is nothing."
    try:
        code = subprocess.run(
            [sys.executable, __file__, "--one", solver, file], stdout=subprocess.PIPE, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return dict(failed=f"over {limit:.0f} s")
    out = code.stdout.strip().splitlines()
    return json.loads(out[-1]) if code.returncode == 0 and out else dict(failed="crashed or out of memory")


def compare(case: str, n: int, solvers: list, runs: int, limit: float, folder: str) -> list:
    "Rows of the table of one case."
    from cases import descriptors
    from safetensors.torch import save_file

    X, Y = descriptors(case, n)
    file = str(Path(folder) / "descriptors.safetensors")
    save_file(dict(X=X, Y=Y), file)
    found = {s: [] for s in solvers}
    for _ in range(runs):
        for s in solvers:
            if not (found[s] and "failed" in found[s][-1]):
                found[s].append(process(s, file, limit))
                print(case, len(X), s, found[s][-1], file=sys.stderr, flush=True)
    best = min((r["objective"] for rows in found.values() for r in rows if "objective" in r), default=math.nan)
    rows = []
    for s, results in found.items():
        good = [r for r in results if "seconds" in r]
        middle = lambda key: statistics.median(r[key] for r in good)
        over = "" if not good else f"{max(0, good[0]['objective'] / best - 1):.1e}"
        rows.append(
            [case, f"{len(X):,}", f"{X.shape[1]:,}", f"`{s}`"]
            + (
                [
                    f"{middle('seconds'):.2f}",
                    f"{middle('mib'):.0f}",
                    over,
                    f"{good[0]['gap']:.1e}" if "gap" in good[0] else "",
                ]
                if good
                else [results[-1]["failed"], "", "", ""]
            )
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["real", "planted576:4096"])
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900, help="seconds for each solve")
    parser.add_argument("--growth", help="sizes, comma-separated: time and memory of the first solver against n")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return one(*asked.one)
    cases = [(c, int(n or 2048)) for c, _, n in (c.partition(":") for c in asked.cases)]
    solvers = asked.solvers.split(",")
    if asked.growth:
        cases, solvers = [(c, int(n)) for c, _ in cases for n in asked.growth.split(",")], solvers[:1]
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, medians of {asked.runs} runs\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, n in cases:
            rows += compare(case, n, solvers, asked.runs, asked.limit, folder)
    print(
        "| case | n | D | solver | seconds | peak MiB | over the best | proven gap |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    print("\n".join("| " + " | ".join(r) + " |" for r in rows))
    if asked.growth:
        exponents(rows)


def exponents(rows: list):
    "Least-squares slopes of log time and log memory against log n, for each case."
    from numpy import log, polyfit

    for case in dict.fromkeys(r[0] for r in rows):
        n, t, m = zip(
            *((float(r[1].replace(",", "")), float(r[4]), float(r[5])) for r in rows if r[0] == case and r[5])
        )
        print(
            f"\n{case}: seconds grow as n^{polyfit(log(n), log(t), 1)[0]:.2f}, "
            f"peak memory as n^{polyfit(log(n), log(m), 1)[0]:.2f}"
        )


if __name__ == "__main__":
    main()
