# Written from nbs/studies/10_panels.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.panels import (
    Panel,
    png,
    pick,
    mean,
    axes,
    as_written,
    lines,
    off_scale,
    silent,
)


import matplotlib.pyplot as plt
import pandas as pd


def test_names_with_dollars_are_drawn_as_they_are():
    from saematch.studies.figures import plt

    fig, ax = plt.subplots(figsize=(2, 1))
    ax.set_title(as_written(r"US$\frac$"))
    assert ax.title.get_text() == r"US\$\frac\$" and len(png(fig)) > 500


def test_a_panel_says_what_it_can():
    p = silent("5", "Distances", "no latent is active")
    assert p.same is None and p.verdict == "Cannot be said here." and "no latent is active" in p.ours
    fig, _ = plt.subplots()
    told = Panel("1", "A title", fig, "theirs", "ours", 3 > 2, "more than two")
    assert told.same is True and told.verdict == "The same." and fig.get_suptitle() == "1. A title"
    assert png(fig)[:4] == b"\x89PNG"
    plt.close("all")


def test_blind_routes_are_written_down_where_they_are_off_the_scale():
    rows = [
        dict(source="all", layer_a=a, layer_b=a + 1, route=r, metric="explained variance", value=v, low=v, high=v)
        for a in (0, 1)
        for r, v in (("match", 0.5), ("previous", 0.7), ("random", -3.0))
    ]
    tables = dict(scores=pd.DataFrame(rows), layers=[0, 1, 2])
    assert mean(tables, "explained variance", "match") == 0.5 and len(pick(tables, "explained variance", "greedy")) == 0
    fig, ax = axes()
    off_scale(
        lines(ax, tables, "explained variance", ("match", "previous", "random")),
        tables,
        "explained variance",
        ("match", "previous", "random"),
    )
    low, high = ax.get_ylim()
    assert low == 0 and 0.7 < high < 1 and [t.get_text() for t in ax.texts] == ["off the scale: random -3.00"]
    plt.close("all")
