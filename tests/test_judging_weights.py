# Written from nbs/judging/01_weights.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.weights import (
    weight_mse,
    agreement,
    growth,
)


from dataclasses import replace

from fastcore.test import expect_fail

from saematch.matching.match import Match, match
from saematch.saes.gauge import absorb_b_dec, fold
from saematch.saes.sae import rescale
from saematch.saes.toys import random_sae


def test_mse_is_the_mean_over_entries():
    a, b = random_sae(6, 9, seed=1), random_sae(6, 9, seed=2)
    index = match(a, b).index
    fa, fb = fold(a), fold(b)
    by_hand = torch.stack([(fa.W_dec[i] - fb.W_dec[j]).square().mean() for i, j in enumerate(index.tolist())]).mean()
    got = weight_mse(a, b, index)
    assert abs(got["decoder"] - by_hand) < 1e-12
    assert abs(got["all"] - match(a, b).objective / 9 / 13) < 1e-12
    assert weight_mse(a, rescale(a, 3.0), torch.arange(9))["all"] < 1e-24, "an SAE in other units is the same SAE"
    flagged = random_sae(6, 9, seed=1, apply_b_dec_to_input=True)
    assert weight_mse(flagged, absorb_b_dec(flagged), torch.arange(9))["all"] < 1e-24, "one function in two conventions"
    with expect_fail(ValueError, "no latent is matched"):
        weight_mse(a, b, torch.full((9,), -1))
    lost = replace(a, threshold=a.threshold.index_fill(0, torch.tensor([4]), 0.0))  # latent 4 cannot be folded
    some = torch.where(torch.arange(9) == 4, -1, index)
    pairs = zip(weight_mse(lost, b, some).values(), weight_mse(a, b, some).values())
    assert all(abs(x - y) < 1e-12 for x, y in pairs), "who is not matched needs no unit"
    with expect_fail(ValueError, "latent 4 (0)"):
        weight_mse(lost, b, index)
    assert weight_mse(a, b, index, weights="decoder") == dict(decoder=got["decoder"], all=got["decoder"])
    got


def test_agreement_counts_latents_matched_in_both():
    m = lambda *index: Match(torch.tensor(index), 4, torch.zeros(4))
    assert agreement(m(0, 1, 2, 3), m(0, 2, 1, -1)) == 1 / 3
    assert agreement(m(1, 2, 0, 3), m(1, 2, 0, 3)) == 1 and agreement(m(1, 2, 0, 3), m(1, 2, 0, 3).inverse()) == 1 / 4
    with expect_fail(ValueError, "different pairs"):
        agreement(m(0, 1, 2, 3), Match(torch.tensor([0]), 1, torch.zeros(1)))


def test_growth_reports_what_the_weights_say():
    from saematch.saes.suite import load_suite

    suite = load_suite("smollm2-135m-resid")
    table = growth(suite, [14, 19]).set_index(["layer", "quantity"])
    assert abs(table.loc[(14, "threshold"), "mean"] - suite[14].threshold.mean()) < 1e-6
    by_hand = (suite[19].W_dec.norm(dim=1) * suite[19].threshold).mean()
    assert abs(table.loc[(19, "folded decoder norm"), "mean"] - by_hand) < 1e-5
    assert (table.q05 < table["mean"]).all() and (table["mean"] < table.q95).all()
