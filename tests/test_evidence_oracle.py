"""Matching Score, explained variance and delta loss against a recomputation with plain Hugging Face hooks in float64,
position by position, with nothing of saematch but the weights of the SAEs and the index of the match."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from saematch.judging.evidence import delta_loss, evidence, explained_variance, matching_score
from saematch.judging.routes import Pair
from saematch.matching.match import match
from saematch.model.lm import load_lm, quiet
from saematch.model.text import tokenize
from saematch.model.toys import random_lm
from saematch.saes.toys import random_sae

WORDS = torch.randint(0, 60, (7, 20), generator=torch.Generator().manual_seed(3)).tolist()
TEXTS = [" ".join(f"w{i}" for i in row[: 8 + 2 * n]) for n, row in enumerate(WORDS)]


def by_hand(hf, ids, lengths, a, b, m, layer_a, layer_b, limits):
    "Loops over documents and positions; JumpReLU and folding written out."
    t_a, t_b, score, errors, states, losses, own = a.threshold, b.threshold, [0, 0], [], [], [], []
    for row, length in zip(ids, lengths.tolist()):
        row = row[None, :length]
        with torch.no_grad():
            out = hf(row, output_hidden_states=True)
        x_a, x_b = out.hidden_states[layer_a + 1][0], out.hidden_states[layer_b + 1][0]
        keep = [
            p
            for p in range(1, length)
            if row[0, p] > 2 and x_a[p].norm() <= limits[layer_a] and x_b[p].norm() <= limits[layer_b]
        ]
        replaced = x_a.clone()
        for p in keep:
            z_a, z_b = x_a[p] @ a.W_enc + a.b_enc, x_b[p] @ b.W_enc + b.b_enc
            f_a, f_b = z_a * (z_a > t_a), z_b * (z_b > t_b)
            g = torch.zeros_like(f_b)
            for i, j in enumerate(m.index.tolist()):
                g[j] = f_a[i] / t_a[i] * t_b[j]
                score[0] += int(f_a[i] > 0 and f_b[j] > 0)
                score[1] += int(f_a[i] > 0)
            replaced[p] = g @ b.W_dec + b.b_dec
            errors.append(x_b[p] - replaced[p]), states.append(x_b[p])
        hook = hf.model.layers[layer_b].register_forward_hook(
            lambda mod, inp, o: (replaced[None], *o[1:]) if isinstance(o, tuple) else replaced[None]
        )
        with torch.no_grad():
            changed = hf(row).logits[0]
        hook.remove()
        for p in keep:
            if p + 1 < length:
                losses.append(-changed[p].log_softmax(-1)[row[0, p + 1]])
                own.append(-out.logits[0][p].log_softmax(-1)[row[0, p + 1]])
    e, x = torch.stack(errors), torch.stack(states)
    variance = lambda v: (v - v.mean(0)).square().sum() / len(v)
    return (
        score[0] / score[1],
        (1 - variance(e) / variance(x)).item(),
        (torch.stack(losses) - torch.stack(own)).mean().item(),
    )


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("cut", [1e9, 1.1])  # nothing left out, or whatever is a tenth longer than the median
def test_metrics_are_those_of_plain_hooks(tmp_path, kind, cut):
    folder = random_lm(tmp_path / kind, kind, seed=4)
    lm = load_lm(folder, "cpu", torch.float64)
    with quiet():
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    a, b = (replace(random_sae(16, 40, seed=l), info=dict(layer=l)) for l in (1, 2))
    m, tokens = match(a, b), tokenize(lm, TEXTS)
    with torch.no_grad():
        states = hf(tokens.ids, output_hidden_states=True).hidden_states
    limits = {l: cut * states[l + 1][tokens.counted].norm(dim=-1).median().item() for l in (a.layer, b.layer)}
    expected = by_hand(hf, tokens.ids, tokens.lengths, a, b, m, a.layer, b.layer, limits)
    found = [f(lm, a, b, m, tokens, limits=limits).value for f in (matching_score, explained_variance, delta_loss)]
    assert found == pytest.approx(
        expected, rel=1e-5
    )  # Hugging Face computes norms and rotary angles in float32 in any case
    assert abs(expected[2]) > 1e-3 and 0 < expected[0] < 1


def test_one_batch_or_many_and_any_order(tmp_path):
    lm = load_lm(random_lm(tmp_path), "cpu", torch.float64)
    a, b = (replace(random_sae(16, 40, seed=l), info=dict(layer=l)) for l in (0, 2))
    tokens = tokenize(lm, TEXTS)
    pairs = {(0, 2): Pair(a, b, dict(match=match(a, b)))}
    limits = {0: 1e9, 2: 1e9}
    reference = evidence(lm, pairs, tokens, limits, batch=1)
    for other in (
        evidence(lm, pairs, tokens, limits, batch=3),
        evidence(
            lm, pairs, tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))], limits, batch=7
        ),
    ):
        for what in ("explained_variance", "delta_loss", "matching_score"):
            assert getattr(other, what)((0, 2), "match").value == pytest.approx(
                getattr(reference, what)((0, 2), "match").value, rel=1e-10
            )


def test_a_last_layer_can_be_written(tmp_path):
    lm = load_lm(random_lm(tmp_path), "cpu", torch.float64)
    a, b = (replace(random_sae(16, 40, seed=l), info=dict(layer=l)) for l in (2, 3))
    assert abs(delta_loss(lm, a, b, None, tokenize(lm, TEXTS)).value) > 0
