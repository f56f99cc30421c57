# Written from nbs/model/04_activations.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.activations import (
    hidden_states,
    norm_limits,
    ordinary,
)


import math
import tempfile

import pytest
import torch
from torch.testing import assert_close

from saematch.model.lm import load_lm, quiet
from saematch.model.text import Tokens, tokenize
from saematch.model.toys import random_lm, toy_lm


def test_states_are_those_of_hugging_face():
    from transformers import AutoModelForCausalLM

    for kind in ("llama", "gemma2"):
        folder = random_lm(tempfile.mkdtemp(), kind)
        lm = load_lm(folder, "cpu", torch.float64)
        tokens = tokenize(lm, ["w1 w2 w3 w4 w5 w6", "w9 w8 w7"])
        with quiet():
            hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        with torch.no_grad():
            theirs = hf(tokens.ids, output_hidden_states=True).hidden_states
        ours = hidden_states(lm, tokens, [0, 2])
        for layer in (0, 2):  # to 1e-6, since rotary angles are float32 there
            assert_close(ours[layer], theirs[layer + 1], rtol=0, atol=1e-6 * theirs[layer + 1].abs().max().item())
    {kind: tuple(x.shape) for kind, x in ours.items()}


def test_limits_are_multiples_of_the_median():
    lm = toy_lm("gemma2")
    tokens = tokenize(lm, ["w1 w2 w3 w4 w5 w6", "w9 w8 w7"])
    limits = norm_limits(lm, tokens, [1], times=2.0, batch=1)
    assert_close(limits[1], 2 * hidden_states(lm, tokens, [1])[1][tokens.counted].norm(dim=-1).median().item())
    limits


def test_ordinary_positions_are_text_of_ordinary_length():
    tokens = Tokens(torch.tensor([[0, 5, 6, 7], [0, 8, 0, 1]]), torch.tensor([4, 3]), special=(0,))
    states = torch.ones(2, 4, 8)
    states[0, 0] *= 1000  # the first position is no text: its length changes no median
    states[0, 2] *= 5.1
    assert ordinary(states, tokens).int().tolist() == [[0, 1, 0, 1], [0, 1, 0, 0]]
    assert ordinary(states, tokens, times=6).int().tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert not ordinary(states, tokens, limit=1.0).any(), "every state is longer than that"
    assert torch.equal(ordinary(states, tokens, limit=math.inf), tokens.counted)
    ordinary(states, tokens).int()


def test_ordinary_and_norm_limits_mean_the_same():
    lm = toy_lm("gemma2")
    tokens = tokenize(lm, ["w1 w2 w3 w4 w5 w6", "w9 w8 w7"])
    states, limit = hidden_states(lm, tokens, [1])[1], norm_limits(lm, tokens, [1], times=1.0)[1]
    assert torch.equal(ordinary(states, tokens, times=1.0), ordinary(states, tokens, limit))
    f"{int(ordinary(states, tokens, limit).sum())} of {int(tokens.counted.sum())} are at most as long as the median"


def test_states_that_are_nan_are_not_shown():
    tokens, broken = Tokens(torch.full((2, 7), 5), torch.tensor([7, 4])), torch.ones(2, 7, 8)
    broken[1, 2] = math.nan
    with pytest.raises(ValueError, match="1 of 14 hidden states are NaN"):
        ordinary(broken, tokens)
