# Written from nbs/saes/01_sae.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.sae import (
    LATENT,
    SAE,
    permute,
    rescale,
)


from dataclasses import replace

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.saes import toys
def random_sae(*size, **settings):
    "A toy of saes/02_toys as an SAE of this notebook."
    toy = toys.random_sae(*size, **settings)
    return SAE(**toy.parameters(), **toy.settings(), info=toy.info)


sae = random_sae()
x = 2 * torch.randn(100, sae.d_model, dtype=sae.dtype, generator=torch.Generator().manual_seed(1))


def test_encode_and_decode_are_the_equations():
    for flag in (False, True):
        toy = random_sae(5, 7, seed=3, apply_b_dec_to_input=flag)
        token, f = x[0, :5], []
        for i in range(7):
            z = toy.b_enc[i] + sum((token[k] - flag * toy.b_dec[k]) * toy.W_enc[k, i] for k in range(5))
            f.append(z if z > toy.threshold[i] else torch.zeros_like(z))
        x_hat = toy.b_dec + sum(f[i] * toy.W_dec[i] for i in range(7))
        assert sum(v > 0 for v in f) > 0
        assert_close(toy.encode(token), torch.stack(f))
        assert_close(toy.decode(toy.encode(token)), x_hat)
    x_hat


def test_normalised_sae_reconstructs_in_the_size_of_the_hidden_state():
    for normalize in ("layer_norm", "constant_norm_rescale"):
        toy, other = random_sae(normalize=normalize), random_sae(normalize=normalize, seed=1)
        assert_close(toy.encode(10 * x), toy.encode(x), rtol=1e-4, atol=1e-4)
        assert_close(toy.reconstruct(10 * x), 10 * toy.reconstruct(x), rtol=1e-3, atol=1e-3)
        assert_close(other.decode(toy.encode(x), like=10 * x), 10 * other.decode(toy.encode(x), like=x))
    (toy.reconstruct(10 * x) / toy.reconstruct(x)).mean()


def test_permute_scatters_and_keeps_the_function():
    index = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(index[index], torch.arange(sae.d_sae)), "an involution would hide a wrong direction"
    exact = lambda p: (p * 2**10).round() / 2**10
    toy, token = replace(sae, **{name: exact(p) for name, p in sae.parameters().items()}), exact(x)
    f, moved = toy.encode(token), permute(toy, index)
    g = torch.empty_like(f)
    g[..., index] = f
    assert torch.equal(moved.encode(token), g)
    assert not torch.allclose(moved.encode(token), f[..., index]), "the gather is the inverse permutation"
    assert_close(moved.decode(g), toy.decode(f))
    assert_close(permute(sae, index).reconstruct(x), sae.reconstruct(x))
    (permute(sae, index).reconstruct(x) - sae.reconstruct(x)).abs().max()


def test_rescale_multiplies_activations_and_keeps_the_function():
    s = torch.rand(sae.d_sae, dtype=sae.dtype, generator=torch.Generator().manual_seed(3)) + 0.1
    f, scaled = sae.encode(x), rescale(sae, s)
    assert_close(scaled.encode(x), f * s)
    assert_close(scaled.decode(f * s), sae.decode(f))
    (scaled.decode(f * s) - sae.decode(f)).abs().max()


def test_rescaling_reads_again_only_what_may_not_be_finite():
    toy = random_sae(dtype=torch.float32)
    assert rescale(toy, 3.0).checked["W_enc"].largest == 3 * toy.W_enc.abs().max().item()
    with expect_fail(ValueError, "W_enc has 0 NaN and 1024 infinite of 1,024 values"):
        rescale(replace(toy, W_enc=toy.W_enc.sign() * 1e30), 1e30)
    assert torch.isfinite(rescale(replace(toy, W_enc=toy.W_enc.sign() * 1e30), 1e8).W_enc).all()
    assert torch.isfinite(
        rescale(
            replace(toy, W_enc=toy.W_enc * (torch.arange(64) > 0)), torch.ones(64).index_fill(0, torch.tensor(0), 1e38)
        ).W_enc
    ).all(), "bounds are not values"
    toy.W_dec[5, 3] = torch.nan
    with expect_fail(ValueError, "W_dec has 1 NaN and 0 infinite of 1,024 values, the first at [5, 3]"):
        rescale(toy, 3.0)


def test_every_row_of_the_table_matters():
    scaled, f = rescale(sae, 2.0), sae.encode(x)
    off = {
        k: (
            replace(scaled, **{k: getattr(sae, k)}).decode(replace(scaled, **{k: getattr(sae, k)}).encode(x))
            - sae.decode(f)
        )
        .abs()
        .max()
        .item()
        for k in LATENT
    }
    assert min(off.values()) > 0.01
    off


