# Written from nbs/saes/06_gauge.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.gauge import (
    fold,
    common_gauge,
    absorb_b_dec,
    as_pair,
    comparable,
    check_lengths,
    transport,
)


import warnings
from dataclasses import replace

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.saes.sae import permute, rescale
from saematch.saes.toys import random_sae


def test_folding_keeps_the_function_and_makes_every_threshold_one():
    sae = random_sae()
    x = 2 * torch.randn(100, sae.d_model, dtype=sae.dtype, generator=torch.Generator().manual_seed(1))
    f, g = sae.encode(x), fold(sae).encode(x)
    assert (f > 0).any()
    assert torch.equal(fold(sae).threshold, torch.ones(64, dtype=sae.dtype))
    assert_close(g, f / sae.threshold)
    assert_close(fold(sae).decode(g), sae.decode(f))
    (fold(sae).decode(g) - sae.decode(f)).abs().max()


def test_folding_forgets_the_units():
    sae = random_sae()
    units = (2 * torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))).exp()
    for name, p in fold(rescale(sae, units)).parameters().items():
        assert_close(p, fold(sae).parameters()[name])
    twice = fold(fold(sae))
    assert all(torch.equal(p, fold(sae).parameters()[name]) for name, p in twice.parameters().items()), (
        "folding twice is folding once"
    )
    dict(smallest_unit=units.min().item(), largest_unit=units.max().item())


def test_every_gauge_keeps_the_function_and_forgets_the_units():
    x, rows = 2 * torch.randn(100, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), {}
    for rule, settings in dict(
        jumprelu={}, relu={}, topk=dict(activation="topk", k=6), abstopk=dict(activation="abstopk", k=6)
    ).items():
        sae = random_sae(**settings)
        sae = sae if rule == "jumprelu" else replace(sae, threshold=torch.zeros_like(sae.threshold))
        units = (
            2
            * torch.randn(
                64 if rule in ("jumprelu", "relu") else 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
            )
        ).exp()
        other = rescale(sae, units)
        for by in ("threshold", "decoder", "encoder") if rule == "jumprelu" else ("decoder", "encoder"):
            one, two = fold(sae, by), fold(other, by)
            remembered = max((one.parameters()[k] - two.parameters()[k]).abs().max().item() for k in one.parameters())
            rows[f"{rule} by {by}"] = dict(
                reconstruction_off_by=(one.reconstruct(x) - sae.reconstruct(x)).abs().max().item(),
                units_remembered=remembered,
            )
            assert_close(fold(one, by).W_dec, one.W_dec)
    assert max(v for row in rows.values() for v in row.values()) < 1e-10
    rows


def test_the_gauge_two_saes_can_share():
    relu = replace(random_sae(), threshold=torch.zeros(64, dtype=torch.float64))
    assert common_gauge(random_sae(), random_sae(seed=1)) == "threshold"
    assert common_gauge(random_sae(), relu) == common_gauge(random_sae(activation="topk", k=3)) == "decoder"
    assert common_gauge(relu, replace(relu, activation="other")) == "none"


def test_absorbing_the_decoder_bias_keeps_the_function():
    sae = random_sae(apply_b_dec_to_input=True)
    x = 2 * torch.randn(100, sae.d_model, dtype=sae.dtype, generator=torch.Generator().manual_seed(1))
    plain = absorb_b_dec(sae)
    assert not plain.apply_b_dec_to_input and not torch.allclose(plain.b_enc, sae.b_enc)
    assert_close(plain.encode(x), sae.encode(x))
    assert absorb_b_dec(plain) is plain
    (plain.encode(x) - sae.encode(x)).abs().max()


def test_one_sae_written_in_two_ways_becomes_one():
    a = random_sae(apply_b_dec_to_input=True)
    units = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).exp()
    b = rescale(absorb_b_dec(a), units)
    apart = lambda a, b: max((a.parameters()[k] - b.parameters()[k]).abs().max().item() for k in a.parameters())
    pair = comparable(a, b)
    assert pair.gauge == "threshold" and apart(pair.a, pair.b) < 1e-12 < 1 < apart(a, b)
    assert_close(pair.units[1], pair.units[0] * units)
    raw = comparable(a, b, fold=False)
    assert raw.gauge == "none" and apart(raw.a, absorb_b_dec(a)) == 0 == apart(raw.b, b) and not raw.a.apply_b_dec_to_input
    assert comparable(b, b, fold="encoder").gauge == "encoder"
    dict(as_stored=apart(a, b), comparable=apart(pair.a, pair.b))


def test_a_saelens_object_is_read_on_the_way():
    from types import SimpleNamespace

    a = random_sae()
    cfg_fields = dict(d_in=16, d_sae=64, apply_b_dec_to_input=False, metadata=dict(hook_name="blocks.3.hook_resid_post"))
    cfg = SimpleNamespace(to_dict=lambda: cfg_fields, architecture=lambda: "jumprelu")
    theirs = SimpleNamespace(cfg=cfg, W_dec=a.W_dec, state_dict=a.parameters)
    read = comparable(theirs, a).a
    assert torch.equal(read.W_enc, comparable(a, a).a.W_enc) and as_pair(a, theirs)[0] is a
    read


