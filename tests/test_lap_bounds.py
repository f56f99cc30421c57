# Written from nbs/lap/08_bounds.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.bounds import (
    list_cheap,
    price_block,
    price_double,
)


import torch

from saematch.lap.costs import costs_of, prepared
from saematch.lap.metric import METRICS


def test_every_entry_is_listed_or_below_what_is_said_of_the_others():
    z = torch.randn(20, 1000, generator=torch.Generator().manual_seed(0))
    z[0] = 3.0  # a crowd
    price = torch.full((20,), 2.5, dtype=torch.float64)
    p, q, value, least = list_cheap(z, price, spare=0.5, k=8, most=100)
    others = z.clone()
    others[p, q] = -torch.inf
    assert torch.equal(value, z[p, q]) and (others.amax(1) <= least).all()
    listed = p.bincount()
    assert listed[0] == 8 and (listed >= (z > 2.5).sum(1))[1:].all() and (listed <= (z > 2.0).sum(1))[1:].all()
    listed


def test_both_prices_hold_for_all_pairs():
    g = torch.Generator().manual_seed(0)
    P, Q = torch.randn(300, 200, generator=g), torch.randn(400, 200, generator=g)
    below = {}
    for name in METRICS:
        c = prepared(costs_of(P, Q, name, int8=False))
        i, j = (t.flatten() for t in torch.meshgrid(torch.arange(300), torch.arange(400), indexing="ij"))
        v = torch.linspace(-0.1, 0.1, 400, dtype=torch.float64)
        rest = c.exact(i, j).view(300, 400) - v
        least = rest.amin(1)
        low, i, j, _ = price_block(c, v, least + 1e-6)
        assert len(i) >= 300 and (rest.index_put((i, j), torch.tensor(torch.inf).double()) >= low[:, None]).all()
        exact, p, q = price_double(c, v, torch.arange(300))
        others = rest.index_put((p, q), torch.tensor(torch.inf).double()).amin(1)
        assert (exact <= others).all() and torch.equal(q.view(300, 16)[:, 0], rest.argmin(1))
        below[name] = {"pairs a row, float32": len(i) / 300, "too low by, float64": float((others - exact).mean())}
    assert all(b["too low by, float64"] < 1e-12 for b in below.values())
