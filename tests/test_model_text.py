# Written from nbs/model/03_text.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.text import (
    TEXTS,
    load_text,
    joined,
    tokenize,
)


import tempfile
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.model.toys import toy_lm


def test_text_comes_from_many_places():
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
    lm = toy_lm()
    t = tokenize(lm, ["w1 w2 w3", "w4", "w5 w6 <pad> w7 w8"], length=5)
    assert t.ids.tolist() == [[0, 4, 5, 6, 0], [0, 8, 9, 1, 10]], "the second text is too short to predict anything"
    assert t.lengths.tolist() == [4, 5]
    assert t.counted.int().tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 0, 1]], "no BOS, no padding, no special token"
    both = joined([t, tokenize(lm, ["w1 w2"])])
    assert len(both) == 3 and both.lengths.tolist() == [4, 5, 3] and both.counted[2].int().tolist() == [0, 1, 1, 0, 0]
    with expect_fail(ValueError, "nothing to predict"):
        tokenize(lm, ["w1"])
    with expect_fail(ValueError, "between 3 and the model's context of 64"):
        tokenize(lm, ["w1 w2"], length=65)
    for none, said in (
        (None, "not None; lm = load_lm() loads one"),
        ("gpt2", "the name 'gpt2'; lm = load_lm('gpt2') loads"),
    ):
        with expect_fail(UsageError, said):
            tokenize(none, ["w1 w2"])
    t.ids, t.counted.int()
