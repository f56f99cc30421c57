# Written from nbs/studies/13_meaning_figures.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.meaning_figures import (
    OFFLINE,
    judges,
    means,
    published,
    figure_4,
    figure_6,
    figure_7_left,
    figure_8,
)


import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from saematch.ground import notebook_data
from saematch.studies.scores import load_run

tables = load_run(notebook_data("paper"))


def test_levels_and_their_means():
    g = np.random.default_rng(0)
    toy = pd.DataFrame(dict(layer_a=0, layer_b=1, route=["match"] * 60 + ["random"] * 60, latent_a=0, latent_b=0, cost=0.0))
    toy["level"] = [*g.integers(1, 4, 60), *[1] * 40, *[0] * 20]
    found = means(toy, "route")
    match_level = toy.level[:60].to_numpy(float)
    assert found.value["match"] == match_level.mean() and found.value["random"] == 1 and found.features["random"] == 40
    draws = g.choice(match_level, (2000, 60)).mean(1)
    assert np.allclose([found.low["match"], found.high["match"]], np.quantile(draws, [0.025, 0.975]), atol=0.05)
    assert published(dict(suite="gemma-scope-2b-pt-res-canonical"), 12, 25).endswith("SAE Match 1.26, Semantic OT 1.83.")
    assert published(dict(suite="smollm2"), 12, 25) == ""
    found.round(2)


def test_a_run_without_verdicts_has_no_such_figures():
    few = tables["meanings"].assign(level=0)
    quiet = {
        k: f(dict(tables, meanings=few)).same for k, f in dict(a=figure_4, b=figure_6, c=figure_7_left, d=figure_8).items()
    }
    assert set(quiet.values()) == {None}
    answers = tables["meanings"].assign(judge="toy/model")
    panel = figure_7_left(dict(tables, answers=answers), "toy/model")
    assert panel.number == "7 left, toy/model" and panel.ours.startswith("Mean level by the toy/model")
    assert judges(dict(tables, answers=answers)) == [OFFLINE, "toy/model"] and judges({}) == []
    plt.close("all")
