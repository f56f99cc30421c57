# Written from nbs/studies/14_paper.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.paper import (
    MEANING,
    FIGURES,
    NEEDS_LOSS,
    panels,
    write_paper,
)


import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from saematch.ground import notebook_data
from saematch.studies.scores import load_run


def test_figures_without_numbers_are_left_out():
    tables = load_run(notebook_data("paper"))
    scores = tables["scores"]


    def numbers(scores):
        found = panels(tables | dict(scores=scores))
        plt.close("all")
        return [p.number for p in found]


    assert numbers(scores) == list(FIGURES)
    assert not set(numbers(scores[scores.metric != "delta loss"])) & set(NEEDS_LOSS)
    few = {k: v for k, v in tables.items() if k != "meanings"}
    assert not {p.number for p in panels(few)} & set(MEANING)
    plt.close("all")
    assert not set(numbers(scores[~scores.route.str.startswith("quantile")])) & {"16", "17"}
    with tempfile.TemporaryDirectory() as folder:
        page = write_paper(folder, "a <suite>", panels(tables, ("3",)))
        assert "a &lt;suite&gt;" in page.read_text() and (Path(folder) / "paper" / "figure_3.png").stat().st_size > 1000
    plt.close("all")
    numbers(scores[scores.metric != "delta loss"])
