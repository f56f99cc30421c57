"""How the time of lineages grows with layers and width, and what that makes of a large suite.

    python benchmarks/lineages.py [--sizes 4x1024,4x2048,8x1024,8x2048] [--d-model 576] [--device cuda]

Planted suites of random directions, in which a tenth of the latents dies at each step. Prints a Markdown table of CPU
seconds: the listing of similarities of the suite (products of all pairs of layers: layers^2 x width^2 x d_model), the
search, and `lineages` with bound and all nulls. Then the large suite by that law, which is an extrapolation and not a
measurement. With `--device cuda` the products are made there.
"""

import argparse
import platform
import resource
import time
from datetime import date

import torch

from saematch import lineages
from saematch.judging.depth import directions
from saematch.matching.joint import Similarities, joined
from saematch.saes.toys import planted_suite, random_sae

LARGE = (26, 16_384, 2_304)


def clock(work):
    "(CPU seconds or, on a GPU, wall seconds; result)"
    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = now()
    result = work()
    return now() - start, result


def measure(layers, width, d_model, device):
    "CPU seconds of listing, search, and everything."
    pool = random_sae(d_model, 2 * width, seed=0, dtype=torch.float32)
    suite = planted_suite(pool, layers=layers, width=width, noise=0.7, death=0.1, gap=0.02, seed=0).suite
    rows = [directions(s).to(device) for s in suite.values()]
    tau = torch.full((layers, layers), 0.25, dtype=torch.float64)
    listing, sims = clock(lambda: Similarities(rows, tau))
    search, _ = clock(lambda: joined(sims))
    everything, _ = clock(lambda: lineages(suite))
    return listing, search, everything


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4x1024,4x2048,8x1024,8x2048")
    parser.add_argument("--d-model", type=int, default=576)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    device = torch.cuda.get_device_name() if a.device == "cuda" else "cpu"
    print(f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), {device}, d_model {a.d_model}\n")
    names = ["layers", "width", "listing, s", "search, s", "lineages with nulls, s", "of listing, GFlop/s"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for size in a.sizes.split(","):
        layers, width = map(int, size.split("x"))
        listing, search, everything = measure(layers, width, a.d_model, a.device)
        work = layers * (layers - 1) * width**2 * a.d_model  # 2 flops for each of half as many pairs
        row = (f"{t:.2f}" for t in (listing, search, everything))
        print(f"| {layers} | {width:,} | {' | '.join(row)} | {work / listing / 1e9:.1f} |", flush=True)
    layers, width, d_model = LARGE
    hours = layers * (layers - 1) * width**2 * d_model / (work / listing) / 3600
    times = everything / listing
    print(f"\n{layers} x {width:,} x {d_model:,}, extrapolated and not measured: listing {hours:.1f} h on one thread;")
    print(f"with nulls and search as in the last row ({times:.1f} times the listing) {hours * times:.1f} h.")
    print(f"Rows in float32: {layers * width * d_model * 4 / 2**30:.1f} GiB a world.")
    print(f"Peak memory here: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB.")


if __name__ == "__main__":
    main()
