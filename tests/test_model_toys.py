# Written from nbs/model/02_toys.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.toys import (
    random_lm,
    Letters,
    letters_lm,
)


import tempfile

from saematch.model.lm import load_lm


def test_a_random_model_is_a_function_of_its_seed():
    one, again, other = (load_lm(random_lm(tempfile.mkdtemp(), seed=seed), "cpu", torch.float64) for seed in (0, 0, 1))
    ids = one.to_tokens("w1 w2 w3")
    assert ids.tolist() == [[0, 4, 5, 6]], "a token for each word, behind the one that starts a text"
    assert torch.equal(one(ids), again(ids)) and not torch.allclose(one(ids), other(ids))
    one.to_str_tokens(ids[0])


def test_the_toy_reads_letters():
    ids = Letters()("no cat")["input_ids"]
    assert "".join(chr(i - 1) for i in ids) == "no cat" and Letters.bos_token_id not in ids
    tokens = torch.tensor([[Letters.bos_token_id, *ids]])
    assert torch.equal(letters_lm()(tokens), letters_lm()(tokens)), "the seed is its own"
    ids
