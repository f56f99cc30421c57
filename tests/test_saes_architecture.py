# Written from nbs/saes/03_architecture.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.architecture import (
    FIVE,
    FOUR,
    ARCHITECTURES,
    DICTIONARIES,
    gated,
    standard,
    jumprelu,
    topk,
    from_tensors,
    in_saelens_words,
    crosscoder,
    presence,
)


import torch
from fastcore.test import expect_fail
from torch.testing import assert_close
x = torch.randn(200, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def draw_tensors(names, d=16, n=64, d_out=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = dict(W_enc=(d, n), W_dec=(n, d_out), b_dec=(d_out,), W_skip=(d_out, d), topk_threshold=())
    return {
        k: torch.randn(shapes.get(k, (n,)), generator=g, dtype=torch.float64) * (0.3 if k == "r_mag" else 1)
        for k in names.split()
    }


def by_the_paper(kind, t, cfg, x):
    z = lambda: (x - t["b_dec"] if cfg["apply_b_dec_to_input"] else x) @ t["W_enc"] + t["b_enc"]
    largest = lambda z, size: torch.where(size >= size.topk(5, dim=-1).values[:, -1:], z, 0)
    if kind == "gated":
        pre = (x - t["b_dec"]) @ t["W_enc"]
        f = (pre + t["b_gate"] > 0) * (pre * t["r_mag"].exp() + t["b_mag"]).relu()
    elif "topk" in kind:
        norm = t["W_dec"].norm(dim=1) if cfg.get("rescale_acts_by_decoder_norm") else 1
        pre = z() * norm
        f = (
            largest(pre, pre).relu()
            if kind == "topk"
            else largest(pre, pre.abs())
            if kind == "abstopk"
            else pre.relu() * (pre > t["topk_threshold"])
        ) / norm
    else:
        f = z().relu() * (z() > t.get("threshold", torch.zeros(1)))
    return f @ t["W_dec"] + t["b_dec"] + (x @ t["W_skip"].T if "W_skip" in t else 0)


def test_gated_is_jumprelu():
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    W, b_gate, b_mag, r, y = draw(16, 64), draw(64), draw(64), 0.3 * draw(64), draw(100, 16)
    f = (y @ W + b_gate > 0) * torch.relu(y @ (W * r.exp()) + b_mag)
    read = gated(dict(W_enc=W, b_gate=b_gate, b_mag=b_mag, r_mag=r), {})
    z = y @ read["W_enc"] + read["b_enc"]
    assert (b_mag < r.exp() * b_gate).any(), "some thresholds would be negative"
    assert torch.equal(z * (z > read["threshold"]), f)
    (z * (z > read["threshold"]) - f).abs().max()


def test_each_architecture_computes_its_own_formula():
    off = {}
    for kind, how in ARCHITECTURES.items():
        for rescaled in (False, True) if "topk" in kind else (False,):
            if how.rule != "other":
                t = draw_tensors(how.needs, d_out=12 if how.transcoder else 16)
                cfg = dict(
                    architecture=kind, apply_b_dec_to_input=not how.transcoder, k=5, rescale_acts_by_decoder_norm=rescaled
                )
                sae = from_tensors(t, "drawn", cfg, dtype=torch.float64)
                assert (sae.encode(x) != 0).any(0).sum() > 30
                off[kind + " by decoder norm" * rescaled] = (
                    (sae.reconstruct(x) - by_the_paper(kind, t, cfg, x)).abs().max().item()
                )
    assert max(off.values()) < 1e-10
    off


def test_every_tensor_of_every_architecture_matters():
    least = {}
    for kind, how in ARCHITECTURES.items():
        if how.rule != "other":
            t = draw_tensors(how.needs, d_out=12 if how.transcoder else 16)
            cfg = dict(architecture=kind, apply_b_dec_to_input=not how.transcoder, k=5)
            whole = from_tensors(t, "drawn", cfg, dtype=torch.float64).reconstruct(x)
            change = {
                k: (from_tensors({**t, k: t[k] + 0.5}, "drawn", cfg, dtype=torch.float64).reconstruct(x) - whole)
                .abs()
                .max()
                .item()
                for k in t
            }
            least[kind] = min(change.values())
    assert min(least.values()) > 0.01
    least


def test_dictionaries_compute_what_their_library_computes():
    g = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    D, n, x = 8, 24, draw(50, 8)
    W, V, b, c = draw(n, D), draw(D, n), draw(n), draw(D)
    linear = {"encoder.weight": W, "encoder.bias": b, "decoder.weight": V}
    both = {"W_enc": W.T, "b_enc": b, "W_dec": V.T, "b_dec": c}
    gate, mag, r, scalar = draw(n), draw(n), 0.1 * draw(n), torch.tensor(0.7, dtype=torch.float64)
    rows = draw(n).abs()
    largest = lambda f: torch.zeros_like(f).scatter(1, f.topk(5).indices, f.topk(5).values)
    above = lambda f, t: f * (f > t)
    pre = lambda y: y @ W.T + b
    by_hand = dict(
        AutoEncoder=(linear | {"bias": c}, pre(x - c).relu()),
        AutoEncoderNew=(linear | {"decoder.bias": c}, pre(x).relu()),
        GatedAutoEncoder=(
            {"encoder.weight": W, "decoder.weight": V, "decoder_bias": c, "r_mag": r, "gate_bias": gate, "mag_bias": mag},
            ((x - c) @ W.T + gate > 0) * (r.exp() * ((x - c) @ W.T) + mag).relu(),
        ),
        JumpReluAutoEncoder=(both | {"threshold": rows}, above(pre(x).relu(), rows)),
        AutoEncoderTopK=(linear | {"b_dec": c, "k": torch.tensor(5), "threshold": scalar}, largest(pre(x - c).relu())),
        BatchTopKSAE=(linear | {"b_dec": c, "k": torch.tensor(5), "threshold": scalar}, above(pre(x - c).relu(), 0.7)),
        MatryoshkaBatchTopKSAE=(
            both | {"threshold": scalar, "group_sizes": torch.tensor([4, 20])},
            above(pre(x - c).relu(), 0.7),
        ),
    )
    assert by_hand.keys() == DICTIONARIES.keys()
    for kind, (tensors, f) in by_hand.items():
        t, cfg = in_saelens_words(tensors, dict(dict_class=kind))
        sae = from_tensors(t, kind, cfg, dtype=torch.float64)
        assert torch.equal(sae.encode(x) > 0, f > 0) and 0 < (f > 0).double().mean() < 1, kind
        assert_close(sae.reconstruct(x), f @ V.T + c)
    with expect_fail(ValueError, "dict_class 'IdentityDict' of dictionary_learning is not supported, only AutoEncoder"):
        in_saelens_words(linear, dict(dict_class="IdentityDict"))


def test_a_crosscoder_is_a_family_of_layers():
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    t = dict(W_enc=draw(3, 16, 60), b_enc=draw(60), W_dec=draw(60, 3, 16), b_dec=draw(3, 16))
    t["W_dec"][:20, 1:] = 0
    family = crosscoder(t, [4, 5, 6], dtype=torch.float64)
    states = draw(3, 10, 16)
    z = torch.einsum("ltd,ldn->tn", states, t["W_enc"]) + t["b_enc"]
    assert_close(sum(states[i] @ s.W_enc for i, s in enumerate(family.values())) + family[4].b_enc, z)
    assert_close(
        torch.stack([s.decode(z.relu()) for s in family.values()]),
        torch.einsum("tn,nld->ltd", z.relu(), t["W_dec"]) + t["b_dec"][:, None],
    )
    assert family[5].layer == 5 and (presence(family)[:20, 0] == 1).all() and (presence(family)[20:] < 1).all()
    clt = crosscoder({**t, "W_enc": t["W_enc"][0]}, [4, 5, 6])
    assert (clt[5].W_enc == 0).all() and (clt[4].W_enc != 0).all()
    for layers in (3, [4, 4, 5], [[4], 5, 6], []):
        with expect_fail(ValueError, "layers are a list of different numbers"):
            crosscoder(t, layers)
    with expect_fail(ValueError, "for 3 layers W_dec must be [d_sae, 3, d_model]"):
        crosscoder({**t, "W_enc": t["W_enc"][0, 0]}, [4, 5, 6])
    with expect_fail(ValueError, "c.safetensors: b_enc must have shape [60]"):
        crosscoder({**t, "b_enc": t["b_enc"][:1]}, [4, 5, 6], "c.safetensors")
    with expect_fail(ValueError, "for 2 layers W_dec must be [d_sae, 2, d_model]"):
        crosscoder(t, [4, 5])
    with expect_fail(ValueError, "missing b_dec"):
        crosscoder({k: p for k, p in t.items() if k != "b_dec"}, [4, 5, 6])
    presence(family)[[0, 30]]


def test_wrong_tensors_and_configurations_are_refused():
    t = draw_tensors(FIVE)
    assert from_tensors(t, "x").activation == "jumprelu" and (from_tensors(t, "x").threshold >= 0).all()
    with expect_fail(
        ValueError,
        "my.npz: a jumprelu SAE has exactly the tensors W_enc, b_enc, W_dec, b_dec, threshold; "
        "missing threshold; unexpected log_threshold",
    ):
        from_tensors({k if k != "threshold" else "log_threshold": p for k, p in t.items()}, "my.npz")
    with expect_fail(ValueError, "W_dec must have shape [64, 16]"):
        from_tensors({**t, "W_dec": t["W_dec"].T}, "my.npz")
    with expect_fail(ValueError, "missing b_gate, b_mag, r_mag; unexpected b_enc, threshold"):
        from_tensors(t, "x", dict(architecture="gated"))
    with expect_fail(ValueError, "architecture 'crosscoder' is not supported, only standard"):
        from_tensors(t, "x", dict(architecture="crosscoder"))
    with expect_fail(ValueError, "'expected_average_only_in', a scale of the hidden states that was never folded"):
        from_tensors(t, "x", dict(architecture="jumprelu", normalize_activations=True))
    with expect_fail(ValueError, "activation function is 'tanh-relu'"):
        from_tensors(t, "x", dict(architecture="jumprelu", activation_fn_str="tanh-relu"))
    with expect_fail(ValueError, "must be true or false, it is 'yes'"):
        from_tensors(t, "x", dict(architecture="jumprelu", apply_b_dec_to_input="yes"))
    old = from_tensors(draw_tensors(FOUR), "old", dict(activation_fn_str="topk", activation_fn_kwargs=dict(k=7)))
    assert (old.activation, old.k, old.apply_b_dec_to_input) == ("topk", 7, True), "not a ReLU SAE"
    with expect_fail(ValueError, "k is the number of active latents"):
        from_tensors(draw_tensors(FOUR), "x", dict(architecture="topk"))
