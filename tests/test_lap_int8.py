# Written from nbs/lap/04_int8.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.int8 import (
    quantize,
    joined,
    whole_products,
    margin,
    int8_is_exact,
    int8_is_fast,
    in_int8,
    keep_int8,
)


import torch
from fastcore.test import expect_fail

from saematch.lap.metric import METRICS
from saematch.lap.tiles import Layout, Meter, sweep


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


def test_tiles_of_8_bits_are_too_low_by_no_more_than_they_say():
    g = torch.Generator().manual_seed(0)
    P, Q = torch.randn(120, 300, generator=g), torch.randn(90, 300, generator=g)
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(120), torch.arange(90), indexing="ij"))
    low = {}
    for name, metric in METRICS.items() if int8_is_exact() else ():
        at = Layout(P, Q, metric)
        true, rough = at.exact(i, j).view(120, 90), in_int8(at)
        for products in (rough, keep_int8(rough, 2**12, Meter(), False)):
            make = products.filler(-at.b, at.gamma, slice(0, 120), slice(0, 90), bound=True)
            z = torch.cat([z.double() for _, z in sweep(at, slice(0, 120), 90, make, 2**12, Meter())])
            off, doubt = true - (at.a[:, None] - z), products.doubt(i, j).view(120, 90)
            assert (off >= -1e-6).all() and (off <= 2 * doubt + 1e-4).all() and off.mean() > 0.5 * doubt.mean()
            low[name, type(products).__name__] = float(off.mean())
    low
