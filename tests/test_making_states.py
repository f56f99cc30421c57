# Written from nbs/making/01_states.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.making.states import (
    pack,
    kept,
    open_states,
    cache_states,
)


import argparse
import inspect
import warnings
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

import numpy as np
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.model.activations import hidden_states
from saematch.model.toys import Letters, letters_lm

TEXTS = [inspect.getsource(f) for f in (argparse.ArgumentParser, argparse.HelpFormatter, argparse._ActionsContainer)]


def test_documents_are_packed():
    packed = pack(["no cat", "a dog"], Letters(), context=7)
    letters = ["".join("|" if i == 0 else chr(i - 1) for i in row) for row in packed.ids.tolist()]
    assert letters == ["||no ca", "|t|a do"]  # what fills no sequence is left out
    assert packed.counted.sum() == 10  # the start tokens are no text
    letters


def test_too_little_text_is_refused():
    with expect_fail(ValueError, "1 texts make 7 tokens, less than one sequence of 256"):
        pack(["no cat"], Letters())
    with expect_fail(ValueError, "0 texts make 0 tokens"):
        pack([], Letters())


def test_massive_activations_are_left_out():
    g = torch.Generator().manual_seed(0)
    x = {layer: torch.randn(3, 20, 8, generator=g) for layer in (2, 3)}
    x[2][0, 5] *= 30
    x[3][1, 7] *= 30
    x[3][:, 0] *= 1000
    counted = torch.ones(3, 20, dtype=torch.bool)
    counted[:, 0] = counted[2, 4] = False  # the first position, and one that is no text
    keep, why = kept(counted, x, massive=5.0)
    assert why == dict(first=3, special=1, massive_2=1, massive_3=1, massive=2)
    assert keep.sum() == 3 * 20 - 3 - 1 - 2 and not keep[0, 5] and not keep[1, 7]
    why


def test_a_killed_run_continues():
    lm, t = letters_lm(), pack(TEXTS[:1], Letters(), context=64)
    whole = cache_states(lm, t, [0, 1], folder := Path(mkdtemp()) / "whole", progress=False)
    forward, calls = lm.run_with_hooks, []


    def killed(*args, **kw):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(*args, **kw)


    with patch.object(lm, "run_with_hooks", killed):
        with expect_fail(KeyboardInterrupt):
            cache_states(lm, t, [0, 1], broken := folder.with_name("broken"), progress=False)
        garbage = np.load(broken / "layer_0.npy", mmap_mode="r+")
        garbage[-5000:] = 77
        garbage.flush()
        assert open_states(broken).record["sequences"] == 32  # two batches of 16 are safe
        again = cache_states(lm, t, [0, 1], broken, progress=False)
    batches_of_16 = -(-len(t) // 16)
    assert len(calls) == batches_of_16 + 1, "only the batch that was interrupted ran twice"
    assert again.record == whole.record and all((again[layer] == whole[layer]).all() for layer in (0, 1))
    cache_states(lm, t, [0, 1], broken, progress=False)
    assert len(calls) == batches_of_16 + 1, "what is complete is only opened"
    f"{len(calls)} forward passes for {batches_of_16} batches"


def test_a_damaged_file_is_named_and_made_again():
    lm, t = letters_lm(), pack(TEXTS[:1], Letters(), context=64)
    whole = cache_states(lm, t, [0, 1], Path(mkdtemp()) / "states", progress=False)
    right, cut, told = {layer: whole[layer].copy() for layer in (0, 1)}, whole.folder / "layer_1.npy", []
    size = cut.stat().st_size
    for damage in (size // 3, size - 1, 40, 0, None):  # bytes that are left; None: the file is gone
        data = cut.read_bytes()[:damage] if damage is not None else None
        cut.unlink()
        if data is not None:
            cut.write_bytes(data)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            again = cache_states(lm, t, [0, 1], whole.folder, progress=False)
        told += [str(w.message) for w in found]
        assert again.record == whole.record and all(np.array_equal(again[layer], right[layer]) for layer in (0, 1))
    assert len(told) == 5 and all("layer_1.npy is no" in line and "made again" in line for line in told)
    whole_array = cut.read_bytes()
    for place in (200, size // 2):  # in the rows that were written
        cut.write_bytes(whole_array[:place] + bytes([whole_array[place] ^ 1]) + whole_array[place + 1 :])
        with expect_fail(ValueError, "layer_1.npy is damaged: its rows do not fit their checksum; the same call of"):
            open_states(whole.folder)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            again = cache_states(lm, t, [0, 1], whole.folder, progress=False)
        assert "layer_1.npy is damaged" in str(found[0].message) and np.array_equal(open_states(whole.folder)[1], right[1])
    print(told[0].replace(str(whole.folder), whole.folder.name))


def test_hidden_states_are_those_of_the_model():
    lm, t = letters_lm(), pack(TEXTS[:1], Letters(), context=64)
    states = cache_states(lm, t, [0, 2], Path(mkdtemp()) / "states", batch=100, progress=False)
    x = hidden_states(lm, t, [0, 2])
    assert all(np.array_equal(states[layer], x[layer][t.counted].half().numpy()) for layer in (0, 2))
    assert states.record["left_out"]["massive"] == 0
    with expect_fail(UsageError, "no hidden states of layer 1 in states; there are layers [0, 2]"):
        states[1]
    with expect_fail(UsageError, "the model has layers 0 to 2; [2, 3] was asked for"):
        cache_states(lm, t, [2, 3], states.folder)
    with expect_fail(FileNotFoundError, "states.json is missing"):
        open_states(mkdtemp())
    with expect_fail(UsageError, "made with another layers and batch"):
        cache_states(lm, t, [0, 1], states.folder, progress=False)
    with expect_fail(ValueError, "beyond float16"):
        lm.embed.W_E.data *= 1e7
        cache_states(lm, t, [0], Path(mkdtemp()) / "large", progress=False)
    states
