"""Descriptors that the assignment benchmarks solve: `descriptors(case, n)` gives float32 X [n, D] and Y [n, D].

planted576   two planted SAEs, d_model 576, all blocks (D = 1,153): half of each weight noise, a fifth of the rows new
planted2304  the same at d_model 2,304 (D = 4,609)
dead576      the same with a tenth of B's latents dead: their folded biases lie far from all others
real         layers 14 and 15 of the embedded suite, all blocks (n = 2,048, whatever is asked)
pooled       layers of the three suites that come with the repository, put together on either side (n = 12,288 at most)
pooled_bias  the same with the folded bias 300 times as loud, so that the problem is nearly one-dimensional
noise        nothing to find: independent normal rows (D = 1,153)
clusters     two clusters that hold 1/3 of A and 1/2 of B (D = 64)
hubs         a few rows with a norm 50 to 1,000 times the others' (D = 64)
zeros        half of A and three quarters of B are all-zero rows (D = 64)
duplicates   every row of A eight times, every row of B four times (D = 64)
line         nearly one-dimensional, rounded so that thousands of rows nearly tie (D = 65)
plane        two-dimensional
"""

from pathlib import Path

import torch

import saematch
from saematch.matching.descriptors import descriptors as sae_descriptors
from saematch.saes.toys import planted, random_sae

DATA = Path(__file__).resolve().parent.parent / "nbs" / "data"


def from_suites() -> list:
    "[(SAE of A, SAE of B)] of neighbouring layers, all of the same model."
    resid, same, diff = (
        saematch.load_suite(s)
        for s in ("smollm2-135m-resid", DATA / "smollm2-135m-sameseed", DATA / "smollm2-135m-diffseed")
    )
    return [
        (resid[14], resid[15]),
        (resid[16], resid[17]),
        (resid[18], resid[19]),
        (same[9], same[10]),
        (diff[10], diff[11]),
        (same[11], diff[12]),
    ]


def plant(d_model: int, n: int, seed: int, dead: float) -> tuple:
    a = random_sae(d_model, n, seed=seed, dtype=torch.float32)
    return sae_descriptors(a, planted(a, replaced=0.2, dead=dead, seed=seed).sae)


def pool(pairs: list) -> tuple:
    return tuple(torch.cat(side) for side in zip(*(sae_descriptors(a, b) for a, b in pairs)))


def descriptors(case: str, n: int, seed: int = 0) -> tuple:
    "float32 X [n, D] and Y [n, D] of a case."
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g)
    if case.startswith(("planted", "dead")):
        X, Y = plant(int(case.lstrip("planted")), n, seed, 0.1 * case.startswith("dead"))
    elif case == "real":
        X, Y = pool(from_suites()[:1])
    elif case.startswith("pooled"):
        X, Y = (Z[:n] for Z in pool(from_suites()))
        if case == "pooled_bias":
            X[:, -1] *= 300
            Y[:, -1] *= 300
    elif case == "noise":
        X, Y = normal(n, 1153), normal(n, 1153)
    elif case == "clusters":
        X, Y = normal(n, 64) / 10, normal(n, 64) / 10
        X[: n // 3, 0] += 10
        Y[: n // 2, 0] += 10
    elif case == "hubs":
        X, Y = normal(n, 64), normal(n, 64)
        X[:5] *= 100
        Y[3:9] *= 50
        Y[20] *= 1000
    elif case == "zeros":
        X, Y = normal(n, 64), normal(n, 64)
        X[n // 2 :] = 0
        Y[n // 4 :] = 0
    elif case == "duplicates":
        X, Y = normal(n // 8, 64).repeat(8, 1), normal(n // 4, 64).repeat(4, 1)
    elif case == "line":
        X, Y = normal(n, 65) / 50, normal(n, 65) / 50
        X[:, 0], Y[:, 0] = normal(n).round(decimals=2) * 5, normal(n).round(decimals=2) * 5
    elif case == "plane":
        X, Y = normal(n, 2), 1.1 * normal(n, 2)
    else:
        raise SystemExit(f"unknown case {case!r}; see benchmarks/cases.py")
    return X.float().contiguous(), Y.float().contiguous()
