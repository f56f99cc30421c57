"""Two SAEs are made comparable once on every path, and what a match remembers is what its costs were made in."""

from dataclasses import replace

import pytest
import torch

from saematch import descriptors, match
from saematch.judging.weights import weight_mse
from saematch.matching.descriptors import block_shares
from saematch.saes import gauge
from saematch.saes.gauge import comparable
from saematch.saes.toys import random_sae

a, b = random_sae(6, 12, seed=0), random_sae(6, 10, seed=1)
index = torch.arange(12).where(torch.arange(12) < 10, torch.tensor(-1))


@pytest.mark.parametrize(
    "path",
    [
        lambda: descriptors(a, b, balance="entry"),
        lambda: match(a, b),
        lambda: match(a, b, method="greedy", dead="exclude"),
        lambda: weight_mse(a, b, index),
        lambda: block_shares(a, b),
    ],
    ids=["descriptors", "match", "match greedy", "weight_mse", "block_shares"],
)
def test_every_path_asks_for_the_gauge_once_and_folds_each_sae_once(path, monkeypatch):
    asked, folded = [], []
    of, fold = gauge.gauge_of, gauge.fold
    monkeypatch.setattr(gauge, "gauge_of", lambda *args: asked.append(args) or of(*args))
    monkeypatch.setattr(gauge, "fold", lambda *args: folded.append(args) or fold(*args))
    path()
    assert len(asked) == 1 and len(folded) == 2


def test_the_gauge_of_a_match_is_the_one_its_costs_were_made_in():
    """A Gated SAE has thresholds of 0; where only dead latents have them, the latents that are matched are folded by
    threshold, and the match must say so."""
    without = torch.tensor([2, 5])
    gated = replace(
        a,
        threshold=a.threshold.index_fill(0, without, 0.0),
        W_dec=a.W_dec.index_fill(0, without, 0.0),
        info=dict(a.info, architecture="gated"),
    )
    alive = torch.tensor([i for i in range(12) if i not in (2, 5)])
    assert gauge.common_gauge(gated, b) == "decoder" and comparable(gated.select(alive), b).gauge == "threshold"
    m = match(gated, b, dead="exclude")
    assert m.info["excluded"] == [2, 0] and m.info["gauge"] == "threshold"
    X, Y = descriptors(gated.select(alive), b, fold="threshold")
    matched = m.matched[alive]
    by_hand = (X[matched] - Y[m.index[alive][matched]]).square().sum(1)
    torch.testing.assert_close(m.cost[alive][matched], by_hand)
