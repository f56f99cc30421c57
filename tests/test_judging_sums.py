# Written from nbs/judging/06_sums.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.sums import (
    key,
    over_tokens,
    error_sums,
    coactive,
    products,
    exchange_gain,
    kept,
    measure,
    merge,
)


from dataclasses import replace

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.judging.routes import Active, Pair
from saematch.matching.match import Match, match
from saematch.model.activations import norm_limits
from saematch.model.text import Tokens
from saematch.model.toys import toy_lm
from saematch.saes.toys import random_sae
def toy():
    "A random language model of four layers, a matched pair of SAEs of its layers 0 and 2, and random documents."
    lm = toy_lm()
    a, b = (replace(random_sae(16, 30, seed=l), info=dict(layer=l)) for l in (0, 2))
    ids = torch.randint(3, 60, (6, 16), generator=torch.Generator().manual_seed(1))
    tokens = Tokens(ids, torch.tensor([16, 16, 9, 16, 12, 16]), (0, 1, 2))
    return lm, {(0, 2): Pair(a, b, dict(match=match(a, b)))}, tokens


def test_sums_keep_the_names_they_have_in_files():
    assert key("kept") == "kept" and key("latents/active", 14) == "14/latents/active" and key("n", 3, 5) == "3-5/n"
    assert over_tokens(key("latents/gain", 0, 1)) and not over_tokens(key("loss", 0, 1))
    with expect_fail(KeyError, "there is no sum 'loss' of 1 layers"):
        key("loss", 14)
    [key("loss/own"), key("latents/sum", 14), key("G", 14, 15)]


def test_sums_hold_every_variance():
    g = torch.Generator().manual_seed(0)
    errors = torch.randn(3, 50, 4, dtype=torch.float64, generator=g) + 1
    found = error_sums(errors, [20, 0, 30])
    n, S, G = (found[k].double().sum(0) for k in "nSG")
    variance = (G.diagonal() - S.square().sum(1) / n) / n
    assert_close(variance, errors.var(dim=1, correction=0).sum(1))
    f_a, f_b = (torch.randint(0, 2, (50, 6), generator=g).double() for _ in "ab")
    m = Match(torch.tensor([3, -1, 0, 1, 5, 2]), 6, torch.zeros(6))
    found = coactive(Active.of(f_a), Active.of(f_b), [m], [20, 0, 30])
    i, j = m.matched, m.index[m.matched]
    assert found["both"][:, 0].tolist() == [
        int((f_a[r][:, i] * f_b[r][:, j]).sum()) for r in (slice(20), [], slice(20, 50))
    ]
    assert found["here"].sum() == f_a[:, i].sum() and found["there"].sum() == f_b[:, j].sum()
    assert found["latents/both"].sum() == found["both"].sum() and found["latents/both"][0, 1] == 0
    variance


def test_products_are_those_of_centred_activations():
    g = torch.Generator().manual_seed(0)
    f_a, f_b = (torch.randn(50, n, generator=g).double().clamp(min=0) for n in (6, 7))
    usual = tuple(torch.stack([f.mean(0) + 0.1, 0.5 + torch.rand(f.shape[1], generator=g).double()]) for f in (f_a, f_b))
    m = Match(torch.tensor([3, -1, 0, 1, 5, 2]), 7, torch.zeros(6), sign=torch.tensor([1, 1, -1, 1, 1, 1]))
    found = products(Active.of(f_a), Active.of(f_b), usual, [m], [20, 0, 30])["products"]
    a, b = ((f - u[0]) / u[1] for f, u in zip((f_a, f_b), usual))
    a, b = (a * m.sign)[:, m.matched], b[:, m.index[m.matched]]
    whole = torch.stack([(a * b).sum(1), a.square().sum(1), b.square().sum(1)], dim=1)
    assert_close(found[:, 0], torch.stack([whole[r].sum(0) for r in (slice(20), slice(0), slice(20, 50))]))
    found[:, 0].sum(0)


def test_gain_is_the_fall_of_the_error():
    a, b = random_sae(8, 12, seed=1), random_sae(8, 12, seed=2)
    g = torch.Generator().manual_seed(0)
    x_a, x_b = (3 * torch.randn(40, 8, dtype=torch.float64, generator=g) for _ in "ab")
    pair = Pair(a, b, dict(match=match(a, b)))
    copy, f = a.reconstruct(x_a), Active.of(a.encode(x_a))
    i, j = 5, int(pair.matches["match"].index[5])
    alone = copy + a.encode(x_a)[:, [i]] * (b.threshold[j] / a.threshold[i] * b.W_dec[j] - a.W_dec[i])
    by_doing_it = (x_b - copy).square().sum() - (x_b - alone).square().sum()
    assert_close(gain := exchange_gain(pair, x_b - copy, f)[i], by_doing_it)
    dict(gain=gain.item(), by_doing_it=by_doing_it.item())


def test_skipped_blocks_do_not_influence_the_loss():
    lm, pair, tokens = toy()
    limits = norm_limits(lm, tokens, [0, 2])
    before = measure(lm, pair, tokens, limits)
    for block in lm.blocks[1:3]:  # blocks 1 and 2 lie between layer 0 and layer 2
        for p in block.parameters():
            p.data += 0.01
    after = measure(lm, pair, tokens, limits)
    assert torch.equal(before["kept"], after["kept"])
    replaced = lambda found: found["0-2/loss"] + found["loss/own"][:, None]
    change = dict(zip(pair[0, 2].routes(), (replaced(after) - replaced(before)).abs().amax(0).tolist()))
    assert max(change[name] for name in ("match", "layer drop", "previous")) < 1e-9
    assert change["current"] > 1e-6, "the current state does depend on them"
    change


def test_batches_add_up():
    lm, pair, tokens = toy()
    limits = norm_limits(lm, tokens, [0, 2])
    whole = measure(lm, pair, tokens, limits)
    parts = merge(measure(lm, pair, tokens[rows], limits) for rows in torch.arange(6).split(4))
    assert list(parts) == list(whole) and len(parts[key("seconds")]) == 2
    for name in set(whole) - {key("seconds")}:
        assert_close(parts[name], whole[name], equal_nan=True)
    {name: float((parts[name] - whole[name]).abs().max()) for name in (key("G", 0, 2), key("loss", 0, 2))}
