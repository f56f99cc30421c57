# Written from nbs/judging/19_steering.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.steering import (
    promoted_by,
    written,
    steered,
    ablated,
    bystanders,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail
from torch.nn.functional import normalize
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.model.activations import hidden_states
from saematch.studies.toys import toy_layers


def test_steering_by_hand():
    lm, saes, tokens = toy_layers()
    tokens, keep = tokens[:3], tokens[:3].counted
    ways = dict(first={1: 5}, every={1: 5, 3: 7})
    vectors = written(saes, ways, 2.0)
    assert_close(vectors["first"][1], 2 * normalize(saes[1].W_dec[5], dim=0))
    assert_close(vectors["every"][3], normalize(saes[3].W_dec[7], dim=0))
    promoted = torch.tensor([4, 9])
    table = steered(lm, vectors | dict(nothing={1: torch.zeros(16)}), promoted, tokens, keep)
    assert (table[table.way == "nothing"][["rise", "loss", "kl"]].abs() < 1e-12).all(axis=None)
    add = lambda l: (f"blocks.{l}.hook_resid_post", lambda z, hook: z + keep[..., None] * vectors["every"][l])
    with torch.no_grad():
        own, now = (lm.run_with_hooks(tokens.ids, fwd_hooks=h)[0].log_softmax(-1) for h in ([], [add(1), add(3)]))
    row = table[(table.way == "every") & (table.document == 0)].iloc[0]
    at = range(1, int(tokens.lengths[0]) - 1)  # not the first, and the last predicts nothing
    assert row.tokens == len(at)
    by_hand = sum(float(now[t, promoted].logsumexp(0) - own[t, promoted].logsumexp(0)) for t in at)
    assert abs(row.rise - by_hand) < 1e-9
    assert abs(row.loss - sum(float(own[t, tokens.ids[0, t + 1]] - now[t, tokens.ids[0, t + 1]]) for t in at)) < 1e-9
    assert abs(row.kl - sum(float((own[t].exp() * (own[t] - now[t])).sum()) for t in at)) < 1e-9


def test_what_is_promoted_rises():
    lm, saes, tokens = toy_layers()
    members = {1: 5, 2: 3}
    some = tokens.ids[:4, :9]
    promoted = promoted_by(lm, saes, members, some, 3.0, count=5)
    last = torch.zeros(4, 9, dtype=torch.bool)
    last[:, 7] = True
    short = replace(tokens[:4], ids=some, lengths=torch.full((4,), 9))
    table = steered(lm, written(saes, dict(one={1: 5}, other={2: 3}), 3.0), promoted, short, last)
    assert table.rise.mean() > 0.1
    with expect_fail(UsageError, "the lineage has a member at layer 9"):
        promoted_by(lm, saes, {9: 0}, some, 1.0)
    with expect_fail(UsageError, "layer 1 has no latent 24: the lineage is of another suite"):
        promoted_by(lm, saes, {1: 24}, some, 1.0)


def test_ablating_by_hand():
    lm, saes, tokens = toy_layers()
    tokens, keep = tokens[2:4], tokens[2:4].counted
    lineage = {1: 5, 2: 3, 3: 8}
    table = ablated(lm, saes, dict(first={1: 5}, every=lineage), lineage, tokens, keep)
    f = lambda l, z: saes[l].encode(z)[..., lineage[l]] * keep
    out = lambda l: (f"blocks.{l}.hook_resid_post", lambda z, hook: z - f(l, z)[..., None] * saes[l].W_dec[lineage[l]])
    with torch.no_grad():
        own, now = (lm.run_with_hooks(tokens.ids, fwd_hooks=h).log_softmax(-1) for h in ([], [out(1), out(2), out(3)]))
    x = hidden_states(lm, tokens, [1, 2, 3])
    active = torch.stack([f(l, x[l]) != 0 for l in lineage]).any(0)
    row = table[(table.way == "every") & (table.document == 0)].iloc[0]
    at = [t for t in range(int(tokens.lengths[0]) - 1) if active[0, t]]
    assert row.tokens == len(at) > 0
    assert abs(row.kl - sum(float((own[0, t].exp() * (own[0, t] - now[0, t])).sum()) for t in at)) < 1e-9
    assert abs(row.had - float(f(3, x[3])[0, at].sum())) < 1e-9


def test_a_latent_that_is_never_active_takes_nothing_away():
    lm, saes, tokens = toy_layers()
    silent = {l: replace(saes[l], threshold=saes[l].threshold.index_fill(0, torch.tensor(0), 1e6)) for l in (1, 2)}
    table = ablated(lm, silent, dict(none={1: 0, 2: 0}), {1: 5, 2: 3}, tokens, tokens.counted)
    assert (table[["kl", "loss"]].abs() < 1e-12).all(axis=None) and (table.left - table.had).abs().max() < 1e-12
    with expect_fail(UsageError, "a lineage has at least one member"):
        ablated(lm, saes, {}, {}, tokens, tokens.counted)


def test_bystanders_are_active_on_the_same_tokens():
    lm, saes, tokens = toy_layers()
    states, members = hidden_states(lm, tokens, [1, 2]), {1: 5, 2: 3}
    for seed in range(20):
        drawn = bystanders(saes, members, states, tokens.counted, torch.Generator().manual_seed(seed))
        for l, i in drawn.items():
            f = saes[l].encode(states[l][tokens.counted]) != 0
            assert i != members[l] and (f[:, i] & f[:, members[l]]).any()
