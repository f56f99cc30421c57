# Written from nbs/saes/02_toys.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.toys import (
    random_sae,
    planted,
)


from fastcore.test import expect_fail


def test_toys_are_functions_of_their_seed_and_have_no_zero_parameters():
    one, again, other = random_sae(seed=3), random_sae(seed=3), random_sae(seed=4)
    for name, p in one.parameters().items():
        assert torch.equal(p, again.parameters()[name]) and not torch.equal(p, other.parameters()[name])
        assert (p != 0).all(), f"a zero in {name} hides a forgotten parameter"
    with expect_fail(ValueError, "at least one dimension and one latent, got d_model=0, d_sae=3"):
        random_sae(0, 3)
    {name: p.abs().min().item() for name, p in one.parameters().items()}


def test_planted_partners_are_close_and_noise_is_what_it_says():
    a = random_sae(256, 400, seed=5)
    b, truth = planted(a, decoder_noise=0.5, replaced=0.1, dead=0.05, seed=6)
    cos = torch.nn.functional.cosine_similarity
    kept = truth >= 0
    assert (truth < 0).sum() == 60 and truth[kept].unique().numel() == 340
    partner = cos(a.W_dec[kept], b.W_dec[truth[kept]])
    assert abs(partner.mean() - 1 / (1 + 0.5**2) ** 0.5) < 0.01
    assert cos(a.W_dec, b.W_dec)[kept].abs().mean() < 0.1, "without the permutation nothing fits"
    exact, order = planted(a, decoder_noise=0, encoder_noise=0, threshold_jitter=0, seed=7)
    assert torch.equal(exact.W_dec, a.permute(order).W_dec)
    partner.mean()


def test_shares_of_planted_latents_are_shares():
    with expect_fail(ValueError, "replaced=0.7 and dead=0.4 are shares of the latents"):
        planted(random_sae(), replaced=0.7, dead=0.4)
