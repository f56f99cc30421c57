# Written from nbs/judging/13_judge.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.judge import (
    question,
    level_of,
    published,
    labelled,
    judge,
    served,
)


import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.judging.chat import Chat, keep_answer
from saematch.model.cards import cards


def test_what_counts_as_an_answer():
    plain = {"3": 3, " 2\n": 2, "**1**": 1, "Answer: 3": 3, "3 = the same": 3, "2 - maybe": 2, "(1) different": 1}
    plain |= {"<think>1 or 2? 2.</think>3": 3, "The answer is 2.": 2}
    none = ["", None, "4", "3.5", "13", "1 or 2", "A: 1\nB: 3", "1 = the same", "The 3 tokens differ", "same", "Features 1"]
    assert {t: level_of(t) for t in plain} == plain and not any(level_of(t) for t in none)
    told = question("is, be, was", "forms of\n'to be'")
    assert "Feature B: forms of 'to be'" in told[-1]["content"]
    assert "{" not in question("{b}", "x")[-1]["content"].replace("{b}", "")
    assert [t["content"] for t in told if t["role"] == "assistant"] == ["3", "1", "2"] and len(
        question("a", "b", "same-1")
    ) == 2
    with expect_fail(UsageError, "unknown prompt 'same-9'"):
        question("a", "b", "same-9")
    print(told[-1]["content"])


def test_neuronpedia_s_files_are_read():
    with TemporaryDirectory() as folder:
        at = Path(folder) / "v1" / "gemma-2-2b" / "12-gemmascope-res-16k" / "explanations"
        at.mkdir(parents=True)
        row = lambda i, text, by="gpt-4o-mini": json.dumps(
            dict(modelId="gemma-2-2b", layer=at.parent.name, index=str(i), description=text, explanationModelName=by)
        )
        for n, rows in (
            (0, [row(0, " forms of to be"), row(1, "")]),
            (10, [row(0, "later", "o3")]),
            (2, [row(7, "digits")]),
        ):
            (at / f"batch-{n}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
        source = "gemma-2-2b/12-gemmascope-res-16k"
        assert published(folder, source) == published(Path(folder) / "v1", source) == {0: "forms of to be", 7: "digits"}
        assert published(folder, source, by="o3") == {0: "later"}
        with expect_fail(UsageError, "it has gemma-2-2b/12-gemmascope-res-16k"):
            published(folder, "gemma-2-2b/13-gemmascope-res-16k")
        whole = (at / "batch-2.jsonl.gz").read_bytes()
        (at / "batch-2.jsonl.gz").write_bytes(whole[:-12])
        with expect_fail(UsageError, "batch-2.jsonl.gz is damaged"):
            published(folder, source)
        (at / "batch-2.jsonl.gz").write_bytes(gzip.compress(b"not json"))
        with expect_fail(UsageError, "line 1"):
            published(folder, source)
    print(labelled(cards("smollm2-135m-resid", 14), [1091, 3, 4]))


def test_a_judge_with_known_answers():
    chat, a, b = Chat("http://localhost:1/v1", "toy"), {0: "is, be", 1: "digits"}, {5: "is, was", 6: "numbers"}
    with TemporaryDirectory() as folder:
        for i, j, answer in ((0, 5, "3"), (1, 6, "Maybe the 2")):
            keep_answer(Path(folder), chat, question(a[i], b[j]), answer)
        found = judge([(0, 5), (1, 6), (3, -1)], a, b, chat, folder=folder)  # all answered: nobody is asked
        assert found.table.level.tolist() == [3, 0] and found.unparsed == 1 and found.score.value == 3
        with expect_fail(UsageError, "1 of 2 pairs lack a description, the first: latent 9 of B"):
            judge([(0, 5), (1, 9)], a, b, chat, folder=folder)
        some = judge([(1, 9), (0, 5)], a, b, chat, folder=folder, missing="skip")
        assert some.table.level.tolist() == [0, 3] and some.unparsed == 0
    found


def test_a_folder_without_a_model():
    with expect_fail(UsageError, "no folder"), served("no/such/folder"):
        pass
