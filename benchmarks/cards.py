"""What cards cost: growth with tokens at 16,384 latents, and how fast one opens.

    python benchmarks/cards.py growth [--minutes 10] [--latents 16384] [--tokens 10000000]
    python benchmarks/cards.py open

`growth` feeds synthetic hidden states (each token has its own mean, 50 latents are active on a token) to the pass that
gathers cards, for as long as it may, and extrapolates from the last third. Times are CPU seconds of one process: other
work on the machine does not count. Printed are Markdown tables.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from saematch.model.gather import Layer, take
from saematch.saes.sae import SAE

D_MODEL, VOCABULARY, LENGTH, ACTIVE = 128, 50_000, 256, 50


def memory() -> float:
    "MiB of main memory that this process has now."
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def synthetic(d_sae: int, g: torch.Generator) -> tuple[SAE, torch.Tensor]:
    "An SAE of which `ACTIVE` latents are active on a token, and the mean hidden state of each token."
    W = torch.nn.functional.normalize(torch.randn(d_sae, D_MODEL, generator=g), dim=1)
    threshold = torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - ACTIVE / d_sae))
    sae = SAE(W.T.contiguous(), torch.zeros(d_sae), W, torch.zeros(D_MODEL), threshold.repeat(d_sae))
    return sae, torch.randn(VOCABULARY, D_MODEL, generator=g)


def growth(minutes: float, d_sae: int, aim: int, batch: int = 8) -> None:
    g = torch.Generator().manual_seed(0)
    sae, means = synthetic(d_sae, g)
    layer, shares = Layer(sae, VOCABULARY), 1 / torch.arange(1, VOCABULARY + 1)  # Zipf
    keep, shared = np.arange(LENGTH)[None] > np.zeros((batch, 1)), np.zeros(batch, dtype=bool)
    print(
        "| tokens | CPU s in all | CPU s a million tokens | MiB | growth | rows of contexts | (latent, token) pairs |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    start, spent, documents, rows, last = time.monotonic(), 0.0, 0, [], 0
    while time.monotonic() - start < 60 * minutes and documents * LENGTH < aim:
        ids = torch.multinomial(shares, batch * LENGTH, replacement=True, generator=g).reshape(batch, LENGTH)
        x = 0.8 * means[ids] + 0.6 * torch.randn(batch, LENGTH, D_MODEL, generator=g)
        before = time.process_time()
        take(layer, sae, ids.numpy(), x, keep, documents, shared)
        spent, documents = spent + time.process_time() - before, documents + batch
        if (tokens := documents * (LENGTH - 1)) >= 1.5 * last + 20_000:
            size = len(layer.contexts["top"]["latent"]) + len(layer.contexts["sample"]["latent"])
            rows.append((tokens, spent, memory()))
            slope = (spent - rows[-2][1]) / (tokens - last) if len(rows) > 1 else spent / tokens
            pairs = len(layer.tokens.key)
            print(
                f"| {tokens:,} | {spent:.1f} | {1e6 * slope:.0f} | {rows[-1][2]:.0f} | {rows[-1][2] - rows[0][2]:+.0f} "
                f"| {size:,} | {pairs:,} |",
                flush=True,
            )
            last = tokens
    tokens, late = documents * (LENGTH - 1), [r for r in rows if r[0] <= 2 / 3 * documents * (LENGTH - 1)][-1]
    slope = (spent - late[1]) / (tokens - late[0])
    print(
        f"\nStopped at {tokens:,} tokens with {memory():.0f} MiB, {spent:.0f} CPU s. From {late[0]:,} on it took "
        f"{1e6 * slope:.0f} CPU s a million: extrapolated, not measured, {aim:,} tokens take "
        f"{(spent + slope * (aim - tokens)) / 60:.0f} minutes of one core. The memory was {late[2]:.0f} MiB there, and "
        f"{memory() - rows[0][2]:+.0f} MiB since the first row."
    )


def opening(count: int = 40) -> None:
    from saematch.model.cards import cards, texts_of, words_of
    from saematch.model.show import listed

    def median(what) -> tuple[float, float]:
        times = []
        for k in range(count):
            wall, cpu = time.perf_counter(), time.process_time()
            what(k)
            times.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
        return tuple(map(statistics.median, zip(*times)))

    def cold(k: int) -> None:
        words_of.cache_clear(), texts_of.cache_clear()
        cards("smollm2-135m-resid", 14)[37 * k]

    found, name = cards("smollm2-135m-resid", 14), "smollm2-135m-resid"
    print("| | median ms | CPU ms |\n| --- | --- | --- |")
    for said, what in {
        "a card, files closed": cold,
        "a card, files open": lambda k: found[41 * k],
        "find in all six layers": lambda k: listed(name, "is are was", 10),
    }.items():
        print(f"| {said} | {' | '.join(f'{t:.1f}' for t in median(what))} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("growth", "open"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    args = parser.parse_args()
    growth(args.minutes, args.latents, args.tokens) if args.what == "growth" else opening()
