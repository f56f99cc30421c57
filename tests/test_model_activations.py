# Written from nbs/model/04_activations.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.activations import (
    hidden_states,
    norm_limits,
)


import tempfile

from torch.testing import assert_close

from saematch.model.lm import load_lm, quiet
from saematch.model.text import tokenize
from saematch.model.toys import random_lm


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
    lm = load_lm(random_lm(tempfile.mkdtemp(), "gemma2"), "cpu", torch.float64)
    tokens = tokenize(lm, ["w1 w2 w3 w4 w5 w6", "w9 w8 w7"])
    limits = norm_limits(lm, tokens, [1], times=2.0, batch=1)
    assert_close(limits[1], 2 * hidden_states(lm, tokens, [1])[1][tokens.counted].norm(dim=-1).median().item())
    limits
