# Written from nbs/matching/10_draw.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

import torch

from saematch.matching.draw import Lineages
from saematch.matching.lineage import Chance


def small(**more):
    "Lineages over layers 4, 5, 6 of 2, 2 and 3 latents: one whole, one with a gap, two alone; a split and a merge."
    members = torch.tensor([[0, 1, 2], [1, -1, 0], [-1, 0, -1], [-1, -1, 1]])
    known = dict(gain=torch.tensor([0.9, 0.2, 0.0, 0.0]).double(), link=torch.full((4, 3), float("nan")).double())
    known["link"][0, :2], known["link"][1, 0] = torch.tensor([0.75, 0.625]).double(), 0.5
    info = dict(objective=1.1, bound=1.3, fingerprints=["a", "b", "c"], name="toy")
    one, nothing = torch.ones(1, dtype=torch.float64), torch.full((1, 3), float("nan"), dtype=torch.float64)
    drawn = Chance(torch.tensor([[1, -1, 2]]), torch.tensor([[6, -1, 6]]), 3 * one, nothing, nothing, one / 2, one / 4)
    forks = dict(forks=torch.tensor([[0, 0, 0, 1, 0], [1, 2, 1, 0, 1]]), q_forks=torch.tensor([0.01, 0.02]).double())
    return Lineages(members, (4, 5, 6), (2, 2, 3), **known, info=info | more, drawn={"parts": drawn}, **forks)


def test_a_picture_says_what_happened():
    t = small()
    drawing = t.of(4, 0)._repr_html_()
    assert "splits: 1, 0 of layer 5 (q = 0.01)" in drawing and "→ 1, 0" in drawing
    assert "two merge" in t.of(6, 1)._repr_html_() and "two merge" not in drawing
    assert t.of(4, 1)._repr_html_().count("stroke-dasharray") == 1 and "stroke-dasharray" not in drawing
    named = t.of(4, 0, labels={(4, 0): "<b>to</b>"})._repr_html_()
    assert "&lt;b&gt;to" in named and "<b>" not in named
