# Written from nbs/lap/12_above.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.above import (
    pairs_above,
    once,
    pairs_kept,
)


import torch
from fastcore.test import expect_fail
from torch.nn.functional import normalize

from saematch.ground import UsageError


def unit_rows(n, d, seed=0):
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_list_is_that_of_all_products():
    for n, m, d, kind in (
        (70, 130, 12, torch.float32),
        (40, 7, 3, torch.float64),
        (200, 300, 40, torch.bfloat16),
        (0, 5, 4, torch.float32),
    ):
        X, Y = (unit_rows(k, d, seed).to(kind) for seed, k in enumerate((n, m)))
        product = X.double() @ Y.double().T
        for threshold in (0.0, 0.3, float(product.max()) if n else 1.0):
            for tile in (None, 100, *[1] * (n * m < 1000)):
                i, j, value = pairs_above(X, Y, threshold, tile)
                p, q = (product > threshold + 1e-12).nonzero(as_tuple=True)
                assert set(zip(p.tolist(), q.tolist())) <= set(zip(i.tolist(), j.tolist()))
                assert (value > threshold).all() and torch.allclose(value, product[i, j], atol=1e-12)
                assert ((i * m + j).diff() > 0).all(), "in order, each once"
    "every pair, and no other"


def test_pairs_at_the_threshold_are_decided_in_float64():
    x, noise = unit_rows(1, 300), unit_rows(400, 300, seed=1)
    X, Y = normalize(x + 2e-3 * noise[:200], dim=1), normalize(x + 2e-3 * noise[200:], dim=1)
    product = X.double() @ Y.double().T
    threshold = float(product.median())
    i, j, _ = pairs_above(X, Y, threshold)
    right = product > threshold + 1e-14
    single = X @ Y.T > threshold
    assert len(i) == int(right.sum()) and right[i, j].all()
    f"{int((single != right).sum())} of {right.numel():,} pairs decided wrongly by float32 alone, by the list 0"


def test_tables_that_cannot_be_compared_are_refused():
    X = unit_rows(5, 4)
    with expect_fail(UsageError, "rows of one width are compared"):
        pairs_above(X, X[:, :3], 0.1)
    for bad in (float("nan"), float("inf")):
        with expect_fail(ValueError, f"threshold must be a finite number, not {bad}"):
            pairs_above(X, X, bad)
    with expect_fail(ValueError, "Y has 1 NaN"):
        pairs_above(
            X,
            X.clone()
            .index_fill(1, torch.tensor(2), 0)
            .index_put((torch.tensor(1), torch.tensor(1)), torch.tensor(float("nan"))),
            0.1,
        )


def test_each_table_is_asked_where_it_lies():
    from unittest import mock

    import saematch.lap.above as room
    from saematch.lap.table import Made

    rows, asked = unit_rows(6, 4), []
    X, Y = (Made(rows.shape, lambda at: rows[at], device) for device in ("meta", "cpu"))  # "meta": some other device


    def costs(X, Y, i, j, metric):
        asked.append((i.device.type, j.device.type))
        return torch.zeros(len(i))


    with mock.patch.object(room, "gathered_costs", costs):
        room.pairs_above(X, Y, 0.1)
    assert asked == [("meta", "cpu")]


def test_a_list_is_made_once_and_a_damaged_one_again():
    import tempfile
    import warnings
    from pathlib import Path
    from unittest import mock

    import saematch.lap.above as room

    X, Y = unit_rows(60, 10), unit_rows(80, 10, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        first = pairs_kept(folder, X, Y, 0.4)
        assert all(torch.equal(a, b) for a, b in zip(first, pairs_above(X, Y, 0.4)))
        with mock.patch.object(room, "pairs_above", side_effect=AssertionError("made again")):
            assert all(torch.equal(a, b) for a, b in zip(first, room.pairs_kept(folder, X, Y, 0.4)))
        pairs_kept(folder, X, Y, 0.5), pairs_kept(folder, X.neg(), Y, 0.4)
        files = sorted(Path(folder).iterdir())
        assert len(files) == 3, "other thresholds and other rows have files of their own"
        for path in files:
            data = bytearray(path.read_bytes())
            data[-3] ^= 1
            path.write_bytes(data)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            again = pairs_kept(folder, X, Y, 0.4)
        assert all(torch.equal(a, b) for a, b in zip(first, again)) and "is made again" in str(said[0].message)
    len(first[0]), "pairs"
