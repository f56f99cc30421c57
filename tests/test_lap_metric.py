# Written from nbs/lap/01_metric.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.metric import (
    METRICS,
    random_pair_cost,
    metric_named,
    gathered_costs,
    pair_cost,
    cost_tiles,
    lowest,
    cost_matrix,
)


from fastcore.test import expect_fail
from torch.testing import assert_close


def test_a_metric_is_known_by_its_name():
    with expect_fail(ValueError, "metric must be sqeuclidean (squared distance), unsigned"):
        metric_named("cosine")
    assert metric_named("inner") is metric_named(metric_named("inner"))
    x, y = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -5.0]])
    {name: metric.pairs(x, y).item() for name, metric in METRICS.items()}


def test_tiles_hold_the_costs_of_their_pairs():
    g = torch.Generator().manual_seed(0)
    X, Y = (torch.randn(n, 5, generator=g) + 3 for n in (7, 4))
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(7), torch.arange(4), indexing="ij"))
    v = torch.randn(4, dtype=torch.float64, generator=g)
    off = {}
    for name, metric in METRICS.items():
        true = gathered_costs(X, Y, i, j, name).view(7, 4)
        tiles = list(cost_tiles(X, Y, name, tile=12))
        assert [len(rows) for rows, *_ in tiles] == [3, 3, 1]
        off[name] = float((torch.cat([C for _, C, *_ in tiles]) - true).abs().max())
        assert_close(lowest(X, Y, v, name), (true - v).amin(1), rtol=1e-12, atol=1e-12)
        if name != "unsigned":
            assert_close(metric.chance(X, Y), true.mean().item())
    assert max(off.values()) < 1e-12
    off


def test_distances_agree_with_the_definition():
    X, Y = (torch.randn(n, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) + 1000 for n in (7, 4))
    by_hand = torch.stack([torch.stack([((x - y) ** 2).sum() for y in Y]) for x in X])
    assert_close(cost_matrix(X, Y), by_hand, rtol=1e-9, atol=1e-9)
    index = torch.tensor([2, -1, 0, 1, -1, 3, -1])
    got = pair_cost(X, Y, index)
    assert got.isnan().tolist() == (index < 0).tolist()
    assert_close(got[index >= 0], by_hand[index >= 0, index[index >= 0]])
    got


def test_the_mean_over_all_pairs():
    X, Y = (torch.randn(n, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) + 3 for n in (7, 4))
    assert_close(random_pair_cost(X, Y), cost_matrix(X, Y).mean().item())
    random_pair_cost(X, Y)
