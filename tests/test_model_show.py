# Written from nbs/model/10_show.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.show import (
    visible,
    show_match,
)


from dataclasses import replace

import numpy as np
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.model.card import Card, Context, FiresOn

NASTY = [
    "<script>alert(1)</script>",
    "&amp;",
    "\u202eabc",
    "\x1b[31m",
    "\n",
    "🎉",
    "\\xf0\\x9f",
    " שלום",
    '"><img src=x onerror=alert(2)>',
]


def toy_card(tokens=NASTY):
    "A card whose tokens are as bad as tokens can be."
    value = np.linspace(0, 2, len(tokens)).astype(np.float32)
    context = Context(list(tokens), value, 0, 8, len(tokens) - 1)
    fires = [FiresOn(t, 1, 1 / len(tokens), 1.0) for t in tokens]
    bins = np.linspace(0, 2, 33), np.r_[np.arange(32)]
    logits = [(t, 1.5) for t in tokens], [(t, -1.5) for t in tokens]
    head = dict(
        suite="<toy>", layer=2, latent=5, weights="", label="<b>bad</b>", seen=900, active=9, mean=1.0, largest=2.0
    )
    rest = dict(threshold=0.5, promoted=logits[0], suppressed=logits[1], neighbours=[(3, 0.5)], dead=False)
    return Card(**head, **rest, histogram=bins, contexts=[context], tokens=fires)


def test_nothing_in_a_token_acts():
    shown = [visible(t) for t in NASTY]
    assert shown[2] == "\\u202eabc" and shown[3] == "\\x1b[31m" and shown[4] == "↵" and shown[5] == "🎉"
    assert all(c.isprintable() for t in shown for c in t)
    shown


def test_a_page_without_markup_of_its_own():
    html = toy_card()._repr_html_()
    for bad in ("<script", "<img", "<b>bad", "\u202e", "\x1b", "<toy>"):
        assert bad not in html, bad
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and html.count("<mark") == len(NASTY) - 1
    assert 'title="2' in html and "⇥" not in html
    len(html)


def test_a_page_elsewhere_is_asked_for_by_its_address():
    there = replace(toy_card(), url="https://www.neuronpedia.org/gpt2-small/8-res-jb/55").iframe(height=300)
    with expect_fail(ValueError, "has no page on Neuronpedia"):
        toy_card().iframe()
    assert there.height == 300
    there.src


def test_refusals():
    import torch

    from saematch.matching.match import Match

    m = Match(torch.tensor([0, -1]), 2, torch.zeros(2).double())
    with expect_fail(UsageError, "is unmatched"):
        show_match(m, 1)
    with expect_fail(UsageError, "A has latents 0 to 1"):
        show_match(m, 2)
    with expect_fail(UsageError, "does not say which SAEs"):
        show_match(m, 0)
