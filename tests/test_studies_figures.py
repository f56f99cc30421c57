# Written from nbs/studies/01_figures.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.figures import (
    png,
    axes,
    label_lines,
    legend_below,
    plot_over_layers,
    plot_mse,
    plot_distribution,
    plot_agreement,
    plot_sorted,
    plot_nulls,
)


from io import BytesIO

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image


def test_plots_draw_the_numbers_they_are_given():
    matplotlib.use("Agg")
    ax = plot_sorted({"folded": np.array([3.0, 1.0, np.nan, 2.0])})
    assert ax.lines[0].get_ydata().tolist() == [1, 2, 3]
    ax = plot_sorted({"a tensor": torch.tensor([3.0, 1.0, float("nan"), 2.0])})
    assert ax.lines[0].get_ydata().tolist() == [1, 2, 3]
    ax = plot_nulls([0.0, 1.0, np.nan], {"rotation": torch.tensor([0.0, 0.0, 0.5, 1.0])}, bins=2)
    assert (
        [p.get_height() for p in ax.patches[:2]] == [0.5, 0.5]
        and len(ax.patches) == 3
        and ax.patches[2].get_xy()[:, 1].max() == 0.5
    )
    table = pd.DataFrame(dict(span=[2, 2, 3], agreement=[0.5, 0.6, 0.4]))
    ax = plot_agreement(table, chance=0.1)
    assert np.allclose(ax.lines[0].get_ydata(), [0.55, 0.4]) and ax.get_ylim() == (0, 0.75)
    mse = pd.DataFrame(
        dict(pair=["1 to 2", "2 to 3"] * 2, method=["folded"] * 2 + ["vanilla"] * 2, block="all", relative=[0.6, 0.7, 1, 1])
    )
    assert [line.get_ydata().tolist() for line in plot_mse(mse).lines[:2]] == [[0.6, 0.7], [1, 1]]
    ax = plot_over_layers(pd.DataFrame(dict(layer=[1, 2], quantity="t", mean=[1.0, 2.0], q05=[0.5, 1], q95=[2, 3])))
    assert ax.lines[0].get_ydata().tolist() == [1, 2] and len(ax.collections) == 1
    own = axes()
    pair = lambda *values: {"1 to 2": values}
    assert plot_distribution(pair(1.0, 2, 3), pair(2.0, 3, 5), pair(2.0, 2, 4), own) is own and len(own.get_xticks()) == 1
    assert [c.get_label() for c in own.collections if not c.get_label().startswith("_")] == [
        "matched",
        "strangers, matched as hard",
        "random pairs (median)",
    ]
    small, own.figure.dpi = png(own.figure), 100
    own.figure.savefig(whole := BytesIO(), format="png")
    shown, drawn = (np.asarray(Image.open(f).convert("RGB"), dtype=int) for f in (BytesIO(small), whole))
    assert Image.open(BytesIO(small)).mode == "P" and len(small) < 0.6 * len(whole.getvalue())
    assert np.abs(shown - drawn).mean() < 1
    plt.close("all")


def test_labels_stand_beside_their_lines_and_apart():
    matplotlib.use("Agg")
    ax = axes()
    for name, y in dict(a=[0, 1.0], b=[0, 0.99], c=[0.5, np.nan], _hidden=[0, 0.2]).items():
        ax.plot([0, 1], y, label=name)
    texts = {t.get_text(): t for t in label_lines(ax, gap=12).texts}
    assert list(texts) == ["c", "b", "a"] and texts["c"].xy == (1, 0.5)
    assert all(texts[line.get_label()].get_color() == line.get_color() for line in ax.lines[:3])
    ax.figure.canvas.draw()
    box = {name: t.get_window_extent() for name, t in texts.items()}
    assert box["a"].y0 - box["b"].y0 >= 11 * ax.figure.dpi / 72 and box["a"].x0 > ax.get_window_extent().x1
    plt.close("all")


def test_a_shared_legend_lists_each_name_once():
    matplotlib.use("Agg")
    _, panels = plt.subplots(1, 2)
    for panel, names in zip(panels, ("ab", "bc")):
        for name in names:
            panel.plot([0, 1], label=name)
    assert legend_below(panels) is panels
    (shared,) = panels[0].figure.legends
    assert [t.get_text() for t in shared.get_texts()] == ["a", "b", "c"]
    plt.close("all")
