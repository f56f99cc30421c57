# Written from nbs/lap/03_assign.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.assign import (
    verify,
    Costs,
    top_k,
    assign,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from saematch.lap.int8 import int8_is_exact
from saematch.lap.metric import cost_matrix


def test_top_k_is_topk_and_tiles_are_lower_bounds_of_the_costs():
    z = torch.randn(7, 9000, generator=torch.Generator().manual_seed(0))
    assert_close(top_k(z, 16)[0], z.topk(16, 1).values, rtol=0, atol=0)
    assert_close(z.gather(1, top_k(z, 16)[1]), z.topk(16, 1).values, rtol=0, atol=0)
    P, Q = torch.randn(300, 200), 3 * torch.randn(400, 200) + 7
    c = Costs(P, Q)
    costs = torch.cat([c.a[r, None] - z for r, z in ((r, z.double()) for r, z in c.tiles(-c.b, c.gamma))])
    true = c.exact(*(t.flatten() for t in torch.meshgrid(torch.arange(300), torch.arange(400), indexing="ij"))).view(
        300, 400
    )
    i, j = torch.meshgrid(torch.arange(300), torch.arange(400), indexing="ij")
    room = c.slack(i.flatten(), j.flatten(), torch.zeros(400, dtype=torch.float64)).view(300, 400)
    if int8_is_exact():  # the same with 8 bits: lower by at most twice the bound of the rounding error, and never above
        c8 = Costs(P, Q, int8=True)
        rounded = torch.cat(
            [c8.a[r, None] - z for r, z in ((r, z.double()) for r, z in c8.tiles(-c8.b, c8.gamma, bound=True))]
        )
        doubt = c8.doubt(i.flatten(), j.flatten()).view(300, 400)
        assert (
            (true - rounded >= -1e-6 * room.max()).all()
            and (true - rounded <= 2 * doubt + room).all()
            and (true - rounded).mean() > 0.5 * doubt.mean()
        )
    assert (true - costs >= -1e-6 * room.max()).float().mean() == 1 and (true - costs <= room).all()
    assert_close(true, cost_matrix(P, Q)[c.rows][:, c.cols] * c.unit**2, rtol=1e-12, atol=1e-12)
    f"tile costs lie below the exact ones by {float((true - costs).mean()):.1e} on average, never above"


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


def test_a_corrupted_certificate_is_rejected():
    C = torch.tensor([[4.0, 1, 3, 9], [2, 0, 5, 8], [3, 2, 2, 7], [9, 3, 8, 6]])
    P, Q = -C, torch.eye(4)
    good = assign(P, Q, metric="inner")
    assert good.optimal and good.objective == 11 and verify(P, Q, good)["gap"] < 1e-9
    for change, says in (
        (dict(index=good.index[[1, 0, 2, 3]]), "objective"),
        (dict(objective=good.objective - 1), "objective"),
        (dict(u=good.u + 0.1, bound=good.bound + 0.4), "prove only"),
        (dict(bound=good.bound + 0.01), "prove only"),
        (dict(v=good.v * 1.5), "prove only"),
        (dict(index=torch.tensor([0, 0, 1, 2])), "one-to-one"),
        (dict(index=torch.tensor([0, 1, 2, -1])), "unmatched"),
        (dict(v=good.v[:3]), "v must be 4"),
        (dict(u=good.u * float("nan")), "u has 4 NaN"),
        (dict(objective=float("nan")), "finite"),
        (dict(scale=good.scale * 2), "random assignment costs"),
        (dict(u=good.u[:, None]), "u must be 4"),
        (dict(index=good.index[[1, 0, 2, 3]], objective=12.0), "it says optimal"),
        (dict(u=good.u + 1e20, v=good.v - 1e20), "prove"),
    ):
        with expect_fail(ValueError, says):
            verify(P, Q, replace(good, **change))
    good


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
