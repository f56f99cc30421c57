# Written from nbs/making/02_train.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.making.train import (
    batches,
    split_rows,
    quality,
    train_sae,
    training_table,
    train_suite,
)


import argparse
import inspect
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

import numpy as np
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.making.states import cache_states, pack
from saematch.model.toys import Letters, letters_lm
from saematch.saes.files import load_sae
from saematch.saes.health import explained_variance
from saematch.saes.suite import fingerprint, load_suite
from saematch.saes.toys import random_sae

TEXTS = [inspect.getsource(f) for f in (argparse.ArgumentParser, argparse.HelpFormatter, argparse._ActionsContainer)]


def test_the_sparsity_loss_counts_latents():
    from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    torch.manual_seed(0)
    sae = JumpReLUTrainingSAE(
        JumpReLUTrainingSAEConfig(d_in=32, d_sae=100, jumprelu_sparsity_loss_mode="tanh", l0_coefficient=0.4)
    )
    x, found = torch.randn(50, 32), {}
    for size in (1, 10, 100):
        step = TrainStepInput(
            sae_in=size * x, coefficients={"l0": 0.4}, dead_neuron_mask=None, n_training_steps=0, is_logging_step=False
        )
        theirs = sae.training_forward_pass(step).losses["l0_loss"].item()
        f, norm = sae.encode(size * x), sae.W_dec.norm(dim=1)
        ours = 0.4 * torch.tanh(4 * f * norm).sum(1).mean().item()
        assert abs(ours - theirs) < 1e-4 * theirs
        found[size] = dict(SAELens=theirs, formula=ours, price_of_all_active=0.4 * (f > 0).sum(1).float().mean().item())
    found


def test_the_scale_is_folded_into_the_weights():
    trained, c = random_sae(16, 40, seed=0), 0.1
    x = torch.randn(20, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / c
    saved = replace(trained, W_enc=trained.W_enc * c, W_dec=trained.W_dec / c, b_dec=trained.b_dec / c)
    assert torch.allclose(saved.encode(x), trained.encode(c * x))
    assert torch.allclose(saved.reconstruct(x), trained.reconstruct(c * x) / c)
    (saved.reconstruct(x) - trained.reconstruct(c * x) / c).abs().max().item()


def test_a_pass_sees_every_row_once():
    rows = np.arange(100, dtype=np.float16)[:, None]
    stream = batches(rows, 20, seed=0)
    one_pass, next_pass = (torch.cat([next(stream) for _ in range(5)])[:, 0] for _ in range(2))
    assert sorted(one_pass.tolist()) == sorted(next_pass.tolist()) == list(range(100))
    assert not torch.equal(one_pass, next_pass)
    assert torch.equal(next(batches(rows, 20, seed=0)), next(batches(rows, 20, seed=0)))


def test_training_can_be_repeated():
    lm, folder = letters_lm(), Path(mkdtemp())
    states = cache_states(lm, pack(TEXTS, Letters(), context=64), [1], folder / "states", progress=False)
    small = dict(l0_coefficient=0.2, d_sae=64, samples=10_000, batch=256, progress=False, device="cpu")
    record = train_sae(states, 1, folder / "a", **small)
    train_sae(states, 1, folder / "b", **small)
    train_sae(states, 1, folder / "c", seed=1, **small)
    prints = {name: fingerprint(load_sae(folder / name)) for name in "abc"}
    assert prints["a"] == prints["b"] != prints["c"]
    with patch("sae_lens.SAETrainer.fit", side_effect=AssertionError("trained twice")):
        assert train_sae(states, 1, folder / "a", **small) == record
        with expect_fail(UsageError, "l0_coefficient 0.2 instead of 0.3; choose another folder"):
            train_sae(states, 1, folder / "a", **{**small, "l0_coefficient": 0.3})
    with expect_fail(ValueError, "batches of 100,000 need twice as many states"):
        train_sae(states, 1, folder / "d", l0_coefficient=0.2, batch=100_000)
    found = quality(folder / "a", unseen := split_rows(states, 1, 0.05)[1])
    by_health = explained_variance(load_sae(folder / "a"), torch.from_numpy(unseen.astype(np.float32)))
    assert found == record["quality"] and abs(found["explained_variance"] - by_health) < 1e-6
    with expect_fail(UsageError, "no hidden states of layer 2"):
        train_sae(states, 2, folder / "d", l0_coefficient=0.2)
    assert not (folder / "d").exists()
    record["quality"]


@pytest.mark.gpu
def test_a_gpu_trains_too():
    for device in ("cuda",) if torch.cuda.is_available() else ():
        lm, folder = letters_lm().to(device), Path(mkdtemp())
        states = cache_states(lm, pack(TEXTS, Letters(), context=64), [1], folder / "states", progress=False)
        found = train_sae(
            states,
            1,
            folder / "layer_1",
            l0_coefficient=0.2,
            d_sae=64,
            samples=10_000,
            batch=256,
            progress=False,
            device=device,
        )
        assert load_sae(folder / "layer_1").device.type == "cpu" and found["quality"]["explained_variance"] > 0


def test_a_suite_that_was_killed_continues():
    lm, folder = letters_lm(), Path(mkdtemp()) / "suite"
    call = dict(
        l0_coefficients=dict(sparse=0.4, dense=0.05),
        context=64,
        d_sae=64,
        samples=10_000,
        batch=256,
        progress=False,
        device="cpu",
    )
    from sae_lens import SAETrainer

    fit, fits = SAETrainer.fit, []


    def killed(self):
        fits.append(1)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fit(self)


    with patch.object(SAETrainer, "fit", killed):
        with expect_fail(KeyboardInterrupt):
            train_suite(lm, TEXTS, [0, 1], folder, **call)
        assert len(training_table(folder)) == 1 and not (folder / "layer_1").exists()
        with patch.object(lm, "run_with_hooks", side_effect=AssertionError("hidden states computed twice")):
            table = train_suite(lm, TEXTS, [0, 1], folder, **call)
    assert len(fits) == 5 and len(table) == 4 and table.seed.nunique() == 4
    suite = load_suite(folder, "layer_{layer}/sparse")
    assert list(suite) == [0, 1] and suite[1].d_sae == 64 and suite[1].info["seed"] == 1 and suite[1].info["layer"] == 1
    with expect_fail(UsageError, "has several SAEs for layer 0; choose with pattern="):
        load_suite(folder)
    with expect_fail(UsageError, "holds no training.json"):
        training_table(folder / "states")
    table
