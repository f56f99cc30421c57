# Written from nbs/judging/09_chat.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.chat import (
    Chat,
    secret,
    unkeyed,
    question_key,
    answer_file,
    kept_answer,
    keep_answer,
    LimitReached,
    Limits,
    plan,
    client,
    content,
    ask,
)


import json
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fastcore.test import expect_fail

from saematch.ground import UsageError

pytest.importorskip("openai")
os.environ["SAEMATCH_TEST_KEY"] = "sk-not-to-be-seen"
def completion(text: str) -> str:
    "A chat completion as a server sends it."
    message = dict(index=0, finish_reason="stop", message=dict(role="assistant", content=text))
    usage = dict(prompt_tokens=20, completion_tokens=1, total_tokens=21)
    return json.dumps(dict(id="1", object="chat.completion", created=0, model="toy", choices=[message], usage=usage))


@contextmanager
def server(reply):
    "A server on this machine: `reply(number of the request, question)` gives (status, headers, body)."
    seen, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.append((body, self.headers.get("Authorization", "")))
                number = len(seen)
            status, headers, text = reply(number, body["messages"][-1]["content"])
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())
            except OSError:
                pass  # the client has gone

        def log_message(self, *args):
            pass

    at = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=at.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{at.server_port}/v1", seen
    finally:
        at.shutdown(), at.server_close()


question = lambda text: [dict(role="user", content=text)]


def test_a_missing_key_is_said_before_anything_is_sent():
    with expect_fail(UsageError, "the environment variable NO_SUCH_KEY is not set"):
        secret(Chat("https://api.example.com/v1", "gpt-4o", key="NO_SUCH_KEY"))
    assert secret(Chat("http://127.0.0.1:8000/v1", "small", key="NO_SUCH_KEY")) == "none"
    with expect_fail(UsageError, "is no address"):
        secret(Chat("localhost:8000", "small"))
    with expect_fail(UsageError, "user name or password"):
        secret(Chat("https://me:word@example.com/v1", "small"))
    chat = Chat("https://api.example.com/v1", "gpt-4o", key="SAEMATCH_TEST_KEY")
    assert secret(chat) == "sk-not-to-be-seen" and "not-to-be-seen" not in repr(chat)
    assert unkeyed(chat, "Incorrect key sk-not-to-be-seen") == "Incorrect key ***"
    chat


def test_an_answer_is_kept_for_its_model_and_question():
    chat, hello = Chat("http://localhost:1/v1", "small"), [dict(role="user", content="Hello")]
    with TemporaryDirectory() as folder:
        folder = Path(folder)
        assert kept_answer(folder, chat, hello) is None
        keep_answer(folder, chat, hello, "Good day")
        assert kept_answer(folder, chat, hello) == "Good day"
        assert kept_answer(folder, Chat("http://localhost:2/v1", "small"), hello) == "Good day"  # another place
        assert kept_answer(folder, Chat("http://localhost:1/v1", "large"), hello) is None
        assert kept_answer(folder, chat, [dict(role="user", content="Hello!")]) is None
        path = answer_file(folder, question_key(chat, hello))
        path.write_text(path.read_text().replace("Good day", "Good bye"))
        assert kept_answer(folder, chat, hello) is None, "what does not fit its checksum is no answer"
    question_key(chat, hello)


def test_the_cost_is_said_before():
    chat, questions = Chat("http://localhost:1/v1", "small"), [[dict(role="user", content="x" * 300)] for _ in range(10)]
    with TemporaryDirectory() as folder:
        keep_answer(Path(folder), chat, [dict(role="user", content="known")], "yes")
        known = [*questions, [dict(role="user", content="known")]]
        p = plan(chat, known, Limits(requests=50, money=1, price_in=2.5, price_out=10), Path(folder))
        assert (p.questions, p.kept, p.tokens_in, p.tokens_out) == (11, 1, 10 * (8 + 4 + 100), 160)
        with expect_fail(LimitReached, "too many"):
            plan(chat, known, Limits(requests=9), Path(folder))
        with expect_fail(LimitReached, "too expensive"):
            plan(chat, known, Limits(money=0.001, price_in=2.5, price_out=10), Path(folder))
    with expect_fail(UsageError, "needs the prices"):
        Limits(money=1)
    with expect_fail(UsageError, "must be above 0"):
        Limits(requests=0)
    p


