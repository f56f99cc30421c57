# Written from nbs/model/07_gather.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.gather import (
    TokenCounts,
    Gather,
    save,
    resume,
    gather,
    within,
)


import tempfile
from pathlib import Path

import numpy as np
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.model.activations import hidden_states
from saematch.model.card import card_by_hand
from saematch.model.text import tokenize
from saematch.model.toys import toy_lm, toy_sae, toy_texts

LM, TOY = toy_lm(initializer_range=0.5), toy_sae(2)
TOKENS = tokenize(LM, toy_texts())


def test_a_killed_pass_goes_on():
    def kept(rows):
        return TOKENS[rows], {2: hidden_states(LM, TOKENS[rows], [2])[2]}, TOKENS[rows].counted


    path, rows = Path(tempfile.mkdtemp()) / "gather.safetensors", torch.arange(12)
    whole, half, rest = (Gather({2: TOY}, 63, shared=[1, 7]) for _ in range(3))
    for part in rows.split(5):
        whole.add(*kept(part))
    half.add(*kept(rows[:6])), save(half, path, "this")
    assert not resume(rest, path, "another") and resume(rest, path, "this") and rest.documents == 6
    rest.add(*kept(rows[6:]))
    save(whole, path, "a"), save(rest, path.with_name("b"), "a")
    from saematch.ground import read_safetensors

    one, two = read_safetensors(path)[0], read_safetensors(path.with_name("b"))[0]
    assert one.keys() == two.keys()
    for k in one:
        torch.testing.assert_close(one[k], two[k], rtol=1e-12, atol=1e-12)
    whole.documents, rest.documents, len(one)


def test_the_pass_counts_what_the_definition_counts():
    limits = {2: float(hidden_states(LM, TOKENS, [2])[2][TOKENS.counted].norm(dim=-1).quantile(0.97))}
    found = gather(LM, {2: TOY}, TOKENS, limits, batch=5).layers[2]
    states = hidden_states(LM, TOKENS, [2])
    keep = within(states, limits) & TOKENS.counted
    assert keep.sum() < TOKENS.counted.sum()
    found.settle()
    for latent in range(24):
        card = card_by_hand(TOY, latent, TOKENS, states[2], keep, LM)
        n = max(1, found.active[latent])
        assert (found.seen, found.active[latent]) == (card.seen, card.active)
        assert np.isclose(found.total[latent] / n, card.mean) and np.isclose(found.largest[latent], card.largest)
        assert (found.counts[latent] == card.histogram[1]).all()
        at = found.contexts["top"]["latent"] == latent
        places = [(c.document, c.position) for c in card.contexts if c.quantile == "top"]
        rows = {k: found.contexts["top"][k][at] for k in ("document", "position", "length", "value")}
        assert list(zip(rows["document"], rows["position"])) == places
        for c, length, value in zip(card.contexts, rows["length"], rows["value"]):
            assert len(c) == length and np.allclose(c.activations, value[:length], rtol=1e-6)
    found.seen, int(keep.numel() - keep.sum())


def test_a_text_without_positions_is_refused():
    with expect_fail(UsageError, "too short to see features"):
        gather(LM, {2: TOY}, TOKENS, {2: 0.0})


def test_token_counts_stay_within_bounds():
    draw, exact = np.random.default_rng(0), np.zeros((3, 500), dtype=np.int64)
    counts = TokenCounts(3, 500, pairs=64)
    for _ in range(20):
        latent, token = draw.integers(0, 3, 4000), (500 * draw.random(4000) ** 6).astype(int)
        np.add.at(exact, (latent, token), 1), counts.add(latent, token), counts.flush()
    assert len(counts.key) <= 64 * 3 and counts.lost.max() > 0
    latent, token = np.divmod(counts.key, 500)
    missed = exact[latent, token] - counts.times
    assert (missed >= 0).all() and (missed <= counts.lost[latent]).all()
    assert all(exact[i].argmax() == token[latent == i][counts.times[latent == i].argmax()] for i in range(3))
    dict(
        pairs=len(counts.key),
        of=int((exact > 0).sum()),
        may_have_missed=counts.lost.tolist(),
        most_missed=int(missed.max()),
    )
