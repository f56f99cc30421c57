# Written from nbs/making/03_attribution.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.making.attribution import (
    gradients,
    effects,
    split,
    influence,
    kept,
)


import tempfile

import torch

from saematch.model.activations import site
from saematch.model.lm import load_lm
from saematch.model.toys import random_lm
from saematch.saes.toys import random_sae


def toy():
    "A random model of four layers, and SAEs of two of them."
    with tempfile.TemporaryDirectory() as folder:
        lm = load_lm(random_lm(folder), dtype=torch.float64)
    return lm, {x: random_sae(16, 24, seed=x) for x in (1, 2)}


def test_an_effect_is_what_the_model_loses():
    lm, saes = toy()
    ids = torch.tensor([0, 5, 9, 7, 3])
    _, cache = lm.run_with_cache(ids[None])
    x, target = cache[site(1)][0], saes[2]
    part, latents = split(saes[1], x, 1)
    read = lambda y, chunk: (target.prepare(y[:, 4]) @ target.W_enc + target.b_enc)[torch.arange(len(chunk)), chunk]
    w = effects(part, gradients(lm, x, 2, 3, read, 24))
    step, lost = 1e-5, torch.zeros_like(w)
    for n, (row, p) in enumerate(zip(part.rows, part.position)):
        y = x.clone()
        y[p] -= step * row
        with torch.no_grad():
            before, after = (
                target.prepare(lm(v[None], start_at_layer=2, stop_at_layer=3)[0, 4]) @ target.W_enc for v in (x, y)
            )
        lost[:, n] = (before - after) / step
    assert torch.allclose(w, lost, atol=1e-4 * w.abs().max()) and w.abs().max() > 0.1
    assert torch.equal(w[:, part.position > 4], torch.zeros(24, int((part.position > 4).sum()), dtype=w.dtype))
    f"{w.shape[1]} nodes on {w.shape[0]} targets, largest difference {(w - lost).abs().max():.1e} of {w.abs().max():.2f}"


def test_influence_is_the_sum_over_paths():
    weight = torch.tensor([[0, 0, 0, 0], [2.0, 0, 0, 0], [1.0, -1.0, 0, 0], [0, 3.0, 1.0, 0]])
    answer = torch.tensor([0, 0, 0, 1.0])
    total, flow = influence(weight, answer)
    assert torch.allclose(total, torch.tensor([1.0, 0.75 + 0.25 / 2, 0.25, 1.0]))  # every path ends in node 0
    assert torch.allclose(flow.sum(0), total - answer)
    assert kept(torch.tensor([5.0, 1, 3, 0]), 0.8).nonzero()[:, 0].tolist() == [0, 2]
    total
