# Written from nbs/lap/10_short.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.short import (
    solve,
    short_list,
    ShortSearch,
)


import torch
from fastcore.test import expect_fail
from scipy.optimize import linear_sum_assignment

from saematch.lap.certificate import verify
from saematch.lap.costs import costs_of, prepared
from saematch.lap.search import Search


def test_a_list_gives_the_optimum_of_the_dense_problem():
    g = torch.Generator().manual_seed(0)
    for n, m, k, ties in ((40, 60, 90, False), (60, 40, 300, True), (5, 200, 30, False), (30, 30, 900, True)):
        flat = torch.randperm(n * m, generator=g)[:k]
        gain = torch.randn(k, generator=g, dtype=torch.float64)
        gain = gain.round() if ties else gain
        dense = torch.zeros(n, m + n, dtype=torch.float64)
        dense[flat // m, flat % m] = -gain
        p, q = linear_sum_assignment(dense.clamp(max=0).numpy())
        a = solve(flat // m, flat % m, -gain, (n, m))
        used = a.index[a.index >= 0]
        assert abs(a.objective - dense.clamp(max=0)[p, q].sum()) < 1e-12 * k and a.gap < 1e-11 * k
        assert len(used) == len(used.unique()) and (a.v <= 0).all() and (a.u <= 0).all()
        assert (a.u[flat // m] + a.v[flat % m] <= -gain + 1e-12).all(), "prices hold on every listed pair"


def test_lists_that_make_no_sense_are_refused():
    i, w = torch.tensor([0, 1]), torch.tensor([-1.0, -2.0])
    with expect_fail(ValueError, "1 of cols are outside 0 to 0, the first at 1: 1"):
        solve(i, i, w, (2, 1))
    with expect_fail(ValueError, "1 pairs are listed twice, the first is (0, 1)"):
        solve(i[[0, 0]], i[[1, 1]], w, (2, 2))
    with expect_fail(ValueError, "rows must be int64 and as long as costs"):
        solve(i.float(), i, w, (2, 2))
    with expect_fail(ValueError, "costs has 1 NaN"):
        solve(i, i, w * float("nan") ** torch.tensor([0, 1]), (2, 2))


def test_the_list_and_the_rounds_agree():
    g = torch.Generator().manual_seed(0)
    P, Q = torch.randn(300, 20, generator=g), torch.randn(400, 20, generator=g)
    for metric, reject in (("sqeuclidean", 12.0), ("unsigned", 12.0), ("inner", -10.0), ("sqeuclidean", 0.0)):
        ends = []
        for kind in (ShortSearch, Search):
            c = costs_of(P, Q, metric)
            s = kind(reject * c.layout.unit**2).init(c)
            while s.status is None:
                s = s.task.step(s)
            ends.append(s.task.result(s))
        listed, rounds = ends
        assert verify(P, Q, listed)["relative_gap"] < 1e-9 and listed.optimal
        assert abs(listed.objective - rounds.objective) < 1e-9 * (1 + abs(rounds.objective))
        assert reject == 0.0 or any(h["stage"] == "list" for h in listed.history)


def test_a_long_list_is_left_to_the_rounds():
    g = torch.Generator().manual_seed(0)
    c = prepared(costs_of(torch.randn(300, 20, generator=g), torch.randn(400, 20, generator=g)))
    assert short_list(c, 1e3) is None and len(short_list(c, 0.0)[0]) == 0
