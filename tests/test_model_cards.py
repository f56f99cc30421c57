# Written from nbs/model/09_cards.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.cards import (
    make_cards,
    layers_with_cards,
    cards,
    card,
)


import tempfile
from pathlib import Path

import numpy as np
import torch
from fastcore.test import expect_fail

from saematch.ground import UnknownName, UsageError
from saematch.model.activations import hidden_states, norm_limits
from saematch.model.card import card_by_hand
from saematch.model.gather import within
from saematch.model.label import label
from saematch.model.text import tokenize
from saematch.model.toys import toy_lm, toy_sae, toy_texts
from saematch.saes.suite import Suite

LM = toy_lm(initializer_range=0.5)
TOKENS = tokenize(LM, toy_texts())


class Toys(dict):
    "A suite in memory."

    name, layers = "toys", [1, 2]


SUITE = Toys({1: toy_sae(1), 2: toy_sae(2, 4)})


def test_files_say_what_the_definition_says():
    folder = make_cards(SUITE, LM, TOKENS, tempfile.mkdtemp(), share=3, progress=False)
    limits = norm_limits(LM, TOKENS[torch.arange(0, 12, 4)], SUITE)
    states = hidden_states(LM, TOKENS, SUITE)
    keep = within(states, limits) & TOKENS.counted
    for latent in range(24):
        file, hand = card(SUITE, 2, latent, folder), card_by_hand(SUITE[2], latent, TOKENS, states[2], keep, LM, "toys")
        for name in ("suite", "layer", "latent", "weights", "seen", "active", "dead", "duplicate_of", "url"):
            assert getattr(file, name) == getattr(hand, name), name
        for name in ("mean", "largest", "threshold"):
            assert np.isclose(getattr(file, name), getattr(hand, name)), name
        assert np.allclose(file.histogram[0], hand.histogram[0]) and (file.histogram[1] == hand.histogram[1]).all()
        for a, b in zip(file.contexts, hand.contexts, strict=True):
            assert (a.tokens, a.document, a.position, a.peak, a.quantile) == (
                b.tokens,
                b.document,
                b.position,
                b.peak,
                b.quantile,
            )
            assert np.allclose(a.activations, b.activations, rtol=1e-6)
        assert file.tokens == hand.tokens
        top = [(c.tokens, c.peak) for c in hand.contexts if c.quantile == "top"]
        assert file.label == str(label(hand.tokens, hand.active, top, [t for t, _ in hand.promoted]))
        for name in ("promoted", "suppressed", "neighbours"):
            for (a, x), (b, y) in zip(getattr(file, name), getattr(hand, name), strict=True):
                assert a == b and np.isclose(x, y, rtol=1e-5)
    file


def test_the_shared_documents_hold_every_activation():
    folder = make_cards(SUITE, LM, TOKENS, tempfile.mkdtemp(), share=3, progress=False)
    found = cards(SUITE, 1, folder)
    states, shared = hidden_states(LM, TOKENS, [1])[1], found.header["shared"]
    for latent in (0, 7, 23):
        f = SUITE[1].encode(states)[..., latent]
        for r in found.row(latent)["shared"]:
            assert r["document"] in shared and np.isclose(r["value"], f[r["document"], r["position"]])
        limits = norm_limits(LM, TOKENS[torch.arange(0, 12, 4)], SUITE)
        keep = within(hidden_states(LM, TOKENS, SUITE), limits) & TOKENS.counted
        assert len(found.row(latent)["shared"]) == int((f * keep)[shared].count_nonzero())
    shared


def test_what_is_not_there_is_named():
    folder = make_cards(SUITE, LM, TOKENS, tempfile.mkdtemp(), share=3, progress=False)
    with expect_fail(UnknownName, "its latents are 0 to 23"):
        card(SUITE, 2, 24, folder)
    with expect_fail(UsageError, "make them with: saematch cards toys"):
        card(SUITE, 2, 0, tempfile.mkdtemp())
    with expect_fail(UsageError, "there are cards of"):
        card(SUITE, 3, 0, folder)
    with expect_fail(UsageError, "made from other weights"):
        card(Toys({2: toy_sae(2, 9)}), 2, 0, folder)
    assert card(str(folder), 2, 3).latent == 3 and layers_with_cards(folder) == [1, 2], "a folder that holds cards itself"
    with expect_fail(UsageError, "there are cards of"):
        card(folder, 3, 0)
    for name in ("layer_2", "words", "texts"):
        whole = (path := folder / f"{name}.parquet").read_bytes()
        path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
        with expect_fail(ValueError, "is damaged: what it holds does not fit its checksum"):
            card(SUITE, 2, 0, folder)
        path.write_bytes(b"PAR1 no")
        with expect_fail(ValueError, "make the cards again with: saematch cards toys"):
            card(SUITE, 2, 0, folder)
        path.unlink()
        with expect_fail(ValueError if name != "layer_2" else UsageError, "with: saematch cards toys"):
            card(SUITE, 2, 0, folder)
        path.write_bytes(whole)
        assert card(SUITE, 2, 0, folder).latent == 0


def test_latents_are_found_by_tokens_and_by_labels():
    folder = make_cards(SUITE, LM, TOKENS, tempfile.mkdtemp(), share=3, progress=False)
    found = cards(SUITE, 2, folder)
    latent = max(found, key=lambda i: found[i].active)
    token = found[latent].tokens[0]
    table = found.find(token.token, count=24).set_index("latent")
    held = lambda i: token.token.strip() in found[i].label.replace(",", " ").split()
    shares = lambda i: sum(t.share for t in found[i].tokens if t.token.strip() == token.token.strip())
    assert len(table) and table.score.is_monotonic_decreasing
    assert all(np.isclose(table.score.get(i, 0), shares(i) + held(i)) for i in found)
    named = next(i for i in found if found[i].label not in ("", "unclear"))
    words = found[named].label.replace(",", " ")
    assert named in found.find(words, count=24).query("score >= 1").latent.tolist()
    assert len(found.find("nonsense")) == 0
    with expect_fail(UsageError, "nothing to find"):
        found.find(" ")
    found.find(token.token, count=3)
