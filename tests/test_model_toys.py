# Written from nbs/model/02_toys.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.toys import (
    toy_lm,
    toy_texts,
    toy_sae,
    Letters,
    letters_lm,
)


import tempfile

from saematch.model.lm import load_lm


def test_a_random_model_is_a_function_of_its_seed():
    one, again, other = (toy_lm(seed=seed) for seed in (0, 0, 1))
    ids = one.to_tokens("w1 w2 w3")
    assert ids.tolist() == [[0, 4, 5, 6]], "a token for each word, behind the one that starts a text"
    assert torch.equal(one(ids), again(ids)) and not torch.allclose(one(ids), other(ids))
    one.to_str_tokens(ids[0])


def test_a_toy_reads_its_texts_and_its_sae_is_sparse():
    lm, sae, texts = toy_lm(initializer_range=0.5), toy_sae(2), toy_texts()
    ids = lm.to_tokens(texts[3])
    assert ids.shape == (1, 24) and lm.cfg.dtype == torch.float64 and [len(t.split()) for t in texts[:2]] == [20, 21]
    with torch.no_grad():
        _, cache = lm.run_with_cache(ids, names_filter="blocks.2.hook_resid_post")
    active = (sae.encode(cache["blocks.2.hook_resid_post"][0, 1:]) > 0).double().mean()
    assert 0 < active < 0.25
    print(f"{active:.1%} of the latents are active on a token")


def test_the_toy_reads_letters():
    ids = Letters()("no cat")["input_ids"]
    assert "".join(chr(i - 1) for i in ids) == "no cat" and Letters.bos_token_id not in ids
    tokens = torch.tensor([[Letters.bos_token_id, *ids]])
    assert torch.equal(letters_lm()(tokens), letters_lm()(tokens)), "the seed is its own"
    ids
