"""Assignments with rejection: a list of the pairs worth making against rounds over all pairs, in turn.

    python benchmarks/short.py [--runs 5]

Cases: one step of whole-depth lineages on the embedded suite (layer 16 taken out, assigned to the lineages of the other
five by the sum of cosines above 0.35), and layers 14 and 15 with `reject` where the list is short, and where it is not.
Prints a Markdown table: medians, and the median of the ratios of runs that followed each other.
"""

import argparse
import statistics
import time

import torch
from torch.nn.functional import normalize

import saematch.lap.assign as face
from saematch import assign, descriptors, load_suite
from saematch.lap.metric import lowest
from saematch.lap.search import Search
from saematch.lap.short import ShortSearch


def step_of_lineages(suite, out: int = 16, threshold: float = 0.35) -> tuple:
    "Rows whose inner products are gains: layer `out`, and the lineages chained through the other layers."
    D = {layer: normalize(suite[layer].W_dec.float(), dim=1) for layer in suite}
    last, members = None, torch.empty(0, 0, dtype=torch.int64)
    others = [layer for layer in D if layer != out]
    for k, layer in enumerate(others):
        n = len(D[layer])
        back = torch.full((n,), -1) if k == 0 else last.inverse().index
        column = torch.full((len(members),), -1)
        if k:
            at = members[:, k - 1]
            column[at >= 0] = last.index[at[at >= 0]]
        members = torch.cat([members, column[:, None]], 1)
        fresh = torch.full((int((back < 0).sum()), k + 1), -1)
        fresh[:, k] = (back < 0).nonzero()[:, 0]
        members = torch.cat([members, fresh])
        if k + 1 < len(others):
            last = assign(D[layer], D[others[k + 1]], metric="inner", reject=-threshold)
    total = sum((members[:, k, None] >= 0) * D[layer][members[:, k].clamp(min=0)] for k, layer in enumerate(others))
    count = (members >= 0).sum(1, keepdim=True).float()
    ones = torch.ones(len(D[out]), 1)
    return torch.cat([D[out], ones], 1), torch.cat([total, -threshold * count], 1)


def solve(kind, X, Y, **options) -> tuple:
    "(seconds, assignment) by one kind of search."
    before, face.ShortSearch = face.ShortSearch, kind
    try:
        start = time.perf_counter()
        a = assign(X, Y, **options)
        return time.perf_counter() - start, a
    finally:
        face.ShortSearch = before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    suite = load_suite("smollm2-135m-resid")
    X, Y = descriptors(suite[14], suite[15])
    near = float(lowest(X, Y, torch.zeros(len(Y), dtype=torch.float64), "sqeuclidean").median())
    A, B = (normalize(suite[layer].W_dec.float(), dim=1) for layer in (14, 15))
    cases = {
        "a step of lineages": (*step_of_lineages(suite), dict(metric="inner", reject=0.0)),
        "cosine above 0.35": (A, B, dict(metric="inner", reject=-0.35)),
        "cosine above 0.2": (A, B, dict(metric="inner", reject=-0.2)),
        "squared distance, half of nearest": (X, Y, dict(reject=0.5 * near)),
        "squared distance, 1.2 of nearest": (X, Y, dict(reject=1.2 * near)),
    }
    print("| case | rows | list used | list, s | rounds, s | list / rounds | difference of objectives |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (P, Q, options) in cases.items():
        pairs = [(solve(ShortSearch, P, Q, **options), solve(Search, P, Q, **options)) for _ in range(runs + 1)][1:]
        new, old = ([s for s, _ in side] for side in zip(*pairs))
        (_, a), (_, b) = pairs[0]
        used = "yes" if any(h["stage"] == "list" for h in a.history) else "no"
        ratio, middle = statistics.median(x / y for x, y in zip(new, old)), statistics.median
        print(
            f"| {name} | {len(P):,} x {len(Q):,} | {used} | {middle(new):.2f} | {middle(old):.2f} "
            f"| {ratio:.2f} | {abs(a.objective - b.objective):.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
