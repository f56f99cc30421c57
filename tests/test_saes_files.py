# Written from nbs/saes/04_files.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.files import (
    save_sae,
    saes_below,
    load_sae,
)


import json
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from fastcore.test import expect_fail
from safetensors.torch import save as safetensors_bytes

from saematch.ground import UnknownName, UsageError
from saematch.saes.sae import SAE
from saematch.saes.toys import random_sae


def test_an_embedded_sae_is_loaded_by_its_name():
    sae = load_sae("smollm2-135m-resid/layer_14")
    assert (sae.layer, sae.info["source"], sae.d_sae) == (14, "smollm2-135m-resid/layer_14", 2048)
    assert load_sae("smollm2-135m-resid/14").info["source"] == sae.info["source"]
    with expect_fail(UnknownName, "unknown layer of smollm2-135m-resid '20'; there are: 14, 15"):
        load_sae("smollm2-135m-resid/layer_20")
    with expect_fail(UnknownName, "unknown layer of smollm2-135m-resid 'last'; there are: 14, 15"):
        load_sae("smollm2-135m-resid/last")
    assert torch.equal(SAE.from_pretrained("smollm2-135m-resid/layer_14").W_dec, sae.W_dec)
    sae


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
        zero = torch.zeros(12, dtype=torch.float64)
        save_sae(replace(a, b_enc=zero, threshold=zero), folder / "shared.safetensors")  # two tensors, one memory
        shared = load_sae(folder / "shared.safetensors", dtype=torch.float64)
        loaded = {name: load_sae(folder / name, dtype=torch.float64) for name in ("own.safetensors", "", "params.npz")}
    assert torch.equal(shared.threshold, zero) and torch.equal(shared.W_dec, a.W_dec)
    for name, b in loaded.items():
        assert all(torch.equal(p, b.parameters()[k]) for k, p in a.parameters().items()), name
        assert b.apply_b_dec_to_input is (name != "params.npz"), "Gemma Scope does not subtract b_dec"
        assert b.layer == (None if name == "own.safetensors" else 3)
    {name or "SAELens folder": b for name, b in loaded.items()}


def test_a_folder_of_dictionary_learning_is_read():
    a = random_sae(8, 12, seed=4, dtype=torch.float32)
    state = dict(W_enc=a.W_enc, b_enc=a.b_enc, W_dec=a.W_dec, b_dec=a.b_dec, threshold=a.threshold)
    trainer = dict(
        dict_class="JumpReluAutoEncoder", layer=8, lm_name="EleutherAI/pythia-70m", activation_dim=8, dict_size=12
    )
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "resid_post_layer_8" / "trainer_0"
        at.mkdir(parents=True)
        (at / "config.json").write_text(json.dumps(dict(trainer=trainer)))
        torch.save(state, at / "ae.pt")
        b = load_sae(at)
        assert torch.equal(b.threshold, a.threshold) and torch.equal(b.W_dec, a.W_dec) and torch.equal(b.W_enc, a.W_enc)
        assert (b.layer, b.info["model_name"], load_sae(at / "ae.pt").layer) == (8, "EleutherAI/pythia-70m", 8)
        assert saes_below(Path(folder), None, "here") == {8: at}
        (at / "ae.pt").write_bytes(pickle.dumps(print))  # a pickle that is more than tensors
        with expect_fail(ValueError, "holds something else than tensors, or is damaged"):
            load_sae(at)
        torch.save(state, at / "ae.pt")
        (at / "ae.pt").write_bytes((at / "ae.pt").read_bytes()[:300])
        with expect_fail(ValueError, "holds something else than tensors, or is damaged"):
            load_sae(at)
        (at / "config.json").write_text('{"trainer": 3}')
        with expect_fail(ValueError, "config.json has no object 'trainer'"):
            load_sae(at)
    {k: b.info[k] for k in ("architecture", "layer", "model_name")}


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
        tensors = {k: p.contiguous() for k, p in a.parameters().items()}
        for name, text in (("settings", '{"info": 1}'), ("settings", '{"k": "3"}'), ("apply_b_dec_to_input", "tsue")):
            header = {"format": "saematch.sae/1", name: text}
            (folder / "odd.safetensors").write_bytes(safetensors_bytes(tensors, header))
            with expect_fail(ValueError, "odd.safetensors: its header has settings that no SAE has"):
                load_sae(folder / "odd.safetensors")
        save_sae(replace(a, info=dict(architecture=None, hook_name=3)), folder / "info.safetensors")
        assert load_sae(folder / "info.safetensors").info.keys() == {"hook_name", "source"}
        np.savez(folder / "objects.npz", W_enc=np.array([{}], dtype=object))
        with expect_fail(ValueError, "pickled objects, which are refused"):
            load_sae(folder / "objects.npz")
        with expect_fail(FileNotFoundError, "holds none of cfg.json, params.npz and ae.pt"):
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
