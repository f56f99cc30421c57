# Written from nbs/studies/12_text_figures.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.text_figures import (
    figure_7,
    figure_11,
    figure_16,
    figure_17,
)


import matplotlib.pyplot as plt
import pandas as pd


def test_a_verdict_follows_the_tables():
    def toy_tables(match, unfolded, half):  # explained variance; the loss is 1 minus it; the copy has 0.6
        values = {
            "match": match,
            "unfolded": unfolded,
            "quantile 0.5": half,
            "previous": 0.6,
            "current": 0.8,
            "layer drop": 0.7,
            "linear map": 0.9,
            "identity": -0.4,
            "random": -0.5,
        }
        rows = [
            dict(source="all", layer_a=a, layer_b=b, route=r, metric=m, value=x, low=x - 0.01, high=x + 0.01)
            for a, b in ((3, 7), (7, 12))
            for r, v in values.items()
            for m, x in (("explained variance", v), ("delta loss", 1 - v), ("matching score", v + 0.5))
        ]
        return dict(scores=pd.DataFrame(rows), layers=[3, 7, 12])


    verdicts = {}
    for match_, unfolded, half in ((0.75, 0.7, 0.77), (0.45, 0.4, 0.5), (0.55, 0.58, 0.5)):
        t = toy_tables(match_, unfolded, half)
        verdicts[match_, unfolded, half] = {
            p.number: p.same for p in (figure_7(t), figure_11(t), figure_16(t), figure_17(t))
        }
    plt.close("all")
    assert list(verdicts.values()) == [
        {"7 right": True, "11": True, "16": True, "17": True},
        {"7 right": True, "11": False, "16": True, "17": True},
        {"7 right": False, "11": False, "16": False, "17": False},
    ], verdicts
    pd.DataFrame(verdicts).T.rename_axis(["match", "unfolded", "half matched"])
