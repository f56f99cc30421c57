# Written from nbs/judging/07_evidence.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.evidence import (
    Score,
    Sums,
    Correlation,
    evidence,
    one,
    matching_score,
    explained_variance,
    delta_loss,
    decomposition,
)


from dataclasses import replace

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.judging.routes import Pair, encode_permute_decode
from saematch.judging.sums import kept
from saematch.matching.match import Match, match
from saematch.model.activations import hidden_states, norm_limits
from saematch.model.text import Tokens
from saematch.saes.sae import permute
from saematch.saes.toys import random_sae
def tiny(seed=0, d=12, layers=4, vocabulary=40, **config):
    "A random HookedTransformer in float64, SAEs of two of its layers, and random documents."
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    from saematch.model.lm import quiet

    torch.manual_seed(seed)
    with quiet():
        lm = HookedTransformer(
            HookedTransformerConfig(
                n_layers=layers,
                d_model=d,
                d_head=4,
                n_heads=3,
                d_mlp=20,
                n_ctx=32,
                d_vocab=vocabulary,
                act_fn="silu",
                normalization_type="RMS",
                device="cpu",
                dtype=torch.float64,
                seed=seed,
                **config,
            )
        ).eval()
    for p in lm.parameters():
        torch.nn.init.normal_(p, std=0.4)
    saes = {
        l: replace(random_sae(d, 30, seed=l), info=dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post"))
        for l in range(layers)
    }
    g = torch.Generator().manual_seed(seed + 1)
    tokens = Tokens(
        torch.randint(3, vocabulary, (6, 16), generator=g), torch.tensor([16, 16, 9, 16, 12, 16]), (0, 1, 2)
    )
    return lm, saes, tokens


def test_intervals_are_those_of_the_bootstrap():
    import numpy as np

    g = np.random.default_rng(0)
    top, bottom = g.random(40), 1 + g.random(40)
    s = Score(top, bottom, complement=True)
    assert abs(s.value - (1 - top.sum() / bottom.sum())) < 1e-12 and abs(s.blocks[3] - (1 - top[3] / bottom[3])) < 1e-12
    from scipy.stats import bootstrap

    theirs = bootstrap(
        (top, bottom),
        lambda t, b, axis: 1 - t.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=9999,
        rng=1,
    ).confidence_interval
    np.testing.assert_allclose(s.interval(draws=9999), tuple(theirs), rtol=0.02)
    assert np.isnan(Score(top[:1], bottom[:1]).interval()).all()
    with expect_fail(ValueError, "between 0 and 1"):
        s.interval(95)
    s


def test_paired_differences_are_surer_than_single_scores():
    import numpy as np
    from scipy.stats import bootstrap

    g = np.random.default_rng(1)
    bottom = 1 + g.random(60)
    hard = g.random(60)
    one, two = Score(bottom * (0.2 + 0.5 * hard), bottom), Score(bottom * (0.1 + 0.5 * hard), bottom)
    value, low, high = one.less(two, draws=9999)
    ratio = lambda t, s, b, axis: t.sum(axis) / b.sum(axis) - s.sum(axis) / b.sum(axis)
    parts = (one.top, two.top, bottom)
    theirs = bootstrap(parts, ratio, paired=True, method="percentile", n_resamples=9999, rng=1).confidence_interval
    np.testing.assert_allclose((low, high), tuple(theirs), rtol=0.02)
    assert abs(value - 0.1) < 1e-12 and high - low < 0.1 * (one.interval()[1] - one.interval()[0])
    assert one.less(one) == (0.0, 0.0, 0.0) and np.isnan(Score(hard[:1], bottom[:1]).less(Score(hard[:1], bottom[:1]))[1])
    assert abs((one + two).value - (one.top + two.top).sum() / (2 * bottom.sum())) < 1e-12
    with expect_fail(ValueError, "one score has 60 documents, the other 1"):
        one.less(Score(hard[:1], bottom[:1]))
    value, low, high


def test_the_correlation_is_that_of_all_pairs_together():
    import numpy as np

    g = np.random.default_rng(0)
    x = g.normal(size=(200, 5))
    y = 0.6 * x + g.normal(size=x.shape)
    docs = np.arange(200) // 10
    by_doc = lambda v: np.array([v[docs == d].sum() for d in range(20)])
    r = Correlation(by_doc(x * y), np.stack([by_doc(x * x), by_doc(y * y)], axis=1))
    assert abs(r.value - (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())) < 1e-12
    low, high = r.interval()
    assert low < r.value < high and np.isfinite(r.blocks).all() and r.less(r) == (0.0, 0.0, 0.0)
    none = Sums({}, {}, {(0, 1): ["match"]})
    with expect_fail(UsageError, "no products of activations were measured"):
        none.correlation((0, 1), "match")
    r


def test_an_sae_matched_with_itself_is_its_own_reconstruction():
    lm, saes, tokens = tiny()
    same = Match(torch.arange(30), 30, torch.zeros(30))
    found = evidence(lm, {(1, 1): Pair(saes[1], saes[1], dict(match=same))}, tokens)
    for score in (found.explained_variance, found.delta_loss):
        assert_close(score((1, 1), "match").value, score((1, 1), "current").value)
        assert_close(score((1, 1), "match").value, score((1, 1), "previous").value)
    assert found.matching_score((1, 1), "match").value == 1
    assert found.explained_variance((1, 1), "layer drop").value == 1
    assert abs(found.delta_loss((1, 1), "layer drop").value) < 1e-12
    {route: found.explained_variance((1, 1), route) for route in ("match", "current", "previous")}


def test_permuting_b_and_matching_back_changes_nothing():
    lm, saes, tokens = tiny()
    a, b, order = saes[1], saes[2], torch.randperm(30, generator=torch.Generator().manual_seed(1))
    plain = evidence(lm, {(1, 2): Pair(a, b, dict(match=match(a, b)))}, tokens)
    moved = evidence(lm, {(1, 2): Pair(a, permute(b, order), dict(match=match(a, permute(b, order))))}, tokens)
    values = {
        what: [getattr(found, what)((1, 2), "match").value for found in (plain, moved)]
        for what in ("explained_variance", "delta_loss", "matching_score")
    }
    for before, after in values.values():
        assert_close(before, after)
    values


def test_positions_that_are_left_out_influence_no_number():
    lm, saes, tokens = tiny()
    pair = {(1, 2): Pair(saes[1], saes[2], dict(match=match(saes[1], saes[2])))}
    states = hidden_states(lm, tokens, [1, 2])
    limits = {l: x[tokens.counted].norm(dim=-1).median().item() for l, x in states.items()}
    found = evidence(lm, pair, tokens, limits)
    keep = kept(tokens, states, limits)
    assert 0 < found.found["kept"].sum() == keep.sum() < tokens.counted.sum()
    x, y = states[1][keep], states[2][keep]
    estimate = encode_permute_decode(saes[1], saes[2], pair[1, 2].matches["match"], x)
    by_hand = 1 - (estimate - y).var(0, correction=0).sum() / y.var(0, correction=0).sum()
    assert_close(value := found.explained_variance((1, 2), "match").value, by_hand.item())
    with expect_fail(ValueError, "there is nothing to measure"):
        evidence(lm, pair, tokens, {1: 0.0, 2: 0.0})
    dict(kept=f"{int(keep.sum())} of {int(tokens.counted.sum())}", explained_variance=value, by_hand=by_hand.item())


def test_model_and_saes_must_fit():
    lm, saes, tokens = tiny()
    a, b = saes[1], saes[2]
    with expect_fail(ValueError, "is it of another model?"):
        explained_variance(
            lm,
            random_sae(5, 9) and replace(random_sae(5, 9), info=dict(layer=1)),
            replace(random_sae(5, 9), info=dict(layer=2)),
            None,
            tokens,
        )
    with expect_fail(UsageError, "the model has layers 0..3, not 9"):
        delta_loss(lm, a, replace(b, info=dict(layer=9)), None, tokens)
    with expect_fail(UsageError, "reads blocks.2.hook_mlp_out"):
        matching_score(lm, a, replace(b, info=dict(layer=2, hook_name="blocks.2.hook_mlp_out")), None, tokens)
    with expect_fail(UsageError, "does not say which layer"):
        matching_score(lm, replace(a, info={}), b, None, tokens)
    with expect_fail(UsageError, "comes after"):
        matching_score(lm, b, a, None, tokens)


def test_the_decomposition_adds_up():
    lm, saes, tokens = tiny()
    found = evidence(lm, {(1, 2): Pair(saes[1], saes[2], dict(match=match(saes[1], saes[2])))}, tokens, loss=False)
    lost = 1 - found.explained_variance((1, 2), "match").value
    assert abs(decomposition(found, (1, 2), "match").values.sum() - lost) < 1e-10
    assert abs(decomposition(found, (1, 2), "match", "b").values.sum() - lost) < 1e-10
    x, y = (hidden_states(lm, tokens, [1, 2])[l][tokens.counted] for l in (1, 2))
    by_hand = (y - x).var(0, correction=0).sum() / y.var(0, correction=0).sum()
    found_all = evidence(
        lm, {(1, 2): Pair(saes[1], saes[2], dict(match=match(saes[1], saes[2])))}, tokens, {1: 1e9, 2: 1e9}, loss=False
    )
    assert abs(decomposition(found_all, (1, 2), "match").loc["blocks", "blocks"] - by_hand) < 1e-10
    dict(lost=lost, sums=[decomposition(found, (1, 2), "match", side).values.sum() for side in "ab"])
