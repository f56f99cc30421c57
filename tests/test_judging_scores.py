# Written from nbs/judging/03_scores.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.scores import (
    pair_scores,
)


import numpy as np
import pandas as pd
from fastcore.test import expect_fail

from saematch.lap.metric import cost_matrix
from saematch.matching.descriptors import descriptors
from saematch.matching.match import match
from saematch.saes.toys import planted, random_sae


def test_scores_are_those_of_the_whole_matrix():
    a = random_sae(8, 40, seed=0)
    b = planted(a, decoder_noise=1.5, encoder_noise=1.5, seed=1).sae
    m = match(a, b)
    s = pair_scores(a, b, m, tile=100)  # tiles of 2 rows
    C = cost_matrix(*descriptors(a, b)).numpy()
    for i, j in enumerate(m.index.tolist()):
        row, column = np.delete(C[i], j), np.delete(C[:, j], i)
        assert (
            abs(s.distance[i] - C[i, j]) < 1e-9
            and s.rank_row[i] == (row < C[i, j]).sum()
            and s.rank_column[i] == (column < C[i, j]).sum()
        )
        assert abs(s.margin[i] - (min(row.min(), column.min()) - C[i, j])) < 1e-9
    with expect_fail(ValueError, "a match of another pair"):
        pair_scores(a, random_sae(8, 41), m)
    with expect_fail(ValueError, "40 pairs cost other than the match says"):
        pair_scores(a, random_sae(8, 40, seed=5), m)
    s.head()


def test_slack_is_a_lower_bound_on_what_the_pair_is_worth():
    from scipy.optimize import linear_sum_assignment

    a = random_sae(16, 120, seed=0)
    b = planted(a, decoder_noise=1.5, encoder_noise=1.5, replaced=0.2, seed=1).sae
    m, C = match(a, b), cost_matrix(*descriptors(a, b)).numpy()
    s, worth = pair_scores(a, b, m), []
    for i, j in enumerate(m.index.tolist()):
        forbidden = C.copy()
        forbidden[i, j] = 1e6
        worth.append(forbidden[linear_sum_assignment(forbidden)].sum() - m.objective)
    worth = pd.Series(worth)
    assert (s.slack <= worth + 1e-9).all() and (s.slack >= 0).all() and (s.slack > 0.5 * worth).mean() > 0.5
    dict(
        share_of_the_worth_that_slack_proves=(s.slack / worth).median(),
        rank_correlation=worth.corr(s.slack, method="spearman"),
        rank_correlation_of_margin=worth.corr(s.margin, method="spearman"),
    )
