# Written from nbs/judging/15_explain.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.explain import (
    marked,
    explain_question,
    description_of,
    chat_with,
    detection_texts,
    detect_question,
    marks_of,
    detected,
)


import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.judging.chat import Chat, keep_answer
from saematch.model.cards import cards

pytest.importorskip("openai")
here = cards("smollm2-135m-resid", 14)


def test_the_question_shows_marked_texts():
    question = explain_question(here[1091])
    first = next(c for c in here[1091].contexts if c.quantile == "top")
    inside = marked(first).split("<<")[1].split(">>")[0]
    assert (
        inside
        and any(inside.startswith(t) for t, v in zip(first.tokens, first.activations) if v)
        and question[1]["content"].count("<<") >= 10
    )
    assert description_of('**Description:** "forms of to be"\nBecause ...') == "forms of to be"
    assert description_of("<think>hm</think>\n digits ") == "digits" and description_of(None) == description_of(" \n") == ""
    never = next((i for i in here if not here[i].contexts), None)
    if never is not None:
        with expect_fail(UsageError, "was never active"):
            explain_question(here[never])
    print(question[1]["content"][:500])


def test_texts_to_test_on():
    texts, truth = detection_texts(here, 1091)
    assert len(texts) == len(truth) == 10 and sum(truth) == 5 and (texts, truth) == detection_texts(here, 1091)
    shown = explain_question(here[1091])[1]["content"].replace("<<", "").replace(">>", "")
    assert not any(t.strip() in shown for t, on in zip(texts, truth) if on), "what was shown is not asked about"
    assert marks_of("[1, 0, 1]", 3) == [True, False, True] and marks_of("```json\n[0]\n```", 1) == [False]
    assert all(marks_of(t, 3) is None for t in ("[1, 0]", "1, 0, 1", "[1, 2, 0]", "yes", None, "[true, false, true]"))
    for text, on in list(zip(texts, truth))[:4]:
        print(int(on), text[:90])


def test_a_model_that_knows_is_scored_one():
    chat = Chat("http://localhost:1/v1", "toy")
    truth = {i: detection_texts(here, i) for i in (1091, 3, 10)}
    wrong = [not x for x in truth[3][1]]
    replies = [json.dumps([int(x) for x in truth[1091][1]]), json.dumps([int(x) for x in wrong]), "I think all of them"]
    with TemporaryDirectory() as folder:
        for (texts, _), reply in zip(truth.values(), replies):
            keep_answer(Path(folder), chat_with(chat, max_tokens=48), detect_question("something", texts), reply)
        found = detected(here, dict.fromkeys(truth, "something"), chat, folder=folder)  # all answered: nobody is asked
    assert found.accuracy[0] == 1 and found.accuracy[1] == 0 and np.isnan(found.accuracy[2])
    found.astype(object).fillna("no answer")
