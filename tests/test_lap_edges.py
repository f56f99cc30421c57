# Written from nbs/lap/07_edges.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.edges import (
    Edges,
    solve_sparse,
    settle,
    on_edges,
)


import torch
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from saematch.lap.costs import costs_of, prepared
from saematch.lap.tiles import Meter


def test_edges_keep_exact_costs_and_become_exact_where_it_matters():
    P, Q = torch.randn(50, 40), torch.randn(60, 40)
    c = prepared(costs_of(P, Q))
    edges, i, j = Edges(c.layout), torch.arange(50), torch.arange(50)
    near = c.exact(i, j) + 1e-7  # as a tile might say
    edges.add(i, j, near, i[:5], j[:5], c.exact(i[:5], j[:5]))
    edges.add(i, j + 10, c.exact(i, j + 10) + 100)
    edges.add(i, j, near + 1)  # known already
    assert len(edges.flat) == 100 and edges.exact.sum() == 5 and (edges.flat.diff() > 0).all()
    *_, w, u = edges.reduced(c, torch.zeros(60, dtype=torch.float64))
    assert_close(u, c.exact(i, j), rtol=0, atol=0)  # the cheapest of each row is exact now, the expensive ones need not be
    assert edges.exact.sum() == 50 and w.min() == 0
    edges.keep_exact()
    assert len(edges.flat) == 50 and torch.equal(edges.look_up(i, j), c.exact(i, j))


def test_the_sparse_solver_leaves_rows_out_where_that_is_cheaper():
    C = torch.tensor([[4, 1, 3, 9], [2, 0, 5, 8], [3, 2, 2, 7], [9, 3, 8, 6]])
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
    assert solve_sparse(4, 4, i, j, C.flatten()).tolist() == linear_sum_assignment(C.numpy())[1].tolist()
    free = solve_sparse(4, 4, i, j, C.flatten(), stay=torch.full((4,), 4), spare=torch.zeros(4))
    assert (free >= 0).sum() == 3 and free[3] == -1  # the last row's partner would cost 6
    free


def test_both_kinds_of_sweeps_settle_at_the_same_prices():
    g = torch.Generator().manual_seed(0)
    source, target = (torch.randint(40, (300,), generator=g) for _ in range(2))
    height = torch.randint(50, (40,), generator=g)
    length = (torch.randint(100, (300,), generator=g) - 5 + height[target] - height[source]).clamp(min=-30).double()
    length[length < 0] += 30 * (target[length < 0] <= source[length < 0])  # no circle of negative length
    p, q = (settle(40, source, target, length, dense, Meter()) for dense in (True, False))
    assert torch.equal(p, q) and (p <= 0).all() and (p[target] <= p[source] + length).all() and (p < 0).any()
    p[:8]


def test_prices_on_all_edges_prove_the_assignment():
    P, Q = torch.randn(40, 6, dtype=torch.float64), torch.randn(40, 6, dtype=torch.float64)
    c = prepared(costs_of(P, Q))
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij"))
    edges = Edges(c.layout)
    edges.add(i, j, c.exact(i, j))
    v = torch.zeros(40, dtype=torch.float64)
    i, j, w, u = edges.reduced(c, v)
    mate, v = on_edges(c, i, j, w, torch.ones_like(i, dtype=torch.bool), v, u)
    *_, u = edges.reduced(c, v, mate)
    paid, bound = edges.paid(mate), float(u.sum() + v.sum())
    cost = c.exact(i, j).view(40, 40)
    assert abs(paid - cost[linear_sum_assignment(cost.numpy())].sum()) < 1e-9 and abs(paid - bound) < 1e-6 * paid
    {"assignment": paid, "bound of its prices": bound}