def test_nothing_is_asked_twice():
    questions = [question(f"What is {i}?") for i in (1, 2, 3, 2)]
    with TemporaryDirectory() as folder, server(lambda n, q: (200, {}, completion(q[-2]))) as (url, seen):
        chat, said = Chat(url, "toy", key="SAEMATCH_TEST_KEY"), []
        first = ask(chat, questions, folder=folder, say=said.append)
        assert first.texts == ["1", "2", "3", "2"] and len(seen) == first.requests == 3 and first.tokens == (60, 3)
        assert seen[0][0]["temperature"] == 0 and seen[0][1] == "Bearer sk-not-to-be-seen"
        again = ask(chat, questions, folder=folder, say=said.append)
        assert again.texts == first.texts and again.requests == 0 and again.kept == 4 and len(said) == 1
        files = [p for p in Path(folder).rglob("*") if p.is_file()]
        assert len(files) == 3 and not any(b"not-to-be-seen" in p.read_bytes() for p in files)
    print(said[0])
    print(first)


def test_a_busy_server_is_asked_again():
    def busy(n, q):
        return (429, {"Retry-After": "0.2"}, "{}") if n < 3 else (200, {}, completion("3"))


    with TemporaryDirectory() as folder, server(busy) as (url, seen):
        start = time.monotonic()
        answers = ask(Chat(url, "toy"), [question("?")], folder=folder, say=lambda text: None)
        assert answers.texts == ["3"] and answers.requests == 3 and time.monotonic() - start > 0.4
    answers


def test_limits_hold_and_nothing_is_lost():
    questions = [question(f"What is {i}?") for i in range(9)]
    quiet = dict(say=lambda text: None, jobs=3)
    with TemporaryDirectory() as folder, server(lambda n, q: (200, {}, completion(q[-2]))) as (url, seen):
        chat = Chat(url, "toy", retries=0, options=dict(max_tokens=1))
        with expect_fail(LimitReached, "too many"):
            ask(chat, questions, folder=folder, limits=Limits(requests=8), **quiet)
        assert not seen
        price = Limits(money=5, price_in=0, price_out=1e6)  # 1 for each token of an answer
        with expect_fail(LimitReached, "too expensive"):
            ask(chat, questions, folder=folder, limits=price, **quiet)
        assert not seen
        for part in (questions[:5], questions):  # five, then the four others
            ask(chat, part, folder=folder, limits=price, **quiet)
        assert len(seen) == 9


    def slow(n, q):
        time.sleep(0 if n <= 4 else 3)
        return 200, {}, completion("1")


    with TemporaryDirectory() as folder, server(slow) as (url, seen):
        ask(Chat(url, "toy"), questions[:4], folder=folder, **quiet)
        with expect_fail(LimitReached, "the limit on seconds"):
            ask(Chat(url, "toy"), questions, folder=folder, limits=Limits(seconds=1), say=lambda text: None, jobs=1)
        there = sum(kept_answer(Path(folder), Chat(url, "toy"), q) is not None for q in questions)
        assert 4 <= there < 9


def test_where_nobody_answers():
    with TemporaryDirectory() as folder:
        with expect_fail(ConnectionError, "0 of 1 answers are kept"):
            ask(Chat("http://127.0.0.1:9/v1", "toy", retries=0), [question("?")], folder=folder, say=lambda text: None)
        with server(lambda n, q: (404, {}, json.dumps(dict(error=dict(message="no model toy"))))) as (url, seen):
            with expect_fail(UsageError, "refuses model 'toy'"):
                ask(Chat(url, "toy"), [question("?")], folder=folder, say=lambda text: None)
        with server(lambda n, q: (401, {}, json.dumps(dict(error=dict(message="bad key sk-not-to-be-seen"))))) as (
            url,
            seen,
        ):
            with expect_fail(UsageError, "bad key ***"):
                ask(Chat(url, "toy", key="SAEMATCH_TEST_KEY"), [question("?")], folder=folder, say=lambda text: None)
