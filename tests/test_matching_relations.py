# Written from nbs/matching/06_relations.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.relations import (
    pursue,
    relations,
)


from dataclasses import replace

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.saes.toys import planted, random_sae


def test_pursuit_against_least_squares():
    g = torch.Generator().manual_seed(0)
    X, Y, L = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((20, 12), (50, 12), (12, 12)))
    index, weight = pursue(X, Y, 4, L @ L.T, tile=7)
    for i in range(20):
        chosen, left = [], X[i] @ L
        for _ in range(4):
            chosen.append(int(((Y @ L @ left).abs() / (Y @ L).norm(dim=1)).argmax()))
            w = torch.linalg.lstsq((Y[chosen] @ L).T, X[i] @ L).solution
            left = X[i] @ L - w @ Y[chosen] @ L
        assert index[i].tolist() == chosen
        assert_close(weight[i], w, rtol=1e-6, atol=1e-8)
    index, weight = pursue(Y[:5] * 3, Y, 4)
    assert index[:, 0].tolist() == [0, 1, 2, 3, 4] and (index[:, 1:] == -1).all()  # nothing is left after one
    assert_close(weight[:, 0], torch.full((5,), 3.0, dtype=torch.float64))


def test_every_latent_allowed_is_re_encoding():
    a, b = random_sae(16, 40, seed=0, apply_b_dec_to_input=True), random_sae(16, 48, seed=1)
    f = a.encode(torch.randn(200, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    for common in (False, True):
        r = relations(a, b, k=48, common=common)
        assert_close(r.write(f), a.decode(f))
        assert_close(r.apply(f), b.encode(a.decode(f)))
        assert r.matrix().to_dense().shape == (40, 48)
    M = a.W_dec @ b.W_enc
    z = f @ M + (a.b_dec - b.b_dec * b.apply_b_dec_to_input) @ b.W_enc + b.b_enc  # the dense map, written out
    assert_close(r.apply(f), z * (z > b.threshold))
    many = relations(a, b, k=20, common=False)  # 16 are enough for 16 dimensions
    assert_close(many.write(f), a.decode(f))
    assert ((many.index >= 0).sum(1) == 16).all()  # and no row takes more, though 20 are allowed


def test_one_successor_each_is_a_match():
    a = random_sae(32, 50, seed=0)
    b, truth = planted(a, decoder_noise=0.3, encoder_noise=0.3, seed=1)
    r = relations(a, b, k=1, common=False, length="shadow")
    assert torch.equal(r.match().index, truth) and (r.frame().cosine > 0.8).all()
    assert_close(r.rows(), r.weight * b.W_dec[r.index[:, 0]])
    with expect_fail(ValueError, "only relations with one successor"):
        relations(a, b, k=2).match()
    with expect_fail(ValueError, "is matched to"):
        relations(a, b.select(torch.arange(10)), k=1).match()


def test_dead_latents_have_no_relations():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    W_a, W_b = a.W_dec.clone(), b.W_dec.clone()
    W_a[3], W_b[5] = 0, 0
    a, b = replace(a, W_dec=W_a), replace(b, W_dec=W_b)
    r = relations(a, b, k=3)
    assert (r.index[3] == -1).all() and (r.weight[3] == 0).all() and r.common[3] == 0
    assert 5 not in r.index and set(r.frame().latent) == set(range(40)) - {3}


def test_relations_follow_their_latents():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 50, seed=1)
    g = torch.Generator().manual_seed(0)
    p, q = torch.randperm(40, generator=g), torch.randperm(50, generator=g)
    r, s = relations(a, b, k=3), relations(a.permute(p), b.permute(q), k=3)
    assert torch.equal(s.index[p], q[r.index])
    assert_close(s.weight[p], r.weight), assert_close(s.common[p], r.common)
    scale = torch.rand(50, generator=g, dtype=torch.float64) + 0.5
    t = relations(a, b.rescale(scale), k=3)
    assert torch.equal(t.index, r.index)
    assert_close(t.rows(), r.rows())
    assert_close(relations(a, b, k=3, tile=100).weight, r.weight)  # tiles do not show


def test_bad_relations_are_refused():
    from unittest import mock

    from saematch.saes.sae import SAE

    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    for k in (0, 41, 2.0, True):
        with expect_fail(ValueError, "k is the number of successors, from 1 to the 40 latents of B"):
            relations(a, b, k=k)
    with expect_fail(ValueError, "d_model is 16 in A and 8 in B"):
        relations(a, random_sae(8, 40))
    at = lambda s, hook: replace(s, info=dict(hook_name=hook))
    with expect_fail(UsageError, "A reads hook_resid_post and B reads hook_mlp_out"):
        relations(at(a, "blocks.3.hook_resid_post"), at(b, "blocks.4.hook_mlp_out"))
    with expect_fail(UsageError, "a transcoder reads one place and writes another"):
        relations(replace(a, transcoder=True), replace(b, transcoder=True))
    with expect_fail(ValueError, "length must be one of keep, shadow, least"):
        relations(a, b, length="long")
    with expect_fail(ValueError, "reading is the weight"):
        relations(a, b, reading=float("nan"))
    with expect_fail(ValueError, "f has 39 activations a token, the relations start from 40 latents"):
        relations(a, b).apply(torch.zeros(2, 39, dtype=torch.float64))
    with expect_fail(UsageError, "other SAEs have no encoder per latent, and relations and splits read with it"):
        relations(a, random_sae(16, 40, activation="other"))
    with mock.patch.object(SAE, "device", property(lambda s: torch.device("cuda:0" if s is b else "cpu"))):
        with expect_fail(UsageError, "A is on cpu and B on cuda:0: bring both to one device, as b.to('cpu')"):
            relations(a, b)
    with expect_fail(TypeError, "A must be a saematch SAE"):
        relations(3, b)
