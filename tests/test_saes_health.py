# Written from nbs/saes/07_health.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.health import (
    dead,
    duplicates,
    gauge_in_use,
    self_check,
    explained_variance,
    health,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail

from saematch.saes.gauge import fold
from saematch.saes.toys import planted, random_sae
def damaged(sae):
    "Ways in which loaders have gone wrong."
    shuffled = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(0))
    return {
        "decoder in another order": replace(sae, W_dec=sae.W_dec[shuffled]),
        "thresholds 30 times too large": replace(sae, threshold=30 * sae.threshold),
        "decoder negated": replace(sae, W_dec=-sae.W_dec),
        "encoder of another seed": replace(sae, W_enc=sae.W_enc.flip(0)),
    }


def test_planted_dead_latents_are_found():
    sae = random_sae(32, 400)
    b, truth = planted(sae, dead=0.1, seed=1)
    x = 3 * torch.randn(5000, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    R = x.norm(dim=1).max().item()
    found = dead(b, norm=R)
    fired = (b.encode(x) > 0).any(0)
    assert found.sum() == 40 and not (found & fired).any()
    assert not dead(b).any(), "without a norm nothing is known"
    empty = replace(
        sae,
        W_enc=sae.W_enc.index_fill(1, torch.tensor([3, 5]), 0),
        W_dec=sae.W_dec.index_fill(0, torch.tensor([8]), 0),
        b_enc=sae.b_enc - 1,
    )
    assert dead(empty).nonzero()[:, 0].tolist() == [3, 5, 8]
    dict(dead_by_the_weights=int(found.sum()), never_fired_on_5000_tokens=int((~fired).sum()))


def test_duplicates_are_found():
    sae = random_sae(8, 20)
    twice = sae.select(torch.tensor([0, 1, 2, 1, 4, 0, 0]))
    assert duplicates(twice).tolist() == [0, 1, 2, 1, 4, 0, 0]
    assert torch.equal(duplicates(sae), torch.arange(20))
    duplicates(twice)


def test_the_units_an_sae_comes_in():
    sae = random_sae()
    assert [gauge_in_use(s) for s in (sae, fold(sae), fold(sae, "decoder"), fold(sae, "encoder"))] == [
        "none",
        "every threshold is 1",
        "every decoder norm is 1",
        "every encoder norm is 1",
    ]
    gauge_in_use(fold(sae))


def test_self_check_tells_a_damaged_sae():
    from saematch.saes.suite import load_suite

    sae = load_suite("smollm2-135m-resid")[14]
    assert self_check(sae) > 0.6
    assert all(self_check(s) < 0.05 for name, s in damaged(sae).items() if name != "thresholds 30 times too large")
    self_check(sae)


def test_health_of_any_architecture():
    toy = random_sae(normalize="layer_norm")
    assert health(toy)["normalises hidden states"] == "layer_norm" and health(toy)["certainly dead latents"] == 0
    assert health(random_sae(activation="topk", k=3))["finds what it writes"] != "not tested"
    assert health(replace(toy, activation="other", normalize="none"))["finds what it writes"] == "not tested"
    assert "explained variance" not in health(
        replace(random_sae(), transcoder=True), torch.randn(5, 16, dtype=torch.float64)
    )
    assert "active latents a token" not in health(
        replace(random_sae(), activation="other"), torch.randn(5, 16, dtype=torch.float64)
    )
    eye = replace(
        random_sae(64, 64, activation="topk", k=2),
        W_enc=torch.eye(64).double(),
        W_dec=torch.eye(64).double(),
        b_enc=torch.zeros(64).double() - 0.1,
    )
    assert self_check(eye) == 1
    with expect_fail(ValueError, "a positive number, not -1"):
        dead(toy, norm=-1)
    with expect_fail(ValueError, "at least 2 tokens"):
        explained_variance(random_sae(), torch.zeros(1, 16))
