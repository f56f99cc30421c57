# Written from nbs/studies/11_weight_figures.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.weight_figures import (
    figure_5,
)


import matplotlib.pyplot as plt
import pandas as pd


def test_latents_that_are_never_active_give_no_verdict():
    latents = pd.DataFrame(dict(layer_a=0, layer_b=1, latent_b=[0, 1], cost=[1.0, 2.0], active_a=0, both=0, both_random=0))
    p = figure_5(dict(latents=latents))
    assert p.same is None and "no latent is active on twenty tokens" in p.ours
    plt.close("all")
