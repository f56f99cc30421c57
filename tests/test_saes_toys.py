# Written from nbs/saes/02_toys.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.toys import (
    random_sae,
    planted,
    planted_suite,
)


from fastcore.test import expect_fail

from saematch.saes.sae import SAE


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


def test_a_planted_suite_keeps_its_books():
    w = planted_suite(random_sae(32, 300, seed=2), layers=5, width=100, seed=3)
    again = planted_suite(random_sae(32, 300, seed=2), layers=5, width=100, seed=3)
    assert all(torch.equal(w.suite[x].W_dec, again.suite[x].W_dec) for x in w.suite) and w.lineages.equals(again.lineages)
    seen = w.lineages.groupby("lineage").layer
    assert all(sorted(k) == list(range(100)) for _, k in w.lineages.groupby("layer").latent)
    assert (seen.nunique() == seen.size()).all(), "at most one latent a layer"
    at = {(k, x): i for k, x, i in w.lineages.itertuples(index=False)}
    for event, x, k, other in w.events.itertuples(index=False):
        inside = {
            "birth": (k, x) in at and (k, x - 1) not in at,
            "death": (k, x) in at and max(seen.get_group(k)) == x,
            "gap": (k, x) not in at and (k, x - 1) in at and (k, x + 1) in at,
            "split": (k, x) in at and (k, x + 1) in at and (other, x + 1) in at and min(seen.get_group(other)) == x + 1,
            "merge": (k, x) in at and (other, x - 1) in at and max(seen.get_group(other)) == x - 1,
        }
        assert inside[event], (event, x, k, other)
    assert set(w.events.event) == {"birth", "death", "gap", "split", "merge"}


def test_a_planted_parent_is_the_sum_of_its_children():
    w = planted_suite(random_sae(64, 400, seed=2), layers=3, width=150, noise=0.0, seed=1)
    at = {(k, x): w.suite[x].W_dec[i] for k, x, i in w.lineages.itertuples(index=False)}
    for event, x, k, other in w.events.itertuples(index=False):
        if event == "split":
            C, p = torch.stack([at[k, x + 1], at[other, x + 1]]), at[k, x]
            weights = torch.linalg.lstsq(C.T, p[:, None]).solution[:, 0]
            assert (weights > 0).all() and (weights @ C - p).norm() < 1e-9 * p.norm()
    same = planted_suite(random_sae(64, 400, seed=2), layers=2, width=150, shared=1.0, noise=0.0, seed=1)
    u, v = same.suite[0].W_dec, same.suite[1].W_dec
    assert torch.nn.functional.cosine_similarity(u, v).min() > 0.2, "an index has something in common in all layers"


def test_worlds_that_cannot_be_are_refused():
    with expect_fail(ValueError, "no room for all"):
        planted_suite(random_sae(), gap=0.2)
    with expect_fail(ValueError, "too few latents for all births: 64"):
        planted_suite(random_sae(), width=60, death=0.5)
    with expect_fail(ValueError, "a planted suite needs two layers"):
        planted_suite(random_sae(), layers=1)
    with expect_fail(ValueError, "noise must be a number from 0"):
        planted_suite(random_sae(), noise=float("nan"))
