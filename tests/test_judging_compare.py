# Written from nbs/judging/17_compare.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.compare import (
    compare,
)


import torch
from fastcore.test import expect_fail

from saematch.matching.match import Match, match
from saematch.saes.toys import planted, random_sae


def test_the_truth_is_best():
    a = random_sae(24, 80, seed=0)
    b, truth = planted(a, decoder_noise=0.5, encoder_noise=0.5, seed=1)
    x = torch.randn(500, 24, generator=torch.Generator().manual_seed(2), dtype=a.dtype)
    right = Match(truth, 80, torch.zeros(80, dtype=torch.float64))
    table = compare({"truth": right}, a, b, x, x, torch.arange(500) // 50)
    assert list(table.index) == ["truth", "folded", "greedy", "identity", "random", "strangers"]
    score = table["Matching Score"]
    assert score.idxmax() in ("truth", "folded") and score["truth"] > max(0.5, 1.5 * score["strangers"])
    f, g = a.encode(x) != 0, b.encode(x) != 0
    by_hand = sum(int((f[:, i] & g[:, j]).sum()) for i, j in enumerate(truth.tolist())) / int(f.sum())
    assert abs(table.loc["truth", "Matching Score"] - by_hand) < 1e-12
    assert table.loc["truth", "low"] < by_hand < table.loc["truth", "high"]
    table[["Matching Score", "Jaccard", "cosine"]].round(2)


def test_states_and_matches_must_fit():
    a = random_sae(24, 80, seed=0)
    b, truth = planted(a, decoder_noise=0.5, encoder_noise=0.5, seed=1)
    x = torch.randn(50, 24, dtype=a.dtype)
    with expect_fail(ValueError, "hidden states of A must be [tokens, 24], they are [50, 23]"):
        compare({}, a, b, x[:, :23], x)
    with expect_fail(ValueError, "must be of the same tokens, they are of [50, 49]"):
        compare({}, a, b, x, x[:49])
    with expect_fail(TypeError, "'other' must be a match, as `match` makes it, not Tensor"):
        compare({"other": torch.arange(80)}, a, b, x, x)
    with expect_fail(ValueError, "the match 'other' is of 9 latents to 9, the SAEs have 80 and 80"):
        compare({"other": Match(torch.arange(9), 9, torch.zeros(9))}, a, b, x, x)
    none = Match(torch.full((80,), -1), 80, torch.full((80,), float("nan"), dtype=torch.float64))
    assert compare({"none": none}, a, b, x, x).loc["none", "matched"] == 0
