# Written from nbs/studies/29_picture.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.picture import (
    costs_beside,
    plot_match,
)


import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from fastcore.test import expect_fail
from matplotlib.collections import LineCollection

from saematch import compose, load_suite, match, random_sae
from saematch.ground import UsageError
from saematch.studies.picture import costs_beside, plot_match


def test_a_match_is_drawn_beside_strangers():
    matplotlib.use("Agg")
    a, b = random_sae(8, 30, seed=0), random_sae(8, 30, seed=1)
    m = match(a, b)
    halves = lambda ax: sum("Poly" in type(c).__name__ for c in ax.collections)
    assert halves(m.plot()) == 1, "toys have no source, so that there is nothing to compare with"
    assert halves(match(a, b, rows=lambda s: s.W_dec).plot((a, b))) == 1, "rows of one's own are not remembered"
    assert halves(ax := m.plot((a, b))) == 2
    (chance,) = [c for c in ax.collections if isinstance(c, LineCollection) and "random" in str(c.get_label())]
    assert np.allclose(chance.get_segments()[0][:, 1], np.median(match(a, b, method="random").cost))
    with expect_fail(UsageError, "no pair of this match has a cost"):
        plot_match(compose(m, match(b, a)))
    plt.close("all")
