# Written from nbs/studies/31_measure.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.measure import (
    read_states,
    read_effects,
    check_counts,
    fitting,
    worlds_of,
)


import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.model.toys import Letters, toy_lm
from saematch.saes.toys import random_sae


def test_states_are_read_once():
    class Reads:
        "The least that can be read: a hidden state for each letter."

        tokenizer, cfg = Letters(), SimpleNamespace(n_ctx=64, device="cpu")

        def __init__(self, seed):
            self.states = torch.randn(3, 257, 16, generator=torch.Generator().manual_seed(seed))

        def state_dict(self):
            return dict(states=self.states)

        def run_with_hooks(self, ids, fwd_hooks, **how):
            for layer, (name, hook) in enumerate(fwd_hooks):
                hook(self.states[layer][ids], None)


    lm, texts = Reads(0), ["some letters", "and a few more of them", "the end of it", "no, not yet"]
    with TemporaryDirectory() as folder:
        found = read_states(lm, texts, [0, 1], path := Path(folder) / "states.safetensors")
        assert set(found) == {"layer_0", "layer_1", "document", "token"} and len(found["layer_0"]) == len(found["document"])
        again = read_states(SimpleNamespace(state_dict=lm.state_dict), texts, [0, 1], path)  # it cannot be run
        assert all(torch.equal(again[k], found[k]) for k in found)
        other = read_states(Reads(1), texts, [0, 1], path)
        assert not torch.equal(other["layer_0"], found["layer_0"]), "another model, and its states are those of the first"
        joined = read_states(Reads(1), ["".join(texts[:2]), *texts[2:]], [0, 1], path)
        assert len(joined["document"].unique()) == 3, "the same letters in three documents"
    {k: list(v.shape) for k, v in found.items()}


def test_ablations_are_made_once():
    lm = toy_lm()
    suite = {l: replace(random_sae(16, 24, seed=l), info=dict(layer=l)) for l in (1, 2)}
    texts = [" ".join(f"w{(7 * d + 3 * k * k) % 60}" for k in range(9 + d)) for d in range(4)]
    with TemporaryDirectory() as folder:
        found = read_effects(lm, suite, texts, Path(folder), documents=2)(1, 2)
        kept = SimpleNamespace(state_dict=lm.state_dict)  # it cannot be run
        again = read_effects(kept, suite, texts, Path(folder), documents=2)(1, 2)
        other = read_effects(toy_lm(seed=1), suite, texts, Path(folder), documents=2)(1, 2)
    assert all(torch.equal(x, y) for x, y in zip(found, again)) and found.changed.shape == (len(found.latents), 24)
    assert not torch.equal(other.changed, found.changed), "another model, and its ablations are those of the first"
    found.changed.shape


def test_worlds_of_a_suite():
    suite = {3: random_sae(16, 90, seed=1), 4: random_sae(16, 90, seed=2)}
    x = torch.randn(40, 16, dtype=torch.float64)
    states = dict(layer_3=x, layer_4=x, document=torch.arange(40) // 10)
    names = [w.name for w in worlds_of(suite, ("layers", "seeds"), suite, states)]
    assert names == ["seeds of 3", "seeds of 4", "layers 3-4"]
    with expect_fail(UsageError, "need --again"):
        next(worlds_of(suite, ("seeds",)))
    with expect_fail(UsageError, "unknown kind of worlds 'planted worlds'; closest: planted"):
        next(worlds_of(suite, ("planted worlds",)))
    for counts, said in (
        (dict(documents=0), "--documents must be 1 or more, not 0"),
        (dict(ablate=-1), "--ablate must be 0"),
    ):
        with expect_fail(UsageError, said):
            check_counts(**counts)
    with expect_fail(ValueError, "is it of another model?"):
        fitting(toy_lm(), None, {2: random_sae(9, 20)})
    names
