# Written from nbs/studies/19_portrait.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.portrait import (
    snippet,
    plot_life,
)


import textwrap

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from fastcore.test import expect_fail

from saematch.matching.lineage import Lineages
from saematch.model.card import Context
from saematch.model.cards import cards
from saematch.saes.suite import load_suite
from saematch.studies.portrait import plot_life, snippet


def test_the_peak_is_always_in_the_snippet():
    tokens = [f" word{k}" for k in range(12)]
    for peak in (0, 5, 11):
        activations = np.eye(12)[peak] * 3.0
        text, shade = snippet(Context(tokens, activations, 0, peak, peak), 6.0, wide=20)
        assert len(text) == len(shade) == 20
        assert "".join(c for c, s in zip(text, shade) if s == 0.5) == tokens[peak], "half as strong as the strongest"
        assert set(text.split()) <= {t.strip() for t in tokens} | {"…"}, "whole words"
    snippet(Context(tokens, activations, 0, peak, peak), 6.0, wide=20)[0]


def test_the_picture_says_what_the_cards_say():
    matplotlib.use("Agg")
    suite = load_suite("smollm2-135m-resid")
    two, (i, j) = {l: cards(suite, l) for l in (14, 15)}, (1091, 1209)
    alone = [[k, -1] for k in range(2048) if k != i] + [[-1, k] for k in range(2048) if k != j]
    members = torch.tensor([[i, j], *alone])
    link = torch.full(members.shape, float("nan"))
    link[0, 0] = 0.57
    t = Lineages(members, (14, 15), (2048, 2048), torch.zeros(len(members)), link)
    said = [text.get_text() for text in plot_life(t.of(14, i), two, contexts=2).texts]
    assert {"14/1091", "15/1209", "0.57"} <= set(said)
    assert all(" ".join(textwrap.wrap(two[l][k].label, 26)[:1]) in said for l, k in ((14, i), (15, j)))
    top = [two[l][k].contexts[0] for l, k in ((14, i), (15, j))]
    assert all(c.tokens[c.peak].strip() in said for c in top), "the strongest token is a word of its own"
    said = [text.get_text() for text in plot_life(t.of(14, 0), two).texts]
    assert "layer 15: none" in said and "14/0" in said
    with expect_fail(KeyError, "15"):
        plot_life(t.of(14, i), {14: two[14]})
    plt.close("all")
