"""`saematch paper --judge-url`: the whole command, against servers that answer, slowly, wrongly and not at all."""

import json
import shutil
import socket
import time

import pandas as pd
import pytest
from test_paper_cli import arguments, place, write_text  # noqa: F401

from saematch.studies.cli import main

pytest.importorskip("openai")
from test_judging_chat import completion, server  # noqa: E402

FEATURES = ["--cards", "--features", "4", "--feature-documents", "6"]  # cards from the pass that judges


@pytest.fixture
def paper(place, tmp_path, monkeypatch):  # noqa: F811
    "The command for a toy suite, with features judged on text of their own; answers are kept in a folder of the test."
    monkeypatch.setenv("SAEMATCH_CACHE", str(tmp_path / "cache"))
    write_text(place / "other.jsonl", seed=8)
    asked = arguments(place, *FEATURES, "--feature-text", str(place / "other.jsonl"))
    asked[0] = "paper"
    asked.remove("--evaluate")
    asked[asked.index("--loss-documents") + 1] = "0"

    def command(url, *more):
        return main([*asked, "--judge-url", url, "--judge-model", "toy", "--descriptions", "explain", *more])

    return command


def answers(place):  # noqa: F811
    return pd.read_parquet(place / "out" / "evidence" / "answers.parquet")


def reply(n, question):
    "Descriptions in words, and 3 where both descriptions are one text."
    if "Feature A" not in question:
        return 200, {}, completion("words like " + question.split("<<")[1].split(">>")[0])
    a, b = (line.split(": ", 1)[1] for line in question.splitlines()[:2])
    return 200, {}, completion("3" if a == b else "1")


def test_a_judge_is_asked_once_and_its_figures_are_drawn(paper, place, capsys):  # noqa: F811
    with server(reply) as (url, seen):
        assert paper(url) == 0
        said = capsys.readouterr().out
        assert "Figure 4, toy" in said and "sampled features have a description" in said and "questions" in said
        table = answers(place)
        assert set(table.level) <= {1, 3} and (table.judge == "toy").all()
        assert (place / "out" / "paper" / "figure_4_toy.png").is_file()
        assert (place / "out" / "paper.html").read_text().count("Figure") > 8
        assert (place / "suite" / "cards" / "layer_1.parquet").is_file(), "made in the pass that judges"
        before = len(seen)
        assert paper(url, "--judge-features", "2") == 0 and len(seen) == before, "all answers are kept"
    assert 0 < len(answers(place)) < len(table)
    capsys.readouterr()
    assert paper(url) == 0, "the server is gone, and nobody is asked"
    assert answers(place).equals(table)


@pytest.mark.usefixtures("unpainted")
def test_servers_that_do_not_judge(paper, place, capsys):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert paper(dead) == 1
    assert f"{dead} does not answer" in capsys.readouterr().err
    tables = json.loads((place / "out" / "summary.json").read_text())["layers"]
    assert tables == [0, 1, 2] and not (place / "out" / "evidence" / "answers.parquet").exists(), "the run is complete"

    with server(lambda n, q: (200, {}, completion("I would rather not say."))) as (url, seen):
        assert paper(url) == 0
    assert (answers(place).level == 0).all() and "answers say none of 1, 2, 3" in capsys.readouterr().out
    shutil.rmtree(place / "cache")

    with server(lambda n, q: (200, {}, "<html>Welcome</html>")) as (url, seen):
        assert paper(url) == 1 and "in a row got no answer" in capsys.readouterr().err

    def slow(n, q):
        time.sleep(0.4 if n > 3 else 0)
        return reply(n, q)

    with server(slow) as (url, seen):
        assert paper(url, "--judge-seconds", "1.2") == 2
        told = capsys.readouterr().err
        assert "the limit on seconds (1.2) is reached" in told and "answers are kept" in told
        assert paper(url, "--judge-requests", "1") == 2 and "too many" in capsys.readouterr().err
    some = len(list((place / "cache" / "judge").rglob("*.json")))
    assert some > 0
    with server(reply) as (url, seen):
        assert paper(url) == 0
        assert len(seen) + some == len(list((place / "cache" / "judge").rglob("*.json"))), "only what is missing"


def test_half_an_address_is_refused_before_the_work(paper, place, capsys):  # noqa: F811
    asked = arguments(place, "--judge-url", "http://127.0.0.1:1/v1")
    asked[0] = "paper"
    asked.remove("--evaluate")
    assert main(asked) == 2 and "needs both --judge-url and --judge-model" in capsys.readouterr().err
    assert main([*asked, "--judge-model", "toy", "--judge-money", "1"]) == 2
    assert "needs the prices of tokens" in capsys.readouterr().err and not (place / "out").exists()
