"""Products of tables of rows on a processor: NumPy's BLAS against torch's, in turn.

    python benchmarks/products.py [--threads 2] [--runs 7]

Tiles as `pairs_above` makes them, then `pairs_above` itself with either, each list of pairs compared with the other.
Prints a Markdown table: medians, and the median of the ratios of runs that followed each other.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from datetime import date


def in_turn(runs: int, **made) -> tuple[list[float], list[float], list]:
    "Seconds of two functions that take turns, and what they gave last."
    seconds, results = [[], []], [None, None]
    for _ in range(runs + 1):
        for k, work in enumerate(made.values()):
            start = time.perf_counter()
            results[k] = work()
            seconds[k].append(time.perf_counter() - start)
    return seconds[0][1:], seconds[1][1:], results  # the first of each loads what is loaded at first use


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    a = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(a.threads):  # NumPy reads it when it is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": str(a.threads)})
    import numpy as np
    import torch
    from torch.nn.functional import normalize

    import saematch.lap.above as above
    from saematch.studies.cost import processor

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(f"{date.today()}, {platform.machine()}, {processor()}, {a.threads} thread(s), NumPy with {blas['name']}\n")
    print("| | torch | NumPy | NumPy / torch |\n| --- | --- | --- | --- |")
    g = torch.Generator().manual_seed(0)
    draw = lambda n, d: normalize(torch.randn(n, d, generator=g), dim=1)

    def show(what, torchs, numpys, unit):
        ratio = statistics.median(n / t for t, n in zip(torchs, numpys))
        print(
            f"| {what} | {unit(statistics.median(torchs))} | {unit(statistics.median(numpys))} | {ratio:.2f} |",
            flush=True,
        )

    for n, m, d in ((2048, 2048, 576), (2048, 4096, 2304), (2048, 8192, 4096)):
        x, y, out = draw(n, d), draw(m, d).T.contiguous(), torch.empty(n, m)
        ways = dict(torch=lambda: torch.mm(x, y, out=out), numpy=lambda: above.multiplied(x, y, out))
        t, s, _ = in_turn(a.runs, **ways)
        show(f"tile, {n:,} x {m:,} x {d:,}", t, s, lambda v: f"{2 * n * m * d / v / 1e9:.0f} GFlop/s")

    def listed(way):
        above.multiplied = way
        return above.pairs_above(X, Y, 0.3)

    own = above.multiplied
    for n, d, runs in ((2048, 576, a.runs), (16_384, 2304, 2)):
        X, Y = draw(n, d), draw(n, d)
        Y[: n // 2] = normalize(X[: n // 2] + 0.7 * Y[: n // 2], dim=1)
        ways = dict(torch=lambda: listed(lambda x, y, out: torch.mm(x, y, out=out)), numpy=lambda: listed(own))
        t, s, found = in_turn(runs, **ways)
        assert all(torch.equal(p, q) for p, q in zip(*found)), "the lists differ"
        show(f"`pairs_above`, {n:,} x {n:,} x {d:,}", t, s, lambda v: f"{v:.2f} s")


if __name__ == "__main__":
    main()
