# Written from nbs/lap/03_tiles.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.tiles import (
    Layout,
    Stop,
    Meter,
    sweep,
    matmul_precision,
    Fresh,
    Computed,
    Kept,
    keep,
    top_k,
)


from torch.testing import assert_close

from saematch.lap.metric import METRICS


def test_the_precision_holds_until_the_last_thread_has_left():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        seen = []
        first, second = matmul_precision(False), matmul_precision(False)
        first.__enter__(), second.__enter__()
        first.__exit__(None, None, None)
        seen.append(torch.get_float32_matmul_precision())
        second.__exit__(None, None, None)
        seen.append(torch.get_float32_matmul_precision())
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest", "medium"]
    seen


def test_kept_and_computed_products_are_the_same():
    g = torch.Generator().manual_seed(0)
    P, Q = torch.randn(200, 48, generator=g), torch.randn(150, 48, generator=g) + 1
    rows, off = torch.arange(3, 90), {}
    for name, metric in METRICS.items():
        at = Layout(P, Q, metric)
        tiles = {}
        for kind in (Fresh(at), Computed(at), keep(at, Meter())):
            make = kind.filler(at.b, -at.gamma, rows, slice(0, at.m), ties=True)
            parts = sweep(at, rows, at.m, make, tile=2**10, meter=Meter())
            tiles[type(kind).__name__] = torch.cat([z.clone() for _, z in parts])
        assert_close(tiles["Computed"], tiles["Fresh"], rtol=0, atol=1e-5)
        assert_close(tiles["Computed"], tiles["Kept"], rtol=0, atol=1e-4)
        off[name] = float((tiles["Computed"] - tiles["Kept"]).abs().max())
    off


def test_top_k_is_topk():
    z = torch.randn(7, 9000, generator=torch.Generator().manual_seed(0))
    assert_close(top_k(z, 16)[0], z.topk(16, 1).values, rtol=0, atol=0)
    assert_close(z.gather(1, top_k(z, 16)[1]), z.topk(16, 1).values, rtol=0, atol=0)
    top_k(z, 3)[1]


def test_a_sweep_stops_in_time_and_counts_passes():
    meter, shown = Meter(), []
    meter.show = shown.append
    at = Layout(torch.randn(100, 40), torch.randn(80, 40), METRICS["inner"])
    make = Computed(at).filler(at.b, 1.0, slice(0, 100), slice(0, 80))
    tiles = [z.shape for _, z in sweep(at, slice(0, 100), 80, make, tile=1600, meter=meter)]
    assert tiles == [(20, 80)] * 5 and abs(meter.passes - 1) < 1e-12 and len(shown) == 5
    meter.deadline = 0.0
    try:
        next(sweep(at, slice(0, 100), 80, make, tile=1600, meter=meter))
        stopped = False
    except Stop:
        stopped = True
    assert stopped
    meter.passes
