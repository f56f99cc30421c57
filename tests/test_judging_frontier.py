# Written from nbs/judging/24_frontier.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.frontier import (
    tuned,
    thinned,
)


import torch

from saematch.judging.carried import fidelity
from saematch.matching.relations import relations
from saematch.saes.toys import planted, random_sae


def test_training_finds_the_weights():
    a = random_sae(16, 40, seed=0, apply_b_dec_to_input=True)
    b, truth = planted(a, decoder_noise=0.2, encoder_noise=0.2, seed=1)
    g = torch.Generator().manual_seed(0)
    x = a.decode((torch.rand(3000, 40, generator=g, dtype=a.dtype) < 0.1) * 4 * a.threshold)
    y = x + 0.5 * torch.randn(16, generator=g, dtype=a.dtype)  # a constant that no weight of the SAEs knows
    f, seen = a.encode(x), slice(0, 2000)
    free = relations(a, b, k=2)
    fit = tuned(free, f[seen], y[seen], steps=60)
    assert torch.equal(fit.index, free.index) and torch.equal(free.a.b_dec, a.b_dec) and not fit.weight.requires_grad
    score = lambda r: fidelity(b, r.apply(f[2000:]), b.encode(y[2000:]), y[2000:])
    assert score(fit)["EV"] > score(free)["EV"] + 0.05
    score(fit)["EV"] - score(free)["EV"]


def test_the_budget_is_kept():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 48, seed=1)
    f = a.encode(torch.randn(200, 16, dtype=a.dtype, generator=torch.Generator().manual_seed(0)))
    r = relations(a, b, k=8)
    few = thinned(r, f, 3)
    assert int((few.index >= 0).sum()) == 2 * 40 and (few.weight[few.index < 0] == 0).all()
    dropped = (few.index < 0) & (r.index >= 0)
    moves = (f[:, :, None] * r.weight).square().mean(0).sqrt() * b.W_dec.norm(dim=1)[r.index]
    assert moves[dropped].max() <= moves[few.index >= 0].min()
    few.entries
