# Written from nbs/judging/20_transport.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.transport import (
    partial_transport,
    distributions,
    wasserstein,
    wasserstein_bound,
    nearest_distribution,
)


from itertools import combinations, permutations

import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError


def test_the_cheapest_set_of_pairs_is_moved():
    C = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    index = partial_transport(C, 0.6)
    cheapest = min(
        sum(float(C[i, j]) for i, j in zip(rows, columns))
        for rows in combinations(range(5), 3)
        for columns in permutations(range(6), 3)
    )
    moved = (index >= 0).nonzero()[:, 0]
    assert len(moved) == len(index[moved].unique()) == 3
    assert abs(float(C[moved, index[moved]].sum()) - cheapest) < 1e-12
    with expect_fail(UsageError, "above 0 and at most 1, not 1.5"):
        partial_transport(C, 1.5)
    index


def test_the_bound_holds_and_the_nearest_is_found():
    g = torch.Generator().manual_seed(0)
    f, h = (torch.randn(30, n, generator=g).clamp(min=0).double() for n in (6, 7))
    f[:, 2], h[:, 3] = 0, 0
    z = torch.randn(30, 3, generator=g).double()
    p, u = distributions(f, z, 5)
    q, v = distributions(h, z + 0.1, 5)
    every = torch.full((6, 7), float("inf"), dtype=torch.float64)
    for i, j in ((i, j) for i in range(6) for j in range(7) if i != 2 and j != 3):
        every[i, j] = wasserstein(p[i], u[i], q[j], v[j])
    assert (wasserstein_bound(p, u, q, v) <= every + 1e-9).all()
    index, distance = nearest_distribution(p, u, q, v, shortlist=7)
    assert index[2] == -1 and distance[2].isnan()
    alive = torch.tensor([0, 1, 3, 4, 5])
    assert torch.equal(index[alive], every[alive].argmin(1)) and torch.allclose(distance[alive], every[alive].amin(1))
    assert torch.allclose(distributions(9 * f, z, 5)[1], u), "a latent's unit matters"
    distance.round(decimals=2)
