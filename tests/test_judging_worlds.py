# Written from nbs/judging/21_worlds.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.worlds import (
    NONE,
    States,
    World,
    strangers,
    planted_worlds,
    spread,
    layer_worlds,
    jaccard,
    seed_worlds,
)


import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.saes.toys import planted, planted_suite, random_sae


def test_strangers_see_the_same_on_other_tokens():
    a = random_sae(16, 40, apply_b_dec_to_input=True)
    b = planted(a, seed=1).sae
    x = torch.randn(30, 16, generator=torch.Generator().manual_seed(0), dtype=a.dtype)
    world = World("toy", "planted", 1, a, b, fit=States(x, x), truth=torch.arange(40))
    other = strangers(world)
    assert torch.allclose(other.seen.y, world.seen.y.roll(15, 0), atol=1e-9) and torch.equal(other.seen.x, world.seen.x)
    assert (other.truth == NONE).all() and other.held_out is None
    cosine = torch.nn.functional.cosine_similarity(other.b.W_dec, b.W_dec)
    assert cosine.abs().mean() < 0.5
    cosine.mean()


def test_suites_without_thresholds_have_planted_worlds():
    from dataclasses import replace

    relu = replace(random_sae(24, 120), threshold=torch.zeros(120, dtype=torch.float64))
    world = next(planted_worlds(relu, "relu", layers=2, width=30))
    for sae in (world.a, world.b):
        assert sae.W_enc.isfinite().all()
    assert (world.judged.x > 0).any() and (world.judged.y > 0).any()


def test_a_planted_world_knows_who_is_who():
    worlds = list(planted_worlds(random_sae(32, 200), "toy", tokens=600, layers=3, width=60, noise=0.3))
    assert [w.name for w in worlds] == ["toy 0-1", "toy 0-2"] and [w.distance for w in worlds] == [1, 2]
    known = [float((w.truth >= 0).double().mean()) for w in worlds]
    assert 0.7 < known[1] < known[0] < 1
    w = worlds[0]
    at = w.truth >= 0
    f, g = (s[:, k].T for s, k in zip(w.judged, (at.nonzero()[:, 0], w.truth[at])))
    own = torch.corrcoef(torch.cat([f, g]))[: len(f), len(f) :].nan_to_num()
    assert own.diagonal().mean() > 0.5 > 5 * (own.sum() - own.trace()) / (own.numel() - len(own))
    own.diagonal().mean()


def test_the_truth_by_repetition():
    a = random_sae(16, 40)
    b, truth = planted(a, decoder_noise=0.1, encoder_noise=0.1, replaced=0.25, seed=1)
    x = 2 * torch.randn(4000, 16, generator=torch.Generator().manual_seed(0), dtype=a.dtype)
    (world,) = seed_worlds({3: a}, {3: b, 4: b}, {3: x}, torch.arange(4000) // 100)
    found = world.truth
    assert (found >= 0).sum() > 10 and torch.equal(found[found >= 0], truth[found >= 0])
    assert not (found[truth < 0] >= 0).any()
    f, g = world.judged
    i, j = 3, int(jaccard(f, g)[3].argmax())
    both, one = ((f[:, i] != 0) & (g[:, j] != 0)).sum(), ((f[:, i] != 0) | (g[:, j] != 0)).sum()
    assert abs(float(jaccard(f, g)[i, j]) - float(both / one)) < 1e-6
    with expect_fail(UsageError, "no layer in common: one suite has [3], the other [4]"):
        next(seed_worlds({3: a}, {4: b}, {}, torch.arange(2)))
    for document in (torch.zeros(5), torch.tensor([0, 0, 2, 2]), torch.tensor([1, 3, 3])):
        with expect_fail(UsageError, "needs two documents at least, one with an odd number"):
            next(layer_worlds({3: a, 4: b}, {}, document))
        with expect_fail(UsageError, "needs two documents at least, one with an odd number"):
            next(seed_worlds({3: a}, {3: b}, {}, document))
    assert spread([14, 15, 16, 17], 2) == [(14, 15), (16, 17), (14, 16), (15, 17), (14, 17)]
    found
