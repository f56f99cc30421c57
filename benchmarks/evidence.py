"""What judging matches on a language model costs.

Seconds against tokens and against layers, the forward pass's share, peak memory.

    python benchmarks/evidence.py [--documents 3 6 12 24] [--layers 2 4 6] [--runs 3] [--losses]

Every measurement is a process of its own; medians are printed, and the exponent of a straight line
through the logarithms.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time


def one(documents, n_layers, losses):
    import torch

    from saematch import load_suite, match
    from saematch.judging.routes import Pair
    from saematch.judging.sums import measure, merge
    from saematch.model.activations import norm_limits
    from saematch.model.lm import load_lm
    from saematch.model.text import TEXTS, load_text, tokenize

    lm, suite = load_lm(), load_suite("smollm2-135m-resid")
    layers = suite.layers[:n_layers]
    routes = {name: dict(method=name) for name in ("greedy", "mutual", "identity", "random")} | {
        "unfolded": dict(fold=False)
    }
    pairs = {}
    for x, y in zip(layers, layers[1:]):
        a, b = suite[x], suite[y]
        pairs[x, y] = Pair(a, b, {"match": match(a, b), **{k: match(a, b, **v) for k, v in routes.items()}})
    tokens = tokenize(lm, [t for s in TEXTS for t in load_text(s)[: documents // 3]])
    limits = norm_limits(lm, tokens[:2], layers)
    start = time.perf_counter()
    found = merge(measure(lm, pairs, tokens[r], limits, losses) for r in torch.arange(len(tokens)).split(4))
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            dict(
                seconds=seconds,
                forward=found["seconds"][:, 0].sum().item(),
                tokens=int(tokens.lengths.sum()),
                gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            )
        )
    )


def measured(runs, *args):
    found = []
    for _ in range(runs):
        out = subprocess.run(
            [sys.executable, __file__, "--one", *map(str, args)], capture_output=True, text=True, check=True
        )
        found.append(json.loads(out.stdout.splitlines()[-1]))
    return {k: statistics.median(f[k] for f in found) for k in found[0]}


def exponent(x, y):
    import numpy as np

    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--one", nargs=3)
    p.add_argument("--documents", type=int, nargs="+", default=[3, 6, 12, 24])
    p.add_argument("--layers", type=int, nargs="+", default=[2, 4, 6])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--losses", action="store_true", help="also with the forward pass that each route costs")
    a = p.parse_args()
    if a.one:
        return one(int(a.one[0]), int(a.one[1]), a.one[2] == "True")
    for losses in (False, True)[: 1 + a.losses]:
        print(
            f"\n{'with' if losses else 'without'} losses\n"
            "| documents | tokens | layers | seconds | tokens/s | forward pass | peak GiB |\n"
            "| --- | --- | --- | --- | --- | --- | --- |"
        )
        grid = (
            [(d, 3) for d in a.documents]
            if losses
            else [(d, max(a.layers)) for d in a.documents] + [(a.documents[-1], n) for n in a.layers[:-1]]
        )
        rows = {}
        for d, n in grid:
            m = rows[d, n] = measured(a.runs, d, n, losses)
            print(
                f"| {d} | {m['tokens']:.0f} | {n} | {m['seconds']:.1f} |"
                f" {m['tokens'] / m['seconds']:.0f} | {m['forward'] / m['seconds']:.0%} | {m['gib']:.2f} |",
                flush=True,
            )
        by_tokens = [m for (d, n), m in rows.items() if n == (3 if losses else max(a.layers))]
        if not losses:
            by_layers = [(n, m) for (d, n), m in rows.items() if d == a.documents[-1]]
            power = exponent([n for n, _ in by_layers], [m["seconds"] for _, m in by_layers])
            print(f"seconds grow with layers to the power of {power:.2f}")
        power = exponent([m["tokens"] for m in by_tokens], [m["seconds"] for m in by_tokens])
        print(f"seconds grow with tokens to the power of {power:.2f}")


if __name__ == "__main__":
    main()
