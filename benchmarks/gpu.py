"""Exact assignment on a CUDA device: time, passes over all pairs, gap and memory for planted descriptors.

    python benchmarks/gpu.py [--sizes 16384x4609,65536x4609,131072x4609] [--runs 3] [--verify] [--stages]
                                    [--limit SECONDS]

Prints a Markdown table. B is A shuffled, with noise of half to twice the length of a row, a fifth of the rows new.
Times are medians and include everything from the descriptors on the device to the certificate. `--verify` checks each
certificate again with `saematch.verify` (float64). `--stages` prints the rounds, `--passes` times single passes.
"""

import argparse
import platform
import statistics
import time
from datetime import date

import torch

from saematch import assign, verify


def planted(n: int, D: int, seed: int = 0) -> tuple:
    "X, Y [n, D] on the device."
    g = torch.Generator("cuda").manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, device="cuda")
    X = normal(n, D)
    Y = torch.empty_like(X)
    order = torch.randperm(n, generator=g, device="cuda")
    for part in torch.arange(n, device="cuda").split(65536):
        noise = 0.5 + 1.5 * torch.rand(len(part), 1, generator=g, device="cuda")
        Y[part] = X[order[part]] + noise * normal(len(part), D)
    new = order[: n // 5]
    Y[new] = normal(len(new), D) * 1.5
    return X, Y


def measure(n: int, D: int, runs: int, check: bool, stages: bool, limit: float | None) -> list:
    "A row of the table."
    X, Y = planted(n, D)
    times = []
    torch.cuda.reset_peak_memory_stats()
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a = assign(X, Y, time_limit=limit)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30
    checked = f"{verify(X, Y, a)['relative_gap']:.1e}" if check else ""
    if stages:
        print(a.frame().to_string(), flush=True)
    rounds = sum(h["stage"].startswith("round") for h in a.history)
    row = [
        f"{n:,}",
        f"{D:,}",
        f"{statistics.median(times):.2f}",
        f"{a.history[-1]['passes']:.1f}",
        str(rounds),
        a.status,
        f"{a.relative_gap:.1e}",
        checked,
        f"{peak:.1f}",
    ]
    print(" | ".join(row), flush=True)
    return row


def passes(n: int, D: int):
    "Times of single passes: what a fused kernel could save is the difference to the bare product."
    from saematch.lap.bounds import price_block
    from saematch.lap.costs import costs_of, prepared
    from saematch.lap.metric import lowest
    from saematch.lap.prices import soft_pass

    X, Y = planted(n, D)
    c = prepared(costs_of(X, Y))
    v, u = c.layout.b.clone(), torch.zeros(n, dtype=torch.float64, device="cuda")

    def timed(what, f):
        f()
        torch.cuda.synchronize()
        start = time.perf_counter()
        f()
        torch.cuda.synchronize()
        print(f"{what:45s} {time.perf_counter() - start:.3f} s", flush=True)

    def product(fast):
        for _ in c.tiles(v, 2.0, ties=True, fast=fast):
            pass

    print(f"passes over {n:,} x {n:,} x {D:,}")
    timed("the product alone, TF32", lambda: product(True))
    timed("the product alone, float32", lambda: product(False))
    timed("soft pass, TF32", lambda: soft_pass(c, v, 1.0))
    timed("soft pass with candidates, TF32", lambda: soft_pass(c, v, 1.0, k=16))
    timed("pricing pass, float32", lambda: price_block(c, v, u))
    timed("verify, float64", lambda: lowest(X, Y, v, "sqeuclidean"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="16384x4609,65536x4609,131072x4609")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, help="seconds for each solve; the best so far is reported with its gap")
    for flag in ("verify", "stages", "passes"):
        parser.add_argument(f"--{flag}", action="store_true")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: not measured")
    sizes = [tuple(map(int, s.split("x"))) for s in asked.sizes.split(",")]
    print(
        f"{date.today()}, {torch.cuda.get_device_name()}, torch {torch.__version__}, "
        f"{platform.machine()}, medians of {asked.runs} runs\n",
        flush=True,
    )
    assign(*planted(4096, 512))  # kernels and handles
    if asked.passes:
        passes(*sizes[0])
    rows = [measure(n, D, asked.runs, asked.verify, asked.stages, asked.limit) for n, D in sizes]
    print(
        "\n| n | D | seconds | passes | rounds | status | gap | gap by `verify` | peak GiB |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    print("\n".join("| " + " | ".join(r) + " |" for r in rows))


if __name__ == "__main__":
    main()
