# Written from nbs/studies/32_pages.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.pages import (
    draw_match,
    draw_lineages,
    page_of,
    cell,
)


import matplotlib

from saematch.matching.match import match
from saematch.saes.suite import load_suite
from saematch.saes.toys import planted, random_sae
from saematch.studies.toys import few_lineages


def test_a_page_says_what_was_looked_at():
    matplotlib.use("Agg")
    a = random_sae(8, 24)
    b = planted(a, seed=1).sae
    m = match(a, b)
    assert "strangers were not looked at" in draw_match(m).get_title()
    assert "of the pairs cost less than" in draw_match(m, (a, b)).get_title()
    t = few_lineages()
    assert draw_lineages(t).get_title() == "4 lineages of two layers or more,\n1 through all 3"
    written = page_of(t, "user/t", "mit")
    assert written.startswith("---\nlicense: mit\n") and "![what it looks like](figure.png)" in written
    assert "No licence was given" in page_of(m, "user/m", None, False) and "figure.png" not in page_of(
        m, "u/m", None, False
    )
    assert cell("a|<b>") == "a&#124;&#60;b&#62;"
    matplotlib.pyplot.close("all")
