# Written from nbs/studies/15_report.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.report import (
    next_layer,
    findings,
    walked,
)


from pathlib import Path

import numpy as np
import pandas as pd


def test_the_sentences_follow_the_tables():
    agree = pd.DataFrame(dict(span=[2, 2, 3], agreement=[0.5, 0.7, 0.4], chance=0.01))
    assert walked(agree) == [
        "Walking 2 layers arrives at the directly matched latent in 60% of the cases, "
        "walking 3 layers in 40% (chance: 1.00%)."
    ]
    assert "walking 3" not in walked(agree[agree.span == 2])[0] and walked(agree[:0]) == []
    lost = agree.assign(agreement=[0.5, 0.7, float("nan")])  # nobody arrives after three layers
    assert walked(lost) == walked(agree[:2]) and "nothing to be compared with" in walked(lost[2:])[0]
    pairs = pd.DataFrame(dict(layer_a=[1, 1, 4], layer_b=[4, 4, 6], cosine=[0.8, 0.5, 0.9]))
    mse = pd.DataFrame(dict(block="all", method=["folded", "unfolded", "vanilla"], relative=[0.6, 0.7, 0.9]))
    said = findings(dict(mse=mse, pairs=pairs, agreement=agree[:0], chance_cosine=0.02))
    assert next_layer(pairs) == {1: 4, 4: 6} and len(said) == 2
    assert "differ by 0.60 of what" in said[0] and "unfolded 0.70, vanilla 0.90" in said[0]
    assert "median cosine of 0.80 (random pairs: 0.02); 66.7%" in said[1]
    level = pd.concat([mse, pd.DataFrame(dict(block="all", method=["strangers"], relative=[0.8]))])
    null = dict(strangers_cosine=np.array([0.2, 0.8, float("nan"), 0.1]))
    beside = findings(dict(mse=level, pairs=pairs, agreement=agree[:0], chance_cosine=0.02) | null)
    assert "0.60 of what random pairs differ by, strangers matched in the same way by 0.80 (1 is" in beside[0]
    assert "(strangers: 0.20, random pairs: 0.02); 66.7% of the pairs are above 0.7 (strangers: 33.3%)." in beside[1]
    own = pd.DataFrame(dict(block="all", method=["my rows", "my rows, strangers"], relative=[0.7, 0.85]))
    said = findings(dict(mse=pd.concat([mse, own]), pairs=pairs, agreement=agree[:0], chance_cosine=0.02))
    assert "vanilla 0.90, my rows 0.70, its strangers 0.85)" in said[0]
    none = findings(dict(mse=mse, pairs=pairs, agreement=agree[:0], chance_cosine=-0.004))[1]
    assert "random pairs: 0.00)" in none, "zero has no sign"
    lonely = dict(mse=mse, pairs=pairs, agreement=agree[:0], chance_cosine=0.02, strangers_cosine=np.full(3, np.nan))
    assert "differ by; of strangers it matches none (1 is" in findings(lonely)[0]
    nobody = dict(mse=mse[1:], pairs=pairs.assign(cosine=float("nan")), agreement=agree[:0], chance_cosine=0.02)
    assert findings(nobody) == [
        "With these options no latent of adjacent layers is matched, so there are no pairs to judge."
    ]
