# Written from nbs/judging/02_nulls.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.nulls import (
    NULLS,
    null,
    planted_from,
    precision_recall,
)


from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.matching.match import match
from saematch.saes.sae import permute
from saematch.saes.toys import planted, random_sae


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


def test_some_latents_of_a_null_are_those_of_the_whole():
    b, some = random_sae(8, 30, seed=1), torch.tensor([7, 0, 21])
    for kind in NULLS:
        part, whole = null(b, kind, seed=3, only=some), null(b, kind, seed=3).select(some)
        torch.testing.assert_close(part.W_dec, whole.W_dec)
        torch.testing.assert_close(part.W_enc, whole.W_enc)
        assert torch.equal(part.threshold, whole.threshold)


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
