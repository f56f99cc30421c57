# Written from nbs/judging/14_carried.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.carried import (
    fidelity,
    permuted,
    shuffled,
    refitted,
    sizes,
    sparsity_curve,
)


from dataclasses import replace

import pytest
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.matching.match import match
from saematch.matching.relations import relations
from saematch.model.cards import cards
from saematch.saes.toys import planted, random_sae


def test_fidelity_of_what_is_known():
    a = random_sae(24, 40, seed=0)
    x = 3 * torch.randn(500, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = a.encode(x)
    same = fidelity(a, f, f, x)
    assert same["F1"] == 1 and abs(same["EV"] - 1 + float((a.decode(f) - x).var(0).sum() / x.var(0).sum())) < 1e-12
    none = fidelity(a, 0 * f, f, x)
    assert none["F1"] == 0 and abs(none["EV"]) < 1e-12 and none["active"] == 0
    b, truth = planted(a, decoder_noise=0, encoder_noise=0, threshold_jitter=0, seed=1)
    assert_close(permuted(a, b, match(a, b), f), b.encode(x))


def test_refitted_weights_are_least_squares():
    a, b = random_sae(12, 20, seed=0), random_sae(12, 24, seed=1)
    g = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(400, 12, generator=g, dtype=torch.float64)
    f, y = a.encode(x), x + 0.3 * torch.randn(400, 12, generator=g, dtype=torch.float64) + 1
    r = relations(a, b, k=2)
    s = refitted(r, f, y, strength=0, steps=500)
    columns = [torch.outer(f[:, i], v).reshape(-1) for i in range(20) for v in (*b.W_dec[r.index[i]], r.direction)]
    columns += [e.expand(400, 12).reshape(-1) for e in torch.eye(12, dtype=torch.float64)]
    best = torch.linalg.lstsq(torch.stack(columns, 1), y.reshape(-1)).solution  # all weights and the constant at once
    assert_close(torch.cat([s.weight, s.common[:, None]], 1).reshape(-1), best[:60], rtol=1e-4, atol=1e-5)
    assert_close(s.a.b_dec, best[60:], rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="fitting needs an A that does not normalise hidden states"):
        refitted(replace(r, a=replace(a, normalize="layer_norm")), f, y)


def test_sizes_are_those_of_cards():
    with pytest.raises(TypeError, match="give the cards of a layer, as cards.suite, layer. has them, not str"):
        sizes("smollm2-135m-resid")
    found = cards("smollm2-135m-resid", 14)
    size = sizes(found)
    assert size.shape == (2048,) and all(
        abs(size[i] - found[i].mean * found[i].frequency ** 0.5) < 1e-9 for i in (0, 1091, 2047)
    )


def test_saes_that_normalise_have_a_curve():
    a, b = random_sae(16, 40, normalize="layer_norm"), random_sae(16, 40, seed=1)
    x = torch.randn(50, 16, dtype=torch.float64)
    for one, other in ((a, b), (b, a)):
        assert sparsity_curve(one, other, x, x, entries=(2,), spend=(2,)).F1.notna().all()


def test_more_entries_carry_more():
    a = random_sae(32, 100, seed=0)
    b, truth = planted(a, decoder_noise=1.0, encoder_noise=1.0, seed=1)
    g = torch.Generator().manual_seed(0)
    draw = torch.rand(400, 100, generator=g, dtype=torch.float64)
    x = a.decode(torch.where(draw < 0.05, 4 * a.threshold * (1 + 20 * draw), 0))
    t = sparsity_curve(a, b, x, x, entries=(2, 6)).set_index(["map", "entries"]).F1
    assert t["dense", 100] > t["relations", 6] > t["relations", 2] > max(t["strangers", 2], t["shuffled", 2]) + 0.1
    t.round(2).to_dict()
