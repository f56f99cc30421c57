# Written from nbs/lap/13_similarities.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.similarities import (
    Similarities,
    numbers_beside,
    beside,
    memory_needed,
)


import torch
from fastcore.test import expect_fail
from torch.nn.functional import normalize

from saematch.ground import UsageError
from saematch.lap.table import unit


def noisy_tables(tables, n, d, noise, seed=0):
    "The same n directions in every table, each with noise of its own, in another order."
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    base = draw(n, d)
    return [normalize(base[torch.randperm(n, generator=g)] + noise * draw(n, d), dim=1) for _ in range(tables)]


def test_bad_tables_are_refused():
    rows, low = noisy_tables(2, 5, 4, noise=0.1), torch.full((2, 2), 0.3)
    with expect_fail(UsageError, "at least one layer"):
        Similarities([], low)
    with expect_fail(UsageError, "rows of one width, these have 4, 3"):
        Similarities([rows[0], rows[1][:, :3]], low)
    with expect_fail(ValueError, "for each pair of 2 layers, not"):
        Similarities(rows, low[:1])
    with expect_fail(ValueError, "4 values, the first at [0, 0]; give a finite number for each pair of layers"):
        Similarities(rows, low * float("nan"))
    with expect_fail(ValueError, "must be symmetric"):
        Similarities(rows, torch.tensor([[0.3, 0.3], [0.4, 0.3]]))
    with expect_fail(ValueError, "rows of layer 1, from 0 on, has 1 NaN"):
        Similarities(
            [rows[0], rows[1].index_put((torch.tensor(2), torch.tensor(2)), torch.tensor(float("nan")).double())], low
        )


def test_listed_and_looked_up_are_the_products():
    rows = [*noisy_tables(2, 20, 12, noise=0.6), noisy_tables(1, 7, 12, noise=0.6)[0]]
    tau = torch.tensor([[0.9, 0.2, 0.1], [0.2, 0.9, 0.4], [0.1, 0.4, 0.9]])
    sims, product = Similarities(rows, tau), torch.cat(rows) @ torch.cat(rows).T
    p, q = (
        (product - tau[sims.layer][:, sims.layer]).where(sims.layer[:, None] < sims.layer, -1).gt(0).nonzero(as_tuple=True)
    )
    assert torch.equal(sims.p, p) and torch.equal(sims.q, q)
    assert torch.allclose(sims.gain, product[p, q] - tau.double()[sims.layer[p], sims.layer[q]])
    p, q = torch.arange(47).repeat_interleave(47), torch.arange(47).repeat(47)
    for _ in range(2):
        assert torch.allclose(sims.look_up(p, q), product.flatten())
    len(sims.p), "listed"


def test_higher_thresholds_share_similarities():
    rows = noisy_tables(3, 20, 12, noise=0.6)
    low, high = torch.full((3, 3), 0.2).double(), torch.full((3, 3), 0.5).double()
    shared, fresh = Similarities(rows, low).above_all(high), Similarities(rows, high)
    assert all(torch.equal(getattr(shared, k), getattr(fresh, k)) for k in ("p", "q", "gain", "thresholds"))
    with expect_fail(ValueError, "are listed above 0.500, not above 0.200: list them anew"):
        fresh.above_all(low)
    len(fresh.p), "of", 3 * 20**2, "pairs are listed"


def test_half_precision_gives_what_its_numbers_give():
    W = [r.bfloat16() for r in noisy_tables(3, 30, 16, noise=0.5)]
    tau = torch.full((3, 3), 0.4)
    lazy, whole = Similarities([unit(w) for w in W], tau), Similarities([normalize(w.float(), dim=1) for w in W], tau)
    assert all(torch.equal(getattr(lazy, k), getattr(whole, k)) for k in ("key", "value", "p", "q", "gain"))
    len(lazy.p), "pairs"


def test_a_killed_pass_goes_on_where_it_was():
    import tempfile
    from pathlib import Path
    from unittest import mock

    import saematch.lap.above as room

    rows, tau = noisy_tables(5, 40, 12, noise=0.6), torch.full((5, 5), 0.4)
    whole, made, counted = Similarities(rows, tau), room.pairs_above, []


    def killed(*a, **k):
        counted.append(1)
        if len(counted) == 4:
            raise KeyboardInterrupt
        return made(*a, **k)


    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(Similarities.list_pairs.__globals__, pairs_above=killed):
        Similarities(rows[:2], tau[:2, :2], work=folder)  # few products: one file
        Similarities(rows[:2], tau[:2, :2], work=folder)
        assert len(counted) == len(list(Path(folder).iterdir())) == 1
        counted.clear()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(room, "pairs_above", killed),
        mock.patch.object(Similarities, "small", 0),
    ):
        with expect_fail(KeyboardInterrupt, ""):
            Similarities(rows, tau, work=folder)
        assert len(list(Path(folder).iterdir())) == 3
        again = Similarities(rows, tau, work=folder)
        assert len(counted) == 4 + 10 - 3, "what was listed is not listed again"
    assert all(torch.equal(getattr(again, k), getattr(whole, k)) for k in ("key", "value", "p", "q", "gain"))
    f"{len(counted)} lists made, one of them twice"


def test_problems_beside_each_other_are_the_same_problems():
    tau = torch.full((3, 3), 0.4)
    many = [Similarities([t[:k] for t in noisy_tables(3, 20, 12, noise=0.6, seed=k)], tau) for k in (20, 7, 13)]
    one, number = beside(many), numbers_beside(many)
    assert torch.equal(torch.cat(number).sort().values, torch.arange(one.count)) and (one.key.diff() > 0).all()
    assert len(one.p) == sum(len(s.p) for s in many) and ((one.p * one.count + one.q).diff() > 0).all()
    for s, at in zip(many, number):
        assert torch.equal(one.layer[at], s.layer)
        p, q = torch.arange(s.count).repeat_interleave(s.count), torch.arange(s.count).repeat(s.count)
        assert torch.allclose(one.look_up(at[p], at[q]), s.look_up(p, q), atol=1e-15)
        here = {(int(at[i]), int(at[j])): float(g) for i, j, g in zip(s.p, s.q, s.gain)}
        assert here.items() <= {(int(i), int(j)): float(g) for i, j, g in zip(one.p, one.q, one.gain)}.items()
    len(one.p), "listed of three problems"


def test_memory_grows_with_tables_and_with_pairs_of_them():
    one = memory_needed([16_384] * 26, 2_304)
    assert memory_needed([16_384] * 26, 2_304, held=False) < one < memory_needed([16_384] * 27, 2_304) < 12 * 2**30
    f"26 tables of 16,384 rows of 2,304 numbers: {one / 2**30:.1f} GiB"
