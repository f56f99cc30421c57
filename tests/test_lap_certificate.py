# Written from nbs/lap/02_certificate.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.certificate import (
    verify,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail

from saematch.lap.assign import assign
from saematch.lap.metric import lengths, pair_costs, random_pair_cost


def test_one_long_pair_leaves_the_others_their_partners():
    g = torch.Generator().manual_seed(0)
    P, order, rows = torch.randn(300, 40, generator=g), torch.randperm(300, generator=g), []
    Q = P[order] + 0.3 * torch.randn(300, 40, generator=g)
    for factor in (1, 1e3, 1e6, 1e9, 1e20):
        X, Y = P.clone(), Q.clone()
        X[order[7]], Y[7] = X[order[7]] * factor, Y[7] * factor
        a = assign(X, Y)
        found = int((order[a.index] == torch.arange(300)).sum())
        i, j = order[:2], torch.tensor([1, 0])
        wrong = float((pair_costs(X[i], Y[j], a.metric) - pair_costs(X[i], Y[j.flip(0)], a.metric)).sum())
        scales = 300 * random_pair_cost(X, Y), lengths(X, Y, a.metric).typical(2.0)
        rows.append((factor, *(wrong / s for s in scales), found, a.status, a.relative_gap))
        assert verify(X, Y, a) and found == 300 and a.optimal
    rows[-1]


def test_a_corrupted_certificate_is_rejected():
    C = torch.tensor([[4.0, 1, 3, 9], [2, 0, 5, 8], [3, 2, 2, 7], [9, 3, 8, 6]])
    P, Q = -C, torch.eye(4)
    good = assign(P, Q, metric="inner")
    assert good.optimal and good.objective == 11 and verify(P, Q, good)["gap"] < 1e-9
    for change, says in (
        (dict(index=good.index[[1, 0, 2, 3]]), "objective"),
        (dict(objective=good.objective - 1), "objective"),
        (dict(u=good.u + 0.1, bound=good.bound + 0.4), "prove only"),
        (dict(bound=good.bound + 0.01), "prove only"),
        (dict(v=good.v * 1.5), "prove only"),
        (dict(index=torch.tensor([0, 0, 1, 2])), "one-to-one"),
        (dict(index=torch.tensor([0, 1, 2, -1])), "unmatched"),
        (dict(v=good.v[:3]), "v must be 4"),
        (dict(u=good.u * float("nan")), "u has 4 NaN"),
        (dict(objective=float("nan")), "finite"),
        (dict(scale=good.scale * 2), "random assignment costs"),
        (dict(u=good.u[:, None]), "u must be 4"),
        (dict(index=good.index[[1, 0, 2, 3]], objective=12.0), "it says optimal"),
        (dict(u=good.u + 1e20, v=good.v - 1e20), "prove"),
    ):
        with expect_fail(ValueError, says):
            verify(P, Q, replace(good, **change))
    good
