# Written from nbs/lap/09_search.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.search import (
    Search,
)


import torch
from scipy.optimize import linear_sum_assignment

from saematch.lap.costs import costs_of
from saematch.lap.metric import cost_matrix


def test_the_gap_never_says_less_than_is_missing():
    g = torch.Generator().manual_seed(0)
    P, Q = torch.randn(300, 40, generator=g), torch.randn(350, 40, generator=g)
    cost = cost_matrix(P, Q)
    best = float(cost[linear_sum_assignment(cost.numpy())].sum())
    search = Search()
    s, seen = search.init(costs_of(P, Q)), []
    while s.status is None:
        seen.append((s.stage, len(s.edges.flat), round(s.gap / s.scale, 6)))
        s = search.step(s)
        a = search.result(s)
        assert a.bound <= best * (1 + 1e-9) and best <= a.objective * (1 + 1e-9)
    assert s.status == "optimal" and abs(a.objective - best) < 1e-9 * best
    seen  # stage, edges, gap before it
