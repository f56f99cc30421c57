"""Assignments by a short list against SciPy's dense solver: kinds of rows, metrics, both directions; lists alone."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from test_assign_oracle import KINDS, close, costs, descriptors

from saematch import assign
from saematch.lap.short import solve


@pytest.mark.parametrize("metric", ["sqeuclidean", "unsigned", "inner"])
def test_the_list_finds_and_proves_the_optimum(metric):
    listed = 0
    for seed, (kind, (n, m)) in enumerate(itertools.product(KINDS, ((30, 50), (50, 30)))):
        X, Y = descriptors(kind, n, m, (3, 40, 300)[seed % 3], seed)
        reject = float(costs(X, Y, metric).flatten().quantile((0.02, 0.1)[seed % 2]))
        reject = reject if metric == "inner" else max(reject, 0.0)
        a = assign(X, Y, metric=metric, reject=reject)
        close(a, X, Y, metric, reject)
        listed += any(h["stage"] == "list" for h in a.history)
    assert listed > len(KINDS), "lists are used"


def test_nothing_to_gain_leaves_all_unmatched():
    X = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    a = assign(X, -X, metric="inner", reject=-1e6)
    assert (a.index == -1).all() and a.optimal and a.gap == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    share=st.sampled_from((0.0, 0.03, 0.3, 1.0)),
    values=st.sampled_from((1, 3, 10**6)),
    hub=st.booleans(),
    scale=st.sampled_from((1e-20, 1.0, 1e12)),
    reject=st.sampled_from((0.0, 0.5, -0.5)),
    seed=st.integers(0, 10**6),
)
def test_lists_of_all_kinds(n, m, share, values, hub, scale, reject, seed):
    g = torch.Generator().manual_seed(seed)
    listed = torch.rand(n, m, generator=g) < share
    listed[:, 0] |= hub
    i, j = listed.nonzero(as_tuple=True)
    cost = (torch.randint(-values, values + 1, (len(i),), generator=g).double() / values - hub * (j == 0) / 2) * scale
    reject = reject * scale
    dense = torch.full((n, m + n), reject, dtype=torch.float64)
    dense[i, j] = cost
    p, q = linear_sum_assignment(dense.numpy())
    a, size = solve(i, j, cost, (n, m), reject=reject), 1e-12 * scale * (n + m)
    used = (a.index >= 0).nonzero()[:, 0]
    assert abs(a.objective - float(dense[p, q].sum())) <= size and a.gap <= size
    assert len(a.index[used].unique()) == len(used) and listed[used, a.index[used]].all()
    assert (a.v <= 0).all() and (a.u <= reject).all() and (a.u[i] + a.v[j] <= cost + size).all()
