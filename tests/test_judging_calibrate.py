# Written from nbs/judging/03_calibrate.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.calibrate import (
    pair_scores,
    null,
    p_values,
    benjamini_hochberg,
    calibrate,
    planted_from,
    precision_recall,
)


from dataclasses import replace

import numpy as np
import pandas as pd
from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.lap.metric import cost_matrix
from saematch.matching.descriptors import descriptors
from saematch.matching.match import Match, match
from saematch.saes.sae import permute
from saematch.saes.toys import planted, random_sae


def test_scores_are_those_of_the_whole_matrix():
    a = random_sae(8, 40, seed=0)
    b = planted(a, decoder_noise=1.5, encoder_noise=1.5, seed=1).sae
    m = match(a, b)
    s = pair_scores(a, b, m, tile=100)  # tiles of 2 rows
    C = cost_matrix(*descriptors(a, b)).numpy()
    for i, j in enumerate(m.index.tolist()):
        row, column = np.delete(C[i], j), np.delete(C[:, j], i)
        assert (
            abs(s.distance[i] - C[i, j]) < 1e-9
            and s.rank_row[i] == (row < C[i, j]).sum()
            and s.rank_column[i] == (column < C[i, j]).sum()
        )
        assert abs(s.margin[i] - (min(row.min(), column.min()) - C[i, j])) < 1e-9
    with expect_fail(ValueError, "a match of another pair"):
        pair_scores(a, random_sae(8, 41), m)
    with expect_fail(ValueError, "40 pairs cost other than the match says"):
        pair_scores(a, random_sae(8, 40, seed=5), m)
    s.head()


def test_slack_is_a_lower_bound_on_what_the_pair_is_worth():
    from scipy.optimize import linear_sum_assignment

    a = random_sae(16, 120, seed=0)
    b = planted(a, decoder_noise=1.5, encoder_noise=1.5, replaced=0.2, seed=1).sae
    m, C = match(a, b), cost_matrix(*descriptors(a, b)).numpy()
    s, worth = pair_scores(a, b, m), []
    for i, j in enumerate(m.index.tolist()):
        forbidden = C.copy()
        forbidden[i, j] = 1e6
        worth.append(forbidden[linear_sum_assignment(forbidden)].sum() - m.objective)
    worth = pd.Series(worth)
    assert (s.slack <= worth + 1e-9).all() and (s.slack >= 0).all() and (s.slack > 0.5 * worth).mean() > 0.5
    dict(
        share_of_the_worth_that_slack_proves=(s.slack / worth).median(),
        rank_correlation=worth.corr(s.slack, method="spearman"),
        rank_correlation_of_margin=worth.corr(s.margin, method="spearman"),
    )


def test_a_null_that_the_method_can_undo_is_no_null():
    a = random_sae(8, 40, seed=0)
    b = planted(a, seed=1).sae
    shuffled = permute(b, torch.randperm(40, generator=torch.Generator().manual_seed(0)))
    assert_close(match(a, shuffled).cost, match(a, b).cost)


def test_orthogonal_nulls_compute_the_same_function_elsewhere():
    b = random_sae(12, 50, seed=3, apply_b_dec_to_input=True)
    x = torch.randn(20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for kind in ("rotation", "coordinates", "signs"):
        b0 = null(b, kind, seed=1)
        Q = torch.linalg.pinv(b.W_dec) @ b0.W_dec
        assert_close(Q @ Q.T, torch.eye(12, dtype=torch.float64))
        assert_close(b0.encode(x @ Q), b.encode(x)), assert_close(b0.reconstruct(x @ Q), b.reconstruct(x) @ Q)
        assert torch.equal(b0.W_dec, null(b, kind, seed=1).W_dec) and not torch.equal(b0.W_dec, null(b, kind, seed=2).W_dec)
    b0 = null(b, "latents", seed=1)
    assert_close(b0.W_dec.norm(dim=1), b.W_dec.norm(dim=1)), assert_close(b0.W_enc.norm(dim=0), b.W_enc.norm(dim=0))
    with expect_fail(ValueError, "the null must be one of rotation"):
        null(b, "noise")


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


def test_planted_from_knows_its_truth():
    a, b, truth = planted_from(random_sae(16, 200, seed=0), noise=0.0, replaced=0.3, seed=1)
    assert (a.d_sae, b.d_sae, int((truth >= 0).sum())) == (100, 100, 70)
    has = truth >= 0
    assert_close(b.W_dec[truth[has]], a.W_dec[has]), assert_close(b.W_enc[:, truth[has]], a.W_enc[:, has])
    assert torch.cdist(a.W_dec, b.W_dec)[~has].min() > 0, "the others are nowhere in B"
    said = precision_recall(match(a, b).index, truth)
    assert said["recall"] == 1 and abs(said["fdp"] - 0.3) < 1e-12 and said["precision"] == 1 - said["fdp"]
    assert precision_recall(torch.full((100,), -1), truth)["fdp"] == 0
    with expect_fail(ValueError, "different SAEs"):
        precision_recall(truth[:5], truth)
    with expect_fail(ValueError, "a share of latents"):
        planted_from(a, replaced=2.0)
    said


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
