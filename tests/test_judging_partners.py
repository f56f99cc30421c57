# Written from nbs/judging/23_partners.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.partners import (
    asked,
    detections,
    places,
    causal_scores,
)


import numpy as np
import torch

from saematch.judging.causal import Effects
from saematch.judging.meaning import cross_detection
from saematch.judging.worlds import Text


def test_who_means_the_same_is_found():
    g = torch.Generator().manual_seed(0)
    text = Text(torch.randint(0, 5, (600,), generator=g), torch.arange(600) // 60)
    f = torch.rand(600, 8, generator=g, dtype=torch.float64) * (torch.rand(600, 8, generator=g) < 0.2)
    b = torch.cat([f, torch.zeros(600, 1)], 1)  # the same latents, and a silent one
    own, none = torch.arange(8), torch.full((8,), 8)
    assert (detections(f, b, own, text) == 1).all() and (detections(f, b, none, text) == 0.5).all()
    other = detections(f, b, own.roll(1), text)
    i, j = 3, 2
    by_hand = [
        cross_detection(*p, text.token.numpy(), text.document.numpy()).value
        for p in ((f[:, i].numpy(), b[:, j].numpy()), (b[:, j].numpy(), f[:, i].numpy()))
    ]
    assert abs(other[3] - min(by_hand)) < 1e-12 and abs(other.mean() - 0.5) < 0.1
    few = own.masked_fill(own > 4, -1)
    assert len(detections(f, b, few, text)) == 5 and len(asked(f, most=3)) == 3
    other.mean()


def test_who_changes_most_is_first():
    changed = torch.tensor([[9.0, 1, 0, 0], [2, 5, 0, 0], [0, 4, 4, 1]])
    e = Effects(torch.tensor([0, 2, 4]), changed)
    index = torch.tensor([0, -1, 1, -1, 3])
    s = causal_scores(e, index)
    assert places(e, index).tolist() == [1, 1, 3] and abs(s["first"] - 2 / 3) < 1e-12
    assert abs(s["causal rank"] - 3 ** (1 / 3)) < 1e-12 and s["first low"] <= s["first"] <= s["first high"]
    assert places(e, torch.full((5,), 3)).tolist() == [3.5, 3.5, 3]
    assert np.isnan(causal_scores(e, torch.full((5,), -1))["first"])
    s