def test_topk_keeps_the_largest_and_one_scale_for_all():
    for rule in ("topk", "abstopk"):
        toy = random_sae(activation=rule, k=5)
        z = toy.prepare(x) @ toy.W_enc + toy.b_enc
        size = z.abs() if rule == "abstopk" else z
        f = toy.encode(x)
        assert ((f != 0).sum(-1) == 5).all()
        assert_close(f, torch.where(size >= size.sort(-1).values[:, -5:-4], z, 0))
        assert_close(rescale(toy, 3.0).reconstruct(x), toy.reconstruct(x))
        uneven = torch.ones(64, dtype=toy.dtype).index_fill(0, torch.tensor([3]), 4.0)
        by_hand = replace(toy, W_enc=toy.W_enc * uneven, b_enc=toy.b_enc * uneven, W_dec=toy.W_dec / uneven[:, None])
        assert not torch.allclose(by_hand.reconstruct(x), toy.reconstruct(x))
    (by_hand.reconstruct(x) - toy.reconstruct(x)).abs().max()


def test_bad_weights_are_refused_by_name():
    nan = sae.W_enc.clone()
    nan[0, 5], nan[3, 1] = float("nan"), float("inf")
    with expect_fail(ValueError, "W_enc has 1 NaN and 1 infinite of 1,024 values, the first at [0, 5]"):
        replace(sae, W_enc=nan)
    with expect_fail(ValueError, "W_dec must have shape [64, 16] to fit W_enc [16, 64], it has [16, 64] (transposed?)"):
        replace(sae, W_dec=sae.W_dec.T)
    with expect_fail(ValueError, "at least one latent"):
        sae.select(torch.tensor([], dtype=torch.int64))
    with expect_fail(TypeError, "b_enc must be a floating-point torch tensor, it is list"):
        replace(sae, b_enc=[0.0])
    with expect_fail(TypeError, "W_enc is a tensor of torch.float8_e4m3fn, which torch stores and does not compute with"):
        replace(sae, W_enc=sae.W_enc.to(torch.float8_e4m3fn))
    with expect_fail(TypeError, "W_dec must be a dense tensor, its layout is torch.sparse_coo; give W_dec.to_dense()"):
        replace(sae, W_dec=sae.W_dec.to_sparse())
    with expect_fail(TypeError, "W_enc is on the device meta, so it has a shape and no numbers"):
        sae.to("meta")
    if not torch.cuda.is_available():
        with expect_fail(UsageError, "cannot move this SAE: "):
            sae.to("cuda")
    with expect_fail(UsageError, "cannot move this SAE: "):
        sae.to(device="gpu")
    with expect_fail(ValueError, "share one dtype"):
        replace(sae, b_enc=sae.b_enc.float())
    with expect_fail(ValueError, "the SAE reads d_model = 16"):
        sae.encode(torch.randn(3, 15))
    with expect_fail(ValueError, "2 of 64 scales are not positive and finite; the first is latent 4 with 0"):
        rescale(sae, torch.ones(64).index_fill(0, torch.tensor([4, 7]), 0))
    with expect_fail(ValueError, "topk: one scale for all latents keeps the function, got scales from 1 to 2"):
        rescale(random_sae(activation="topk", k=4), torch.ones(64).index_fill(0, torch.tensor(3), 2))
    with expect_fail(ValueError, "activation topk has k=None"):
        replace(sae, activation="topk")
    with expect_fail(ValueError, "decode(f, like=x)"):
        random_sae(normalize="layer_norm").decode(sae.encode(x))
    with expect_fail(NotImplementedError, "decoders can be matched"):
        replace(sae, activation="other").encode(x)
    with expect_fail(ValueError, "W_skip is a part of transcoders"):
        replace(sae, W_skip=torch.zeros(16, 16, dtype=sae.dtype))
    with expect_fail(ValueError, "must be a permutation"):
        permute(sae, torch.zeros(64, dtype=torch.int64))


def test_an_sae_has_no_gradient_and_hidden_states_keep_theirs():
    learnt = {name: torch.nn.Parameter(p.clone()) for name, p in sae.parameters().items()}
    made = SAE(**learnt)
    scale = torch.full((64,), 2.0, dtype=sae.dtype, requires_grad=True)
    others = (made.rescale(scale), made.permute(torch.arange(64)), replace(made, W_enc=learnt["W_enc"]))
    assert not any(p.requires_grad for s in (made, *others) for p in s.parameters().values())
    assert made.W_enc.data_ptr() == learnt["W_enc"].data_ptr(), "shared, not copied"
    state = x.clone().requires_grad_()
    made.reconstruct(state).sum().backward()
    assert state.grad.abs().max() > 0 and learnt["W_enc"].grad is None
    state.grad.abs().mean()
