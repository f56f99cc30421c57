# Written from nbs/lap/05_costs.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.costs import (
    costs_of,
    prepared,
    in_full,
    smaller,
)


import torch
from torch.testing import assert_close

from saematch.lap.int8 import int8_is_exact
from saematch.lap.metric import cost_matrix


def test_tiles_are_lower_bounds_of_the_costs():
    P, Q = torch.randn(300, 200), 3 * torch.randn(400, 200) + 7
    c = prepared(costs_of(P, Q))
    at = c.layout
    tiled = lambda c, **how: torch.cat([at.a[r, None] - z.double() for r, z in c.tiles(-at.b, at.gamma, **how)])
    costs = tiled(c)
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(300), torch.arange(400), indexing="ij"))
    true = c.exact(i, j).view(300, 400)
    room = c.slack(i, j, torch.zeros(400, dtype=torch.float64)).view(300, 400)
    if int8_is_exact():  # the same with 8 bits: lower by at most twice the bound of the rounding error, and never above
        c8 = prepared(costs_of(P, Q, int8=True))
        rounded = tiled(c8, bound=True)
        doubt = c8.products.doubt(i, j).view(300, 400)
        assert (
            (true - rounded >= -1e-6 * room.max()).all()
            and (true - rounded <= 2 * doubt + room).all()
            and (true - rounded).mean() > 0.5 * doubt.mean()
        )
    assert (true - costs >= -1e-6 * room.max()).float().mean() == 1 and (true - costs <= room).all()
    assert_close(true, cost_matrix(P, Q)[at.rows][:, at.cols] * at.unit**2, rtol=1e-12, atol=1e-12)
    f"tile costs lie below the exact ones by {float((true - costs).mean()):.1e} on average, never above"


def test_full_precision_replaces_eight_bits():
    exchanged = []
    if int8_is_exact():
        P, Q = torch.randn(60, 300), torch.randn(50, 300)
        for held in (True, False):
            rough = prepared(costs_of(P, Q, keep=held, int8=True))
            full = in_full(rough)
            assert rough.products.rough and rough.products.held == held and rough.products is not full.products
            assert not full.products.rough and full.products.held == held and full.guard == rough.guard
            assert smaller(full).products is (None if held else full.products)
            assert smaller(full).tile == (full.tile if held else full.tile // 4)
            exchanged.append([type(c.products).__name__ for c in (rough, full)])
    exchanged
