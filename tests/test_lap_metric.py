# Written from nbs/lap/01_metric.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.metric import (
    cost_matrix,
    pair_cost,
    random_pair_cost,
)


from torch.testing import assert_close


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
