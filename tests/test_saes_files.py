# Written from nbs/saes/04_files.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.files import (
    embedded_suites,
    save_sae,
    load_sae,
    fingerprint,
    load_suite,
)


import json
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from fastcore.test import expect_fail
from saematch.saes.toys import random_sae
from safetensors.torch import save as safetensors_bytes
from torch.testing import assert_close

from saematch.ground import UnknownName, UsageError
from saematch.saes.sae import SAE


def test_every_local_layout_round_trips():
    a = random_sae(8, 12, seed=4, apply_b_dec_to_input=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "layer_3"
        save_sae(a, folder / "own.safetensors")
        (folder / "sae_weights.safetensors").write_bytes(
            safetensors_bytes({k: p.contiguous() for k, p in a.parameters().items()})
        )
        (folder / "cfg.json").write_text(
            json.dumps(
                dict(
                    architecture="jumprelu",
                    d_in=8,
                    d_sae=12,
                    apply_b_dec_to_input=True,
                    metadata=dict(hook_name="blocks.3.hook_resid_post"),
                )
            )
        )
        np.savez(folder / "params.npz", **{k: p.numpy() for k, p in a.parameters().items()})
        loaded = {name: load_sae(folder / name, dtype=torch.float64) for name in ("own.safetensors", "", "params.npz")}
    for name, b in loaded.items():
        assert all(torch.equal(p, b.parameters()[k]) for k, p in a.parameters().items()), name
        assert b.apply_b_dec_to_input is (name != "params.npz"), "Gemma Scope does not subtract b_dec"
        assert b.layer == (None if name == "own.safetensors" else 3)
    {name or "SAELens folder": b for name, b in loaded.items()}


def test_damaged_and_foreign_files_are_refused():
    a = random_sae(8, 12, seed=4)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        good = safetensors_bytes({k: p.contiguous() for k, p in a.parameters().items()}, {"format": "saematch.sae/1"})
        cases = {
            "cut.safetensors": good[:500],
            "text.safetensors": b"<html>404</html>" * 9,
            "foreign.safetensors": safetensors_bytes({"w": torch.ones(2)}),
            "evil.safetensors": pickle.dumps({"W_enc": 1}),
            "cut.npz": b"PK\x03\x04 and then nothing",
        }
        for name, data in cases.items():
            (folder / name).write_bytes(data)
        with expect_fail(ValueError, "(500 bytes) is no complete safetensors file"):
            load_sae(folder / "cut.safetensors")
        with expect_fail(ValueError, "is no complete safetensors file"):
            load_sae(folder / "text.safetensors")
        with expect_fail(ValueError, "not an SAE written by saematch"):
            load_sae(folder / "foreign.safetensors")
        with expect_fail(ValueError, "is a Python pickle or a torch.save archive"):
            load_sae(folder / "evil.safetensors")
        with expect_fail(ValueError, "cannot be read as arrays"):
            load_sae(folder / "cut.npz")
        np.savez(folder / "objects.npz", W_enc=np.array([{}], dtype=object))
        with expect_fail(ValueError, "pickled objects, which are refused"):
            load_sae(folder / "objects.npz")
        with expect_fail(FileNotFoundError, "holds neither cfg.json nor params.npz"):
            load_sae(folder)
        (folder / "sae_weights.safetensors").write_bytes(good)
        config = lambda **cfg: (folder / "cfg.json").write_text(
            json.dumps(dict(architecture="jumprelu", d_in=8, d_sae=12) | cfg)
        )
        config(architecture="standard")
        with expect_fail(
            ValueError, "a standard SAE has exactly the tensors W_enc, b_enc, W_dec, b_dec; unexpected threshold"
        ):
            load_sae(folder)
        config(normalize_activations="expected_average_only_in")
        with expect_fail(ValueError, "never folded into the weights"):
            load_sae(folder)
        config(d_sae=13)
        with expect_fail(ValueError, "cfg.json says d_in=8, d_sae=13, d_out=8, the tensors say 8, 12, 8"):
            load_sae(folder)
        with expect_fail(FileNotFoundError, "no such SAE"):
            load_sae(folder / "nowhere.safetensors")


def test_suites_are_lazy_and_know_their_layers():
    suite = load_suite("smollm2-135m-resid")
    assert suite.layers == [14, 15, 16, 17, 18, 19] and not suite._loaded
    assert suite[16].layer == 16 and suite[16] is suite[16] and suite[16].dtype == torch.float32
    assert [suite[layer].d_sae for layer in suite] == [2048] * 6 and len(suite._loaded) == suite.keep
    with expect_fail(UnknownName, "unknown layer of smollm2-135m-resid '20'; closest"):
        suite[20]
    with expect_fail(UnknownName, "unknown suite 'smollm2-135m-risid'; closest: smollm2-135m-resid"):
        load_suite("smollm2-135m-risid")
    with expect_fail(UsageError, "must contain {layer}"):
        load_suite("smollm2-135m-resid", pattern="layer_14")
    assert torch.equal(load_sae("smollm2-135m-resid/layer_17").W_dec, suite[17].W_dec)


def test_saelens_and_saematch_compute_the_same():
    import sae_lens

    theirs = sae_lens.SAE.load_from_disk(embedded_suites()["smollm2-135m-resid"] / "layer_14")
    ours = load_suite("smollm2-135m-resid")[14]
    x = (
        200 * torch.nn.functional.normalize(torch.randn(64, 576, generator=torch.Generator().manual_seed(0)), dim=-1)
        + ours.b_dec
    )
    with torch.no_grad():
        f, g = ours.encode(x), theirs.encode(x)
    assert (f > 0).any(-1).all(), "random inputs must reach the latents"
    assert_close(f, g, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert_close(ours.decode(f), theirs.decode(g), rtol=1e-5, atol=1e-3)
    assert fingerprint(SAE.from_saelens(theirs)) == fingerprint(ours)
    (f - g).abs().max()
