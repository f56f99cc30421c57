# Written from nbs/judging/18_causal.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.causal import (
    edited,
    passed_on,
    answers,
    ranks,
    drawn_active,
    placed,
    responses,
    effects,
    standing,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.matching.match import match
from saematch.model.activations import hidden_states
from saematch.saes.toys import random_sae
from saematch.studies.toys import toy_layers


def test_no_change_changes_nothing():
    lm, saes, tokens = toy_layers()
    a = saes[1]
    x = hidden_states(lm, tokens, [1])[1][0]
    f = a.encode(x)
    every = torch.arange(a.d_sae)
    assert torch.equal(edited(a, x, f, every, factor=1.0), x.expand(a.d_sae, *x.shape))  # to the last bit
    without = edited(a, x, f, every)
    error = x - a.decode(f)
    for i in range(a.d_sae):
        assert_close(without[i] - error, a.decode(f.index_fill(1, torch.tensor(i), 0.0)))  # the same error as before
    scaled = replace(a, normalize="layer_norm", threshold=0.1 * a.threshold)  # writes in units of each hidden state
    f = scaled.encode(x)
    three = edited(scaled, x, f, torch.tensor([3]), 2.0)[0]
    g = f.clone()
    g[:, 3] *= 2
    assert_close(three - (x - scaled.decode(f, like=x)), scaled.decode(g, like=x))


def test_blocks_go_on_from_any_state():
    lm, saes, tokens = toy_layers()
    x = hidden_states(lm, tokens, [0, 1, 3])
    with torch.no_grad():
        assert_close(passed_on(lm, tokens.ids, x[1], 1, stop=3), x[3])
        assert_close(passed_on(lm, tokens.ids, x[0], 0), lm(tokens.ids))


def test_answers_by_hand():
    lm, saes, tokens = toy_layers()
    a, b = saes[1], saes[3]
    ids = tokens.ids[2][: tokens.lengths[2]]
    keep = torch.arange(len(ids)) > 0
    latents, on, sums = answers(lm, a, b, ids, keep, copies=5)
    x, y = (hidden_states(lm, tokens[[2]], [1, 3])[l][0, : len(ids)] for l in (1, 3))
    f, g = a.encode(x), b.encode(y)
    i = int(latents[4])
    at = (f[:, i] != 0) & keep
    assert int(on[4]) == int(at.sum()) > 0
    changed = x - torch.where(at, f[:, i], 0)[:, None] * a.W_dec[i]
    put = ("blocks.1.hook_resid_post", lambda value, hook: changed[None])
    with torch.no_grad():
        after = b.encode(lm.run_with_hooks(ids[None], fwd_hooks=[put], stop_at_layer=4)[0])
    assert_close(sums["lost"][4], (g - after)[at].sum(0))
    assert_close(sums["changed"][4], (g - after)[at].abs().sum(0))
    assert_close(sums["had"][4], g[at].sum(0))
    assert answers(lm, a, b, ids, keep, factor=1.0)[2]["changed"].max() < 1e-12


def test_ranks_by_hand():
    changed = torch.tensor([[3.0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert ranks(changed, torch.tensor([0, 4])).tolist() == [1, 3.5]
    assert ranks(changed, torch.tensor([2, 4])).tolist() == [2.5, 3.5]
    assert ranks(changed[:1], torch.tensor([5])).tolist() == [5]
    sums = dict(changed=changed, lost=-changed, had=changed)
    table = placed(torch.tensor([7, 1]), torch.tensor([2, 1]), sums, dict(p=torch.tensor([0, -1, 0, 0, 0, 0, 0, 1])))
    assert table[["latent", "partner", "rank", "lost"]].values.tolist() == [[7, 1, 2.5, -1]]
    assert table.auc.tolist() == [0.25]  # of the two others that change one does so more and one as much
    assert placed(torch.tensor([7]), torch.tensor([2]), sums, dict(p=torch.full((8,), 4))).auc.isna().all()
    weights = torch.tensor([[0.0, 2, 0], [0, 0, 0]])
    assert drawn_active(weights, torch.Generator().manual_seed(0)).tolist() == [1, -1]


def test_true_partners_answer():
    lm, saes, tokens = toy_layers()
    a, b = saes[1], replace(saes[1], info=dict(layer=2))  # the same dictionary one block later
    own, other = torch.arange(24), torch.arange(24).roll(1)
    table = responses(lm, a, b, dict(own=own, other=other), tokens)
    mean = table.groupby("name").auc.mean()
    assert mean["own"] > max(mean["active"], mean["other"]) + 0.1
    nothing = responses(lm, a, b, dict(own=own), tokens, factor=1.0)
    assert nothing.lost.abs().max() < 1e-12
    mean.round(2).to_dict()


def test_what_cannot_be_asked():
    lm, saes, tokens = toy_layers()
    a, b = saes[1], saes[2]
    with expect_fail(ValueError, "partners 'mine' must be an int64 index of 24 latents"):
        responses(lm, a, b, dict(mine=torch.zeros(23, dtype=torch.int64)), tokens)
    with expect_fail(UsageError, "what is changed at layer 2 is not heard at layer 1"):
        responses(lm, b, a, dict(match=match(b, a)), tokens)
    with expect_fail(UsageError, "does not say which layer"):
        responses(lm, replace(a, info={}), b, dict(match=match(a, b)), tokens)
    with expect_fail(UsageError, "a language model with TransformerLens' hooks is needed, not None; lm = load_lm()"):
        responses(None, a, b, dict(match=match(a, b)), tokens)
    with expect_fail(ValueError, "is it of another model?"):
        responses(lm, replace(random_sae(5, 24), info=dict(layer=1)), b, {}, tokens)


def test_effects_are_the_sums_that_partners_are_placed_by():
    lm, saes, tokens = toy_layers()
    a, b, limits = saes[1], saes[3], {1: float("inf"), 3: float("inf")}
    one = effects(lm, a, b, tokens[[2]], limits)
    table = responses(lm, a, b, dict(own=torch.arange(24)), tokens[[2]], limits).query("name == 'own'")
    assert one.latents.tolist() == table.latent.tolist()
    assert ranks(one.changed, one.latents).tolist() == table["rank"].tolist()
    both = torch.zeros(24, 24, dtype=torch.float64)
    for e in (one, effects(lm, a, b, tokens[[4]], limits)):
        both[e.latents] += e.changed
    every = effects(lm, a, b, tokens[[2, 4]], limits)
    assert_close(every.changed, both[every.latents])
    one.changed.shape


def test_standing_is_a_mean_with_two_intervals():
    lm, saes, tokens = toy_layers()
    table = responses(lm, saes[1], replace(saes[1], info=dict(layer=2)), dict(own=torch.arange(24)), tokens)
    s, own = standing(table).loc["own"], table[table.name == "own"]
    assert abs(s["AUC"] - own.auc.mean()) < 1e-12 and abs(s["first"] - (own["rank"] == 1).mean()) < 1e-12
    assert s["answers"] == own.auc.notna().mean()
    assert abs(s["removed"] - own.lost.sum() / own.had.sum()) < 1e-12
    for unit in ("documents", "latents"):
        assert s[f"AUC low, {unit}"] < s["AUC"] < s[f"AUC high, {unit}"]
