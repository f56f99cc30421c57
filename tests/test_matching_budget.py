# Written from nbs/matching/11_budget.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.budget import (
    shared_out,
    budgeted,
)


from itertools import product

import torch
from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.matching.relations import relations
from saematch.saes.gauge import fold
from saematch.saes.toys import planted, random_sae


def test_the_largest_gains_are_the_best_way_to_spend():
    g = torch.Generator().manual_seed(0)
    gain = torch.rand(4, 3, generator=g, dtype=torch.float64).sort(1, descending=True).values
    worth = lambda counts: sum(float(gain[i, :c].sum()) for i, c in enumerate(counts))
    for total in range(13):
        counts = shared_out(gain, total).tolist()
        best = max(worth(c) for c in product(range(4), repeat=4) if sum(c) == total)
        assert sum(counts) == total and abs(worth(counts) - best) < 1e-12


def test_equal_counts_are_the_relations_and_scale_changes_nothing():
    a = random_sae(24, 60, seed=0)
    b, truth = planted(a, decoder_noise=1.0, encoder_noise=1.0, seed=1)
    one, many = relations(a, b, k=2), budgeted(a, b, entries=3, most=2)  # no latent can get more: all are equal
    assert_close(one.rows(), many.rows())
    r, s = budgeted(a, b, entries=4), budgeted(fold(a), b, entries=4)
    assert (r.index == s.index).all() and r.entries <= 4
    assert_close(r.rows() * a.threshold[:, None], s.rows())
    count = (r.index >= 0).sum(1)
    assert count.min() < 3 < count.max()


def test_the_common_direction_is_kept_where_it_pays():
    a, b = random_sae(24, 60, seed=0), random_sae(24, 64, seed=1)
    never, some, always = (budgeted(a, b, entries=4, coherent=c) for c in (0, 10, 1e9))
    assert (never.common == 0).all() and (always.common != 0).all() and 0 < (some.common != 0).sum() < 60
    for r in (never, some, always):
        assert abs(r.entries - 4) < 1e-12 and abs(float((r.index >= 0).sum() + (r.common != 0).sum()) - 240) == 0
    short = ((a.W_dec - some.rows()) @ some.direction).abs()
    assert short[some.common != 0].max() < 1e-6 < short[some.common == 0].min()


def test_priorities_steer_the_budget():
    a, b = random_sae(12, 20, seed=0), random_sae(12, 24, seed=1)
    first = torch.zeros(20, dtype=torch.float64).index_fill(0, torch.arange(5), 1)
    count = (budgeted(a, b, entries=2, priority=first).index >= 0).sum(1)
    assert (count[5:] == 0).all() and count[:5].sum() == 20
    with expect_fail(ValueError, "entries is a whole number from 2"):
        budgeted(a, b, entries=1)
    for bad in (0, "3", True, 2.0):
        with expect_fail(ValueError, "most is the number of successors a latent may have, a whole number from 1, not"):
            budgeted(a, b, most=bad)
    for bad in (float("nan"), "much"):
        with expect_fail(ValueError, "coherent says how many times an error counts"):
            budgeted(a, b, coherent=bad)
    with expect_fail(TypeError, "priority must be a tensor of 20 numbers, not list"):
        budgeted(a, b, priority=[1.0] * 20)
    with expect_fail(ValueError, "2 priorities are negative or not finite, the first of latent 3"):
        budgeted(a, b, priority=first.index_fill(0, torch.tensor([3, 7]), float("nan")))
    with expect_fail(ValueError, "give a number for each of 20 latents"):
        budgeted(a, b, priority=first[:3])
