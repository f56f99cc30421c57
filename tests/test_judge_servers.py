"""The judge against servers that answer slowly, wrongly and not at all, and against `transformers serve`."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from importlib.util import find_spec

import pytest

from saematch.ground import UsageError
from saematch.judging.chat import Chat, LimitReached, Limits, ask, kept_answer
from saematch.judging.judge import judge, level_of, question, served

pytest.importorskip("openai")
from test_judging_chat import completion, server  # noqa: E402

HELLO = [dict(role="user", content="Hello")]
QUIET = dict(say=lambda text: None, progress=False)


def asked(url, folder, questions=(HELLO,), **chat):
    how = dict(timeout=5, retries=0) | chat
    return ask(Chat(url, "toy", **how), list(questions), folder=folder, jobs=1, **QUIET)


@pytest.mark.parametrize(
    "reply, told",
    [
        ((200, {"Content-Type": "text/html"}, "<html>Welcome</html>"), "no chat completion"),
        ((200, {}, "<html>Welcome</html>"), "JSON"),
        ((200, {}, completion("3")[:-30]), "JSON"),
        ((200, {}, "{}"), "no chat completion"),
        ((200, {}, "[]"), "no chat completion"),
        ((200, {}, '{"choices": []}'), "no chat completion"),
        ((200, {}, '{"choices": [{"message": null}]}'), "no chat completion"),
        ((500, {}, "out of memory"), "500"),
        ((503, {"Content-Type": "text/html"}, "<h1>busy</h1>"), "503"),
        ((429, {}, '{"error": {"message": "quota"}}'), "quota"),
    ],
)
def test_a_reply_that_is_no_answer(tmp_path, reply, told):
    with server(lambda n, q: reply) as (url, seen):
        with pytest.raises(ConnectionError, match="1 questions in a row got no answer") as e:
            asked(url, tmp_path)
        assert told in str(e.value) and len(seen) == 1 and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("status", [500, 502, 408, 409])
def test_errors_of_the_moment_are_tried_again(tmp_path, status):
    with server(lambda n, q: (status, {}, "{}") if n < 2 else (200, {}, completion("2"))) as (url, seen):
        assert asked(url, tmp_path, retries=2).texts == ["2"] and len(seen) == 2


def test_a_server_that_is_too_slow(tmp_path):
    def slow(n, q):
        time.sleep(1.5 if n == 1 else 0)
        return 200, {}, completion("1")

    with server(slow) as (url, seen):
        start = time.monotonic()
        found = asked(url, tmp_path, [HELLO, question("a", "b")], timeout=0.5)
        assert found.texts == [None, "1"] and "imed out" in found.failures[0] and time.monotonic() - start < 20
        assert asked(url, tmp_path, [HELLO, question("a", "b")]).texts == ["1", "1"], "only what failed is asked again"
        assert len(seen) == 3


def test_a_server_that_never_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="0 of 1 answers are kept"):
            asked(url, tmp_path, timeout=0.5)
        assert time.monotonic() - start < 20


def test_a_server_that_hangs_up(tmp_path):
    def hang_up(at):
        for _ in range(3):
            at.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as at:
        threading.Thread(target=hang_up, args=(at,), daemon=True).start()
        with pytest.raises(ConnectionError, match="does not answer"):
            asked(f"http://127.0.0.1:{at.getsockname()[1]}/v1", tmp_path, retries=1)


def test_a_run_ends_when_a_server_goes_away(tmp_path):
    "Five failures in a row end it; what was answered before is kept and not asked again."
    questions = [question(f"a{i}", "b") for i in range(40)]
    with server(lambda n, q: (200, {}, completion("1")) if n <= 7 else (500, {}, "{}")) as (url, seen):
        with pytest.raises(ConnectionError, match="5 questions in a row .* 7 of 40 answers are kept"):
            asked(url, tmp_path, questions)
        assert len(seen) < 20
    with server(lambda n, q: (200, {}, completion("1"))) as (url, seen):
        assert asked(url, tmp_path, questions).kept == 7 and len(seen) == 33


def test_repeated_requests_count_and_the_limit_holds(tmp_path):
    with server(lambda n, q: (500, {}, "{}")) as (url, seen):
        with pytest.raises((ConnectionError, LimitReached)):
            ask(
                Chat(url, "toy", retries=9),
                [question(f"a{i}", "b") for i in range(3)],
                folder=tmp_path,
                limits=Limits(requests=3),
                jobs=3,
                **QUIET,
            )
        assert len(seen) <= 3


def test_the_key_is_nowhere(tmp_path, monkeypatch, capfd):
    "A server that repeats the key in answers and errors: it is in no file, no message, no output."
    monkeypatch.setenv("JUDGE_TEST_KEY", "sk-very-secret")
    chat = dict(key="JUDGE_TEST_KEY")
    with server(lambda n, q: (200, {}, completion("your key is sk-very-secret"))) as (url, seen):
        found = asked(url, tmp_path, **chat)
        assert seen[0][1] == "Bearer sk-very-secret" and found.texts == ["your key is ***"]
    for status in (400, 401, 403, 404, 422, 429, 500):
        body = json.dumps(dict(error=dict(message="key sk-very-secret is bad")))
        with server(lambda n, q, s=status, b=body: (s, {}, b)) as (url, seen):
            with pytest.raises((UsageError, ConnectionError)) as e:
                asked(url, tmp_path, [question("c", "d")], **chat)
            assert "very-secret" not in "".join(traceback.format_exception(e.value))
    assert not any(b"very-secret" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert "very-secret" not in "".join(capfd.readouterr())


def test_a_killed_run_goes_on(tmp_path):
    "kill -9 in the middle: what was answered is not asked again."
    code = (
        "import sys; from saematch.judging.chat import Chat, ask; from saematch.judging.judge import question; "
        "ask(Chat(sys.argv[1], 'toy'), [question(f'a{i}', 'b') for i in range(30)], folder=sys.argv[2], jobs=1)"
    )

    def steady(n, q):
        time.sleep(0.05)
        return 200, {}, completion("1")

    with server(steady) as (url, seen):
        process = subprocess.Popen([sys.executable, "-c", code, url, str(tmp_path)], stdout=subprocess.DEVNULL)
        start = time.monotonic()
        while len(list(tmp_path.rglob("*.json"))) < 3 and process.poll() is None and time.monotonic() - start < 120:
            time.sleep(0.01)
        process.kill(), process.wait()
        there = sum(kept_answer(tmp_path, Chat(url, "toy"), question(f"a{i}", "b")) is not None for i in range(30))
        assert there >= 3
        before = len(seen)
        found = asked(url, tmp_path, [question(f"a{i}", "b") for i in range(30)])
        assert found.kept == there and found.texts == ["1"] * 30 and len(seen) - before == 30 - there


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'saematch\[judge\]'"):
        ask(Chat("http://127.0.0.1:9/v1", "toy"), [HELLO], folder=tmp_path, **QUIET)


@pytest.mark.lm
@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(p) is None for p in ("fastapi", "uvicorn")), reason="transformers serve needs fastapi and uvicorn"
)
def test_the_judge_asks_transformers_serve(tmp_path):
    "A real server with a real model, started and stopped here: it answers, and the second time nobody is asked."
    from saematch.model.lm import cache_folder, load_lm

    try:
        load_lm("smollm2-135m", "cpu")
    except OSError as e:
        pytest.skip(str(e))
    a, b = {0: "is, be, was", 1: "digits"}, {5: "is, were, been", 6: "of, from"}
    with served(cache_folder() / "smollm2-135m", timeout=120) as chat:
        found = judge([(0, 5), (1, 6)], a, b, chat, folder=tmp_path, jobs=1, **QUIET)
        answers = found.table.answer.tolist()
        assert found.asked.requests == 2 and all(isinstance(t, str) and t for t in answers)
        assert found.table.level.tolist() == [level_of(t) for t in answers] and found.asked.tokens[0] > 100
        wrong = Chat(chat.base_url, "no-such-model", retries=0)
        with pytest.raises((UsageError, ConnectionError)):
            judge([(0, 5)], a, b, wrong, folder=tmp_path, **QUIET)
    again = judge([(0, 5), (1, 6)], a, b, chat, folder=tmp_path, **QUIET)  # the server is gone
    assert again.table.equals(found.table) and again.asked.requests == 0
    with pytest.raises(ConnectionError, match="does not answer"):
        judge([(0, 6)], a, b, Chat(chat.base_url, chat.model, retries=0), folder=tmp_path, **QUIET)
    assert "OPENAI_API_KEY" not in os.environ or chat.local
