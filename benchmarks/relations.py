"""Sparse relations between two wide SAEs: seconds and peak memory, and how both grow with the width.

    python benchmarks/relations.py [--latents 1024 2048 4096 8192 16384] [--d-model 2304] [--k 8] [--budgeted]

Random SAEs in float32, each width in its own process. Prints a Markdown table; `growth` is the ratio to the row before.
The pursuit multiplies n x d with d x m once for each successor, so time grows fourfold with each doubling of the width.
"""

import argparse
import resource
import subprocess
import sys
import time


def measure(n: int, d: int, k: int, threads: int, shared: bool) -> tuple[float, float, float]:
    "Seconds of `relations` (or of `budgeted`, with k entries on average), peak MiB beyond the SAEs, MiB of the result."
    import torch

    from saematch.matching.budget import budgeted
    from saematch.matching.relations import relations
    from saematch.saes.sae import SAE

    torch.set_num_threads(threads)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    g = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=g)
    make = lambda: SAE(normal(d, n) / d**0.5, normal(n) / 10, normal(n, d) / d**0.5, normal(d) / 10, torch.ones(n))
    a, b = make(), make()
    before, start = peak(), time.perf_counter()
    r = budgeted(a, b, entries=k, progress=False) if shared else relations(a, b, k=k, progress=False)
    seconds = time.perf_counter() - start
    return seconds, peak() - before, (r.index.nbytes + r.weight.nbytes + r.common.nbytes) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latents", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--d-model", type=int, default=2304)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budgeted", action="store_true", help="time `budgeted` with k entries on average")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    how = parser.parse_args()
    if how.one:
        print(*measure(how.one, how.d_model, how.k, how.threads, how.budgeted))
        return
    print(f"d_model {how.d_model}, k {how.k}, {how.threads} threads\n")
    print(
        "| latents | seconds | growth | peak MiB beside the SAEs | MiB of the result |\n| --- | --- | --- | --- | --- |"
    )
    last = None
    for n in how.latents:
        options = ["--one", str(n), "--d-model", str(how.d_model), "--k", str(how.k), "--threads", str(how.threads)]
        options += ["--budgeted"] * how.budgeted
        done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
        seconds, peak, size = map(float, done.stdout.split())
        growth = "" if last is None else f"{seconds / last:.1f}"
        print(f"| {n:,} | {seconds:.1f} | {growth} | {peak:,.0f} | {size:.1f} |", flush=True)
        last = seconds


if __name__ == "__main__":
    main()
