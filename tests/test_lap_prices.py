# Written from nbs/lap/06_prices.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.prices import (
    Groups,
    first_prices,
)


import torch
from torch.testing import assert_close

from saematch.lap.costs import costs_of, prepared


def test_groups_find_the_smallest_of_each_column_within_each_group():
    z = torch.rand(640, 30, generator=torch.Generator().manual_seed(0))
    groups = Groups(640, 30, z)
    groups.add(0, z[:250].clone())
    groups.add(250, z[250:].clone())
    i, j, value = groups.top(64)
    best = torch.zeros(64, 30, dtype=torch.float64).index_put_((i // 10, j), value)
    assert len(i) == 64 * 30 and torch.equal(z.view(64, 10, 30).argmin(1)[i // 10, j], i % 10)
    assert_close(best, z.view(64, 10, 30).amin(1).double(), rtol=1e-5, atol=0)
    i[:5], j[:5], value[:5]


def test_prices_on_a_line_prove_the_sorted_pairing():
    g = torch.Generator().manual_seed(0)
    c = costs_of(torch.randn(200, 1, generator=g), torch.randn(200, 1, generator=g))
    at = c.layout
    v, _ = first_prices(c)  # no pass over the pairs was needed
    x, y = at.double(at.X, at.rows), at.double(at.Y, at.cols)
    bound = float(((x - y.T).square() - v).amin(1).sum() + v.sum())
    paid = float((x.sort(0).values - y.sort(0).values).square().sum())
    assert abs(bound - paid) < 1e-9 * paid
    bound, paid
