# Written from nbs/judging/25_recomputed.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.recomputed import (
    NEAR,
    links_and_gains,
    grouped,
    gains_of_strangers,
    Group,
)


import torch

from saematch.judging.depth import lineages
from saematch.saes.toys import planted_suite, random_sae


def small_suite():
    "Four layers of planted features."
    a = random_sae(12, 180, seed=3, dtype=torch.float32)
    return planted_suite(a, layers=4, width=60, noise=0.4, seed=1).suite


def test_lineages_follow_from_weights_and_strangers():
    suite = small_suite()
    t = lineages(suite, progress=False)
    tau = {int(s): v for s, v in t.info["thresholds"].items()}
    link, gain = links_and_gains(t.members, list(suite.values()), tau)
    assert torch.allclose(link.nan_to_num(), t.link.nan_to_num(), atol=NEAR) and torch.equal(link.isnan(), t.link.isnan())
    assert torch.allclose(gain[t.lengths > 1], t.gain[t.lengths > 1], atol=NEAR * 16)
    for gains in (gains_of_strangers(t, list(suite.values()), tau), None):
        group = lambda low, high, gains=gains: Group(t, gains, low, high)
        assert grouped(lambda low, high: group(low, high).q_follows(), 4)
        assert grouped(lambda low, high: group(low, high).p_follows(), 4)
        assert grouped(lambda low, high: group(low, high).strangers_follow(), 4)
    stronger = {kind: g + 10 for kind, g in gains_of_strangers(t, list(suite.values()), tau).items()}
    assert not grouped(lambda low, high: Group(t, stronger, low, high).p_follows(), 4), "other strangers, other p-values"
