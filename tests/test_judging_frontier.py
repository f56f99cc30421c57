# Written from nbs/judging/24_frontier.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.frontier import (
    tuned,
    thinned,
    trained,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.judging.carried import fidelity
from saematch.matching.budget import budgeted
from saematch.matching.relations import relations
from saematch.saes.toys import planted, random_sae


def test_training_finds_the_weights():
    a = random_sae(32, 24, seed=0)
    b, _ = planted(a, decoder_noise=0.2, encoder_noise=0.2, seed=1)
    g = torch.Generator().manual_seed(0)
    drawn = lambda *shape: torch.rand(*shape, generator=g, dtype=a.dtype)
    f = (drawn(3000, 24) < 0.1) * (1.5 + 3 * drawn(3000, 24)) * a.threshold
    free = relations(a, b, k=2)
    weight = free.weight * (0.5 + drawn(*free.weight.shape))
    moved = replace(free.a, b_dec=a.b_dec + 0.3 * torch.randn(32, generator=g, dtype=a.dtype))
    true = replace(free, weight=weight, a=moved)  # what B's hidden states are made of, and training is to find
    y, seen = b.decode(true.apply(f)), slice(0, 2000)
    fit = tuned(free, f[seen], y[seen], steps=150)
    strange = tuned(free, f[seen], y[seen].roll(1000, 0), steps=150)  # of other tokens
    assert torch.equal(fit.index, free.index) and torch.equal(free.a.b_dec, a.b_dec) and not fit.weight.requires_grad
    wrong = lambda r: ((r.weight - weight) / free.weight)[free.index >= 0].abs().median().item()
    EV = lambda r: fidelity(b, r.apply(f[2000:]), b.encode(y[2000:]), y[2000:])["EV"]
    found = {name: (wrong(r), EV(r)) for name, r in dict(begun=free, trained=fit, strangers=strange).items()}
    assert found["trained"][0] < found["begun"][0] / 4 < found["begun"][0] < found["strangers"][0]
    assert found["trained"][1] > 0.98 > 0.95 > found["begun"][1] > found["strangers"][1]
    {name: [round(v, 3) for v in pair] for name, pair in found.items()}


def test_the_budget_is_kept():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 48, seed=1)
    f = a.encode(torch.randn(200, 16, dtype=a.dtype, generator=torch.Generator().manual_seed(0)))
    r = relations(a, b, k=8)
    few = thinned(r, f, 3)
    assert int((few.index >= 0).sum()) == 2 * 40 and (few.weight[few.index < 0] == 0).all()
    dropped = (few.index < 0) & (r.index >= 0)
    moves = (f[:, :, None] * r.weight).square().mean(0).sqrt() * b.W_dec.norm(dim=1)[r.index]
    assert moves[dropped].max() <= moves[few.index >= 0].min()
    one, y = relations(a, b, k=2, common=False), b.decode(b.encode(a.decode(f)))
    shared = budgeted(a, b, entries=3)  # some rows without a number for the common direction
    assert tuned(one, f, y, steps=2).entries == 2
    assert (shared.common == 0).any() and tuned(shared, f, y, steps=2).entries == shared.entries
    few.entries


def test_what_cannot_be_trained():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 48, seed=1)
    r, f, y = relations(a, b, k=2), torch.ones(5, 40, dtype=a.dtype), torch.ones(5, 16, dtype=a.dtype)
    scaled = [replace(r, **{name: replace(getattr(r, name), normalize="layer_norm")}) for name in "ab"]
    for wrong in (*scaled, replace(r, b=replace(b, activation="topk", k=4))):
        with expect_fail(UsageError, "training needs SAEs that do not normalise hidden states, and B must be a JumpReLU"):
            tuned(wrong, f, y)