def test_activations_are_carried_by_the_ratio_of_the_units():
    a = random_sae()
    index = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    b = permute(rescale(a, torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).exp()), index)
    x = 2 * torch.randn(100, a.d_model, dtype=a.dtype, generator=torch.Generator().manual_seed(1))
    f, (t_a, t_b) = a.encode(x), comparable(a, b).units
    carried, permuted = torch.zeros_like(f), torch.zeros_like(f)
    carried[:, index], permuted[:, index] = f * t_b[index] / t_a, f
    assert_close(carried, b.encode(x))
    assert (permuted - b.encode(x)).abs().max() > 1
    dict(
        carried_off_by=(carried - b.encode(x)).abs().max().item(),
        permuted_off_by=(permuted - b.encode(x)).abs().max().item(),
    )


def test_a_cost_of_lengths_in_different_units_is_warned_of():
    a, b = random_sae(), random_sae(seed=1, normalize="layer_norm")


    def warned(fold, weights, metric="sqeuclidean"):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            check_lengths(comparable(a, b, fold=fold, weights=weights), weights, metric)
        return [str(w.message).split(":")[0] for w in said]


    reads = ["A reads hidden states as they are and B reads hidden states normalised by layer_norm"]
    assert warned(True, "all") == warned("decoder", "all") == warned(False, "bias") == warned(True, "decoder") == reads
    assert warned(True, "bias") == warned("decoder", "decoder") == warned(True, "decoder", "cosine") == []
    reads[0]


def test_a_transported_sae_reconstructs_transported_hidden_states():
    a, g = random_sae(10, 40), torch.Generator().manual_seed(0)
    to = torch.randn(10, 16, dtype=torch.float64, generator=g)
    x = 2 * torch.randn(50, 10, dtype=torch.float64, generator=g)
    b = transport(a, to)
    assert b.d_model == 16 and torch.equal(b.threshold, a.threshold)
    assert_close(b.reconstruct(x @ to), a.reconstruct(x) @ to)
    (b.reconstruct(x @ to) - a.reconstruct(x) @ to).abs().max()


def test_thresholds_that_are_no_unit():
    sae = random_sae()
    x = 2 * torch.randn(100, sae.d_model, dtype=sae.dtype, generator=torch.Generator().manual_seed(1))
    broken = replace(sae, threshold=sae.threshold.index_fill(0, torch.tensor([3, 8]), 0.0))
    with expect_fail(ValueError, "so they cannot be a unit: latent 3 (0), latent 8 (0)"):
        fold(broken)
    kept = fold(broken, on_nonpositive="keep")
    assert kept.threshold[3] == 0 and kept.threshold[4] == 1
    assert_close(kept.decode(kept.encode(x)), broken.decode(broken.encode(x)))
    assert fold(broken.select(broken.threshold > 0)).d_sae == 62
    with expect_fail(ValueError, "must be 'raise' or 'keep'"):
        fold(sae, on_nonpositive="drop")
    with expect_fail(ValueError, "the gauge must be one of threshold, decoder, encoder, none"):
        fold(sae, "length")
    with expect_fail(TypeError, "sae must be a saematch SAE, it is NoneType; use load_sae, or SAE.from_saelens"):
        fold(None)
    with expect_fail(ValueError, "has no thresholds to fold; choose another unit"):
        fold(replace(sae, threshold=torch.zeros_like(sae.threshold)))
    with expect_fail(ValueError, "1 of 64 units by decoder are zero or negative"):
        fold(replace(sae, W_dec=sae.W_dec.index_fill(0, torch.tensor(7), 0)), "decoder")
    with expect_fail(ValueError, "no rescaling keeps the function"):
        fold(replace(sae, activation="other"), "decoder")
    with expect_fail(ValueError, "one unit for each of the 64 latents"):
        fold(sae, torch.ones(3))


def test_pairs_that_cannot_be_compared():
    a = random_sae(6, 9, seed=1)
    with expect_fail(TypeError, "B must be a saematch SAE, it is Tensor"):
        comparable(a, a.W_enc)
    with expect_fail(TypeError, "A must be a saematch SAE, it is NoneType; use load_sae, or SAE.from_saelens"):
        as_pair(None, a)
    with expect_fail(ValueError, "d_model is 6 in A and 5 in B"):
        comparable(a, random_sae(5, 9))
    with expect_fail(ValueError, "weights must be 'all', one of encoder, decoder, bias"):
        comparable(a, a, weights="b_dec")
    with expect_fail(ValueError, "must be positive and finite"):
        comparable(a, a, weights={"decoder": -1.0})
    with expect_fail(ValueError, "the gauge must be one of threshold, decoder, encoder, none"):
        comparable(a, a, fold="length")
    with expect_fail(ValueError, "other SAEs have no encoder per latent: match their decoders"):
        comparable(a, replace(a, activation="other"))
    assert comparable(a, replace(a, activation="other"), weights="decoder").gauge == "none"
