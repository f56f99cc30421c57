"""Interventions against plain Hugging Face hooks: the same models, formulas typed out again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from saematch.judging.causal import edited, effects, passed_on, responses
from saematch.model.lm import load_lm, quiet
from saematch.model.text import tokenize
from saematch.model.toys import random_lm
from saematch.saes.toys import random_sae

A, B = 1, 3


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def world(request, tmp_path_factory):
    folder = random_lm(tmp_path_factory.mktemp("lm"), request.param)
    with quiet():
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    lm = load_lm(folder, dtype=torch.float64)
    saes = [replace(random_sae(16, 24, seed=layer), info=dict(layer=layer)) for layer in (A, B)]
    texts = [" ".join(f"w{(7 * d + 3 * k * k) % 60}" for k in range(9 + d)) for d in range(4)]
    return lm, hf, *saes, tokenize(lm, texts)


def encoded(sae, x):
    z = (x - sae.b_dec if sae.apply_b_dec_to_input else x) @ sae.W_enc + sae.b_enc
    return torch.where(z > sae.threshold, z, 0)


@torch.no_grad()
def states(hf, ids, change=None):  # after blocks A and B; `change` is added to the output of block A
    kept = {}

    def hook(layer):
        def catch(module, given, out):
            x = out[0] if isinstance(out, tuple) else out
            if change is not None and layer == A:
                x = x + change
            kept[layer] = x[0]
            return (x, *out[1:]) if isinstance(out, tuple) else x

        return catch

    handles = [hf.model.layers[layer].register_forward_hook(hook(layer)) for layer in (A, B)]
    try:
        hf(ids[None])
    finally:
        for h in handles:
            h.remove()
    return kept[A], kept[B]


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.5])
def test_answers_are_those_of_hugging_face(world, factor):
    lm, hf, a, b, tokens = world
    partner = torch.arange(24).flip(0)
    limits = {A: 1e9, B: 1e9}
    table = responses(lm, a, b, dict(mine=partner), tokens, limits, factor=factor, copies=7)
    found = table[table.name == "mine"].set_index(["document", "latent"])
    rows = 0
    for d in range(len(tokens)):
        ids = tokens.ids[d, : tokens.lengths[d]]
        x, y = states(hf, ids)
        f, g = encoded(a, x), encoded(b, y)
        f[0] = 0  # the first position is left alone
        for i in f.any(0).nonzero()[:, 0].tolist():
            at = f[:, i] != 0
            change = (factor - 1) * f[:, i, None] * a.W_dec[i]
            after = encoded(b, states(hf, ids, change)[1])
            lost = (g - after)[at] / b.threshold
            changed, j = lost.abs().sum(0), int(partner[i])
            row = found.loc[(d, i)]
            assert row.tokens == int(at.sum()) and row.partner == j
            assert np.isclose(row.lost, float(lost[:, j].sum()), atol=1e-4)
            assert np.isclose(row.had, float((g[at, j] / b.threshold[j]).sum()), atol=1e-4)
            near = (changed - changed[j]).abs() < 1e-4  # rounding must not decide ties
            low, high = int((changed > changed[j])[~near].sum()), int(near.sum()) - 1
            assert 1 + low <= row["rank"] <= 1 + low + high
            c = int((changed > 0).sum())
            assert row.changing == c and (np.isnan(row.auc) if changed[j] == 0 else True)
            assert changed[j] == 0 or c == 1 or np.isclose(row.auc, (c - row["rank"]) / (c - 1))
            rows += 1
    assert rows == len(found) > 50


def test_the_error_of_the_sae_is_kept_to_the_last_bit(world):
    lm, hf, a, b, tokens = world
    x, _ = states(hf, tokens.ids[0])
    f, every = a.encode(x), torch.arange(24)
    assert torch.equal(edited(a, x, f, every, 1.0), x.expand(24, *x.shape))
    silent = (f == 0).all(1)
    assert torch.equal(edited(a, x, f, every)[:, silent], x[silent].expand(24, -1, -1))
    dead = f[:, :1] * 0 + f
    dead[:, 5] = 0
    assert torch.equal(edited(a, x, dead, torch.tensor([5]))[0], x)  # a latent that is not active


def test_random_partners_are_chance(world):
    "Over all latents of B as partners, in turn, the mean AUC is one half, exactly."
    lm, hf, a, b, tokens = world
    every = {str(s): (torch.arange(24) + s) % 24 for s in range(24)}
    table = responses(lm, a, b, every, tokens[[0]])
    assert np.isclose(table[table.name != "active"].auc.mean(), 0.5)


def test_tokens_that_do_not_count_are_left_alone(world):
    lm, hf, a, b, tokens = world
    x, _ = states(hf, tokens.ids[0, : tokens.lengths[0]])
    short = float(x[1:].norm(dim=1).sort().values[4]) + 1e-4  # five positions of layer A are within this limit
    table = responses(lm, a, b, dict(m=torch.arange(24)), tokens[[0]], {A: short, B: 1e9})
    f = encoded(a, x)
    f[0], f[x.norm(dim=1) > short] = 0, 0
    on = (f != 0).sum(0)
    assert table[table.name == "m"].set_index("latent").tokens.to_dict() == {
        i: int(on[i]) for i in on.nonzero()[:, 0].tolist()
    }


def test_rows_of_effects_are_those_of_latents_that_are_active(world):
    "A suite has many latents, a few documents reach few of them."
    lm, hf, a, b, tokens = world
    a = replace(a, threshold=a.threshold.index_fill(0, torch.arange(12), 1e9))  # these are never active
    b = replace(b.select(torch.arange(20)), info=b.info)

    class Watch(TorchDispatchMode):
        rows = 0

        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            out = f(*args, **(kwargs or {}))
            if "zeros" in str(f) and out.dim() == 2 and out.shape[1] == 20:
                self.rows = max(self.rows, len(out))
            return out

    with Watch() as made:
        found = effects(lm, a, b, tokens)
    assert 0 < made.rows <= len(found.latents) <= 12 and found.latents.min() >= 12
    table = responses(lm, a, b, {str(j): torch.full((24,), j) for j in range(20)}, tokens)
    lost = table[table.name != "active"].groupby("latent").lost.sum()  # no more is lost than is changed
    assert lost.index.tolist() == found.latents.tolist() and (lost <= found.changed.sum(1).numpy() + 1e-9).all()


def test_states_are_brought_to_where_the_model_is(tmp_path):
    "Of a model on another device (`meta`: one without numbers), with tokens and states on the processor."
    lm = load_lm(random_lm(tmp_path, "gemma2"), dtype=torch.float64)
    ids, x = tokenize(lm, ["w1 w2 w3"]).ids, torch.zeros(1, 4, lm.cfg.d_model)
    lm = lm.to("meta")
    for stop in (None, B):
        assert passed_on(lm, ids, x[:, : ids.shape[1]], A, stop=stop).device.type == "meta"
