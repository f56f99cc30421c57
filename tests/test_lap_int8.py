# Written from nbs/lap/02_int8.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.int8 import (
    quantize,
    joined,
    whole_products,
    margin,
    int8_is_exact,
    int8_is_fast,
)


import torch
from fastcore.test import expect_fail


def test_the_bound_holds_for_every_pair():
    g = torch.Generator().manual_seed(0)
    for P, Q in (
        (torch.randn(60, 400, generator=g), torch.randn(50, 400, generator=g)),
        (torch.randn(60, 40, generator=g) * 10.0 ** torch.randint(-6, 6, (60, 1), generator=g), torch.zeros(5, 40)),
        (torch.eye(40), torch.randn(50, 40, generator=g).sign() * 127),
    ):
        A, B = quantize(P), quantize(Q)
        (p, e), (q, r) = margin(A, B)
        found = (A.q.double() @ B.q.double().T) * A.unit[:, None].double() * B.unit.double()
        assert ((P.double() @ Q.double().T - found).abs() <= torch.outer(p, q).double() + torch.outer(e, r).double()).all()
        assert (A.norm.double() >= P.double().norm(dim=1)).all() and (
            A.error.double() >= (P.double() - A.q.double() * A.unit[:, None].double()).norm(dim=1)
        ).all()
        assert A.q.abs().max() <= 127


def test_whole_products_are_exact_where_the_machine_says_so():
    P = torch.randint(-127, 128, (70, 1153), generator=torch.Generator().manual_seed(0)).float()
    P[:8] = 127
    P[8:16] = -127
    A = quantize(P)
    if int8_is_exact():
        assert torch.equal(whole_products(A, A).long(), A.q.long() @ A.q.long().T)
        both = joined([A[:20], A[20:]])
        assert torch.equal(both.q, A.q) and torch.equal(both[5:9].unit, A.unit[5:9]) and len(A.without()) == 70
    assert int8_is_exact() or not int8_is_fast()


def test_rows_too_long_are_refused():
    with expect_fail(ValueError, "overflow 32 bits"):
        quantize(torch.zeros(1, 140_000))
