# Written from nbs/matching/10_draw.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.toys import forked_lineages


def test_a_picture_says_what_happened():
    t = forked_lineages()
    drawing = t.of(4, 0)._repr_html_()
    assert "splits: 1, 0 of layer 5 (q = 0.01)" in drawing and "→ 1, 0" in drawing
    assert "two merge" in t.of(6, 1)._repr_html_() and "two merge" not in drawing
    assert t.of(4, 1)._repr_html_().count("stroke-dasharray") == 1 and "stroke-dasharray" not in drawing
    named = t.of(4, 0, labels={(4, 0): "<b>to</b>"})._repr_html_()
    assert "&lt;b&gt;to" in named and "<b>" not in named
