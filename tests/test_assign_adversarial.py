"""Corners in which a certificate was wrong, or no answer came: offsets, threads, denormals, other default types."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from saematch import assign, verify
from saematch.lap.metric import cost_matrix


def rows(n, D, seed, dtype=torch.float64):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("offset", [0, 1e3, 1e5, 1e6])
def test_a_common_offset_does_not_hide_a_lie(offset):
    X, Y = rows(100, 16, 1) + offset, rows(100, 16, 2) + offset
    a = assign(X, Y)
    assert a.optimal and verify(X, Y, a)["gap"] <= 1e-6 * a.scale
    with pytest.raises(ValueError, match="the objective is"):
        verify(X, Y, replace(a, objective=1.01 * a.objective))
    worse = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    paid = float((X - Y[worse]).square().sum())
    with pytest.raises(ValueError, match="it says optimal, but the gap is"):
        verify(X, Y, replace(a, index=worse, objective=paid))


def test_threads_keep_each_others_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        problems = [(rows(n, 64, n, torch.float32), rows(n, 64, n + 1, torch.float32)) for n in range(40, 76)]
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda p: assign(*p), problems))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for (X, Y), a in zip(problems, found):
        assert a.optimal and verify(X, Y, a)["gap"] <= 1e-6 * a.scale


@pytest.mark.parametrize("size", [1e-40, 1e-38, 1e30])
def test_numbers_near_the_ends_of_float32(size):
    X, Y = ((rows(60, 40, seed) * size).float() for seed in (1, 2))
    a = assign(X, Y)
    cost = cost_matrix(X.double() / size, Y.double() / size)
    best = cost.numpy()[linear_sum_assignment(cost.numpy())].sum()
    assert a.optimal and verify(X, Y, a)
    assert cost[torch.arange(60), a.index].sum().item() == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("D", [8, 64])
def test_rows_that_no_float64_holds_together_are_refused(D):
    X, Y = rows(40, D, 1) * 1e-120, rows(40, D, 2) * 1e-120
    Y[:3] = 1e120
    with pytest.raises(ValueError, match="rescale or leave out the extreme rows"):
        assign(X, Y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_default_type_of_the_caller_does_not_matter(dtype):
    X, Y = rows(300, 64, 1, torch.float32), rows(300, 64, 2, torch.float32)
    expected = assign(X, Y)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        a = assign(X, Y)
        verify(X, Y, a)
    finally:
        torch.set_default_dtype(before)
    assert a.optimal and torch.equal(a.index, expected.index)
