# Written from nbs/lap/11_assign.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.assign import (
    assign,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail
from scipy.optimize import linear_sum_assignment

from saematch.lap.certificate import verify


def test_bad_input_is_named():
    P, Q = torch.ones(3, 2), torch.ones(4, 2)
    with expect_fail(ValueError, "X has 6 NaN"):
        assign(P * float("nan"), Q)
    with expect_fail(ValueError, "rows of X have 2 numbers, rows of Y have 3"):
        assign(P, torch.ones(4, 3))
    with expect_fail(ValueError, "at least one row"):
        assign(P[:0], Q)
    with expect_fail(TypeError, "X must be a floating-point torch tensor [rows, D], it is ndarray"):
        assign(P.numpy(), Q)
    with expect_fail(ValueError, "reject is the cost of leaving a row unmatched"):
        assign(P, Q, reject=float("nan"))
    with expect_fail(ValueError, "int8 must be True, False or None"):
        assign(P, Q, int8="fast")


def test_assign_equals_the_dense_solver_and_its_certificates_hold():
    g = torch.Generator().manual_seed(0)
    A, B = torch.randn(500, 64, generator=g), torch.randn(600, 64, generator=g)
    dead_A, dead_B = A.clone(), B.clone()
    dead_A[100:], dead_B[:300] = 0, 0
    for P, Q, kw in (
        (A, B[:500], {}),
        (A, B, {}),
        (B, A, {}),
        (dead_A, dead_B, {}),
        (A, B, dict(reject=100.0)),
        (A, B, dict(metric="inner")),
    ):
        a = assign(P, Q, **kw)
        P, Q = P.double(), Q.double()
        costs = -(P @ Q.T) if kw.get("metric") == "inner" else (P[:, None] - Q).square().sum(2)
        if "reject" in kw:
            costs = torch.cat([costs, torch.full((len(P), len(P)), kw["reject"])], 1)
        i, j = linear_sum_assignment(costs.numpy())
        assert a.optimal and abs(a.objective - costs[i, j].sum()) < 1e-9 * costs[i, j].abs().sum()
        assert verify(P, Q, a)["relative_gap"] < 1e-9


@pytest.mark.gpu
def test_a_gpu_gives_the_optimum_and_its_certificate_holds():
    g = torch.Generator().manual_seed(0)
    cases = (
        (3000, 3000, 600, {}),
        (2000, 2500, 100, {}),
        (2000, 2500, 100, dict(reject=150.0)),
        (3000, 3000, 2, {}),
        (5000, 5000, 300, dict(keep=False)),
    )
    for n, m, D, kw in cases if torch.cuda.is_available() else ():
        P, Q = torch.randn(n, D, generator=g), torch.randn(m, D, generator=g)
        P[: n // 4], Q[: n // 3] = 0, 0
        cpu, gpu = assign(P, Q, **kw), assign(P.cuda(), Q.cuda(), **kw)
        assert gpu.optimal and gpu.index.is_cuda and abs(gpu.objective - cpu.objective) < 1e-8 * cpu.objective
        assert verify(P.cuda(), Q.cuda(), gpu)["relative_gap"] < 1e-8 and verify(
            P, Q, replace(gpu, index=gpu.index.cpu(), u=gpu.u.cpu(), v=gpu.v.cpu())
        )
