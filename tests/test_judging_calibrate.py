# Written from nbs/judging/04_calibrate.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.calibrate import (
    p_values,
    benjamini_hochberg,
    calibrate,
)


from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.judging.nulls import NULLS, null, planted_from, precision_recall
from saematch.judging.scores import SCORES
from saematch.matching.match import match
from saematch.saes.sae import permute
from saematch.saes.toys import planted, random_sae


def test_p_values_count_the_pair_itself():
    p = p_values([5.0, 2.0, 0.0, float("nan")], [1.0, 2.0, 3.0, 4.0, float("nan")])
    assert_close(p, torch.tensor([1 / 5, 4 / 5, 5 / 5, float("nan")], dtype=torch.float64), equal_nan=True)
    g = torch.Generator().manual_seed(0)
    same = p_values(torch.randn(5000, generator=g), torch.randn(5000, generator=g))
    assert abs((same <= 0.05).double().mean() - 0.05) < 0.01, "uniform if there is nothing to find"
    p


def test_adjusted_by_hand():
    p = torch.tensor([0.01, 0.04, 0.03, 0.5, float("nan")], dtype=torch.float64)
    # sorted: 0.01 * 4/1, 0.03 * 4/2, 0.04 * 4/3, 0.5; then the smallest of a value and all after it
    assert_close(
        benjamini_hochberg(p),
        torch.tensor([0.04, 0.16 / 3, 0.16 / 3, 0.5, float("nan")], dtype=torch.float64),
        equal_nan=True,
    )
    assert (benjamini_hochberg(p, "by")[:4] >= benjamini_hochberg(p)[:4]).all()
    assert benjamini_hochberg(torch.full((3,), float("nan"))).isnan().all()
    with expect_fail(ValueError, "between 0 and 1"):
        benjamini_hochberg(torch.tensor([0.5, 1.5]))
    benjamini_hochberg(p)


def test_calibrate_from_end_to_end():
    toy = random_sae(24, 300, seed=0)
    b, truth = planted(toy, decoder_noise=0.8, encoder_noise=0.8, replaced=0.4, seed=1)
    c = calibrate(toy, b, null=("rotation", "signs"), repeats=2)
    kept, everything = precision_recall(c.match().index, truth), precision_recall(c.given.index, truth)
    assert everything["fdp"] > 0.35 and kept["fdp"] <= 0.1 and kept["recall"] > 0.8
    assert len(c.nulls["signs"]) == 600 and torch.equal(c.real(), c.real("rotation") & c.real("signs"))
    assert torch.equal(c.match().matched, c.real()) and c.match().cost.isnan().equal(~c.real())
    assert (
        set(c.frame()) >= {"latent_a", "cosine", "p_signs", "adjusted_rotation", "real"}
        and "called real" in c._repr_markdown_()
    )
    same = calibrate(toy, b, c.given, null=("rotation", "signs"), repeats=2)
    assert torch.equal(same.p("signs"), c.p("signs")), "seeded"
    with expect_fail(ValueError, "a null must be one of"):
        calibrate(toy, b, null="noise")
    with expect_fail(ValueError, "a whole number from 1"):
        calibrate(toy, b, repeats=0)
    with expect_fail(ValueError, "between 0 and 1"):
        calibrate(toy, b, q=1)
    with expect_fail(ValueError, "a match of another pair"):
        calibrate(toy, random_sae(24, 200), c.given)
    with expect_fail(ValueError, "the slack needs the prices"):
        calibrate(toy, b, method="greedy", score="slack")
    dict(everything=everything, kept=kept)


def test_pairs_is_the_null_of_a_match_that_did_not_search():
    toy = random_sae(24, 300, seed=0)
    b, truth = planted(toy, decoder_noise=0.8, encoder_noise=0.8, seed=1)
    in_order = permute(b, truth.argsort())
    aligned, shuffled = (calibrate(toy, x, method="identity", null="pairs") for x in (in_order, b))
    assert aligned.real().double().mean() > 0.9 and shuffled.real().double().mean() < 0.02
    searched = calibrate(toy, null(b, "rotation"), null="pairs").real().double().mean().item()
    assert searched > 0.5, "the best of 300 beats a random pair, related or not"
    dict(
        aligned=aligned.real().double().mean().item(),
        shuffled=shuffled.real().double().mean().item(),
        searched_among_nothing=searched,
    )
