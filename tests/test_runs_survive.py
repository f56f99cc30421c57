"""Runs that must end well or not begin: blocks without a difference, nothing matched, odd SAEs, odd names."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from saematch import load_sae, load_suite, match, planted, random_sae, save_sae
from saematch.ground import UsageError, read_json, read_safetensors
from saematch.lap import above
from saematch.lap.similarities import Similarities
from saematch.matching.match import Match
from saematch.studies import run as running
from saematch.studies.lives import LINEAGES, lineages_in
from saematch.studies.run import finish_exchange, run


def written(folder, change=lambda sae: sae, layers=(1, 2, 3), **how):
    "A suite of small SAEs of one family, each changed, one file a layer."
    sae = random_sae(8, 24, **how)
    for layer in layers:
        save_sae(change(sae), folder / f"layer_{layer}.safetensors")
        sae = planted(sae, decoder_noise=0.8, encoder_noise=0.8, replaced=0.2, seed=layer).sae
    return folder


ZERO = {
    "b_enc": lambda s: replace(s, b_enc=torch.zeros_like(s.b_enc)),
    "W_dec": lambda s: replace(s, W_dec=torch.zeros_like(s.W_dec)),
}


@pytest.mark.parametrize("name, activation", [("b_enc", "jumprelu"), ("W_dec", "jumprelu"), ("b_enc", "topk")])
@pytest.mark.usefixtures("unpainted")
def test_a_block_without_differences(name, activation, tmp_path):
    "All distances of a constant block are 0, those of random pairs too: its errors have no relative size."
    top = lambda s: replace(s, activation="topk", k=3, threshold=torch.zeros_like(s.threshold))
    change = (lambda s: ZERO[name](top(s))) if activation == "topk" else ZERO[name]
    summary = run(written(tmp_path / "suite", change), out=tmp_path / "out", jobs=1, dead="keep")
    block = dict(b_enc="bias", W_dec="decoder")[name]
    relative = {r["relative"] for r in summary["mse"] if r["block"] == block}
    assert all(r != r for r in relative), relative
    assert "–</td>" in (tmp_path / "out" / "report.html").read_text()
    assert "nan" not in " ".join(summary["findings"]), summary["findings"]


@pytest.mark.parametrize("reject", [0.0, 12.0])
@pytest.mark.usefixtures("unpainted")
def test_rejection_that_leaves_none_or_few(reject, tmp_path):
    summary = run(written(tmp_path / "suite", layers=(1, 2, 3, 4)), out=tmp_path / "out", jobs=1, reject=reject)
    assert "nan" not in " ".join(summary["findings"]), summary["findings"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert summary["findings"][0] in page and ("no pairs to judge" in page) == (reject == 0)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("unpainted")
def test_overwriting_replaces_results_only_when_the_new_ones_are_complete(tmp_path, monkeypatch):
    suite, out = written(tmp_path / "suite", layers=(1, 2)), tmp_path / "out"
    run(suite, out=out, jobs=1)
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(UsageError, match="the seed must be a whole number"):
        run(suite, out=out, jobs=1, seed=99999999999999999999, overwrite=True)
    save_sae(random_sae(9, 24), suite / "layer_3.safetensors")
    with pytest.raises(ValueError, match="different width"):
        run(suite, out=out, jobs=1, overwrite=True)
    assert contents(out) == before, "what cannot be run replaces nothing"
    monkeypatch.setattr(running, "collect", lambda matches: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(suite, layers=[1, 2], out=out, jobs=1, fold=False, overwrite=True)
    assert {k: v for k, v in contents(out).items() if not k.startswith(".next/")} == before
    done = {p: p.stat().st_mtime_ns for p in (out / ".next" / "matches").rglob("*.safetensors")}
    monkeypatch.undo()
    seen, finish = {}, running.finish_exchange
    watch = lambda o: (
        seen.update({p: p.stat().st_mtime_ns for p in (o / ".done" / "matches").rglob("*.safetensors")}),
        finish(o),
    )
    monkeypatch.setattr(running, "finish_exchange", watch)
    summary = run(suite, layers=[1, 2], out=out, jobs=1, fold=False, overwrite=True)
    assert sorted(seen.values()) == sorted(done.values()) and done, "what was finished is not matched again"
    assert read_json(out / "summary.json") == summary and not (out / ".next").exists()
    assert not (out / ".done").exists() and (out / "notes.txt").read_text() == "mine"


def test_an_exchange_may_be_killed_anywhere(tmp_path, monkeypatch):
    suite, out, new = written(tmp_path / "suite", layers=(1, 2)), tmp_path / "out", tmp_path / "new"
    run(suite, out=out, jobs=1)
    run(suite, out=new, jobs=1, fold=False)
    (new / "names.json").write_text(json.dumps(dict(names=sorted(p.name for p in new.iterdir()))))
    (out / "paper").mkdir()  # only the old results have one
    expected = {k: v for k, v in contents(new).items() if k != "names.json"}
    replace_, moves = running.os.replace, len(list(new.iterdir())) - 1
    for stop in range(moves + 1):
        here = tmp_path / f"stop{stop}"
        shutil.copytree(out, here), shutil.copytree(new, here / ".done")
        left = iter(range(stop))
        monkeypatch.setattr(
            running.os, "replace", lambda a, b: replace_(a, b) if next(left, None) is not None else 1 / 0
        )
        try:
            finish_exchange(here)
        except ZeroDivisionError:
            assert not (here / "summary.json").exists(), "half of an exchange is no complete run"
        monkeypatch.undo()
        finish_exchange(here)
        assert contents(here) == expected and not (here / "paper").exists() and not (here / ".done").exists()


@pytest.mark.usefixtures("unpainted")
def test_saes_of_decoders_alone_are_run(tmp_path):
    suite = written(
        tmp_path / "suite",
        lambda s: replace(
            s,
            activation="other",
            threshold=torch.zeros_like(s.threshold),
            b_enc=torch.zeros_like(s.b_enc),
            W_enc=s.W_dec.T.contiguous(),
            info=dict(architecture="matching_pursuit"),
        ),
    )
    with pytest.raises(ValueError, match="no encoder per latent"):
        run(suite, out=tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()
    summary = run(suite, out=tmp_path / "out", jobs=1, weights="decoder")
    assert {r["block"] for r in summary["mse"]} == {"decoder", "all"}
    assert "no lineages" in summary["findings"][0] and "strangers matched in the same way" in summary["findings"][1]
    assert "nan" not in " ".join(summary["findings"])


@pytest.mark.usefixtures("unpainted")
def test_what_match_accepts_with_dead_latents_left_out_run_accepts(tmp_path):
    mute = lambda s: replace(s, W_dec=s.W_dec.index_fill(0, torch.tensor([3, 5]), 0.0))  # write nothing
    suite = written(tmp_path / "suite", mute)
    how = dict(dead="exclude", fold="decoder")
    a, b = (load_sae(suite / f"layer_{k}.safetensors") for k in (1, 2))
    m = match(a, b, **how)
    summary = run(suite, out=tmp_path / "out", jobs=1, **how)
    pairs = pd.read_parquet(tmp_path / "out" / "pairs.parquet").query("layer_a == 1 and layer_b == 2")
    assert pairs.latent_b.tolist() == m.index.tolist() and (pairs.latent_b == -1).sum() >= 2
    assert "nan" not in " ".join(summary["findings"])
    again = run(suite, out=tmp_path / "out", jobs=1, rows={"mine": lambda sae: sae.W_dec}, **how)
    mine = match(a, b, rows=lambda sae: sae.W_dec, **how)
    kept = Match.load(tmp_path / "out" / "matches" / "1-2" / "rows mine.safetensors")
    assert torch.equal(kept.index, mine.index) and "mine" in {r["method"] for r in again["mse"]}


@pytest.mark.usefixtures("unpainted")
def test_strangers_are_matched_once_and_kept(tmp_path):
    suite, out = written(tmp_path / "suite"), tmp_path / "out"
    first = run(suite, out=out, jobs=1)
    files = sorted((out / "matches").glob("*/strangers.safetensors"))
    assert [p.parent.name for p in files] == ["1-2", "2-3"]
    kept = {p: p.stat().st_mtime_ns for p in files}
    assert run(suite, out=out, jobs=1)["findings"] == first["findings"]
    assert {p: p.stat().st_mtime_ns for p in files} == kept
    level = pd.DataFrame(first["mse"]).query("block == 'all'").groupby("method").relative.mean()
    assert level.folded < level.strangers < level.random == 1


def test_texts_are_one_by_their_place_and_never_all(tmp_path, monkeypatch):
    from saematch.studies.options import Trial
    from saematch.studies.trial import check_trial

    monkeypatch.chdir(tmp_path)
    (tmp_path / "txt").mkdir()
    for name in ("txt/a.txt", "all"):
        (tmp_path / name).write_text("words")
    for twice in (("txt/a.txt", "./txt/a.txt"), ("txt/a.txt", str(tmp_path / "txt" / "a.txt")), ("all", "./all")):
        with pytest.raises(UsageError, match="named twice"):
            check_trial(Trial(text=twice))
    with pytest.raises(UsageError, match="name the text by its path, as ./all"):
        check_trial(Trial(text=("all", "txt/a.txt")))
    check_trial(Trial(text=("./all", "txt/a.txt", "prose")))


def test_a_text_with_dollars_in_its_name_is_drawn(tmp_path):
    from saematch.studies.panels import png
    from saematch.studies.text_figures import figure_10

    rows = [
        (s, 1, 2, route, metric, 0.5, 0.4, 0.6)
        for s in ("a$b", "c$\\frac$", "all")
        for route in ("match", "layer drop", "random")
        for metric in ("delta loss", "explained variance")
    ]
    columns = "source layer_a layer_b route metric value low high".split()
    assert png(figure_10(dict(scores=pd.DataFrame(rows, columns=columns), layers=[1, 2])).fig)


def test_a_folder_named_like_the_embedded_suite_is_read_by_every_command(tmp_path, monkeypatch, capsys):
    from saematch.studies.cli import main

    monkeypatch.chdir(tmp_path)
    written(tmp_path / "smollm2-135m-resid", layers=(1, 2))
    with pytest.warns(UserWarning, match="not the embedded suite of the same name"):
        assert main(["info", "smollm2-135m-resid"]) == 0
    assert "layers=[1, 2]" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="not the embedded suite of the same name"):
        assert main(["run", "--suite", "smollm2-135m-resid", "--jobs", "1"]) == 0
    assert json.loads((tmp_path / "saematch-out" / "run.json").read_text())["layers"] == [1, 2]


@pytest.mark.parametrize("stage", ["match_all", "collect", "write_results"])
def test_a_folder_that_is_removed_meanwhile_is_named(stage, tmp_path, monkeypatch):
    suite, out, work = written(tmp_path / "suite"), tmp_path / "out", getattr(running, stage)

    def removed(*args, **kwargs):
        found = work(*args, **kwargs)
        shutil.rmtree(out)
        return found

    monkeypatch.setattr(running, stage, removed)
    with pytest.raises(OSError, match="was removed, moved or emptied while this run was writing into it"):
        run(suite, out=out, jobs=1)
    assert not (out / "summary.json").exists()


FOLLOW = """
import sys
from pathlib import Path
from saematch import load_suite
from saematch.lap.similarities import Similarities
from saematch.matching.match import Match
from saematch.studies.lives import lineages_in

Similarities.small, suite = 0, load_suite(sys.argv[1])
lineages_in(Path(sys.argv[2]), suite, list(suite))
"""


def test_lineages_of_a_killed_run_go_on_where_they_were(tmp_path, monkeypatch):
    "kill -9 at a random moment: what was listed is used, and the file ends up the same."
    sae = random_sae(32, 200)
    for layer in range(4):
        save_sae(sae, tmp_path / "suite" / f"layer_{layer}.safetensors")
        sae = planted(sae, decoder_noise=0.6, encoder_noise=0.6, replaced=0.2, seed=layer).sae
    suite, file = load_suite(tmp_path / "suite"), tmp_path / "out" / LINEAGES
    work, wanted = file.with_suffix(".work"), random.randrange(1, 30)
    p = subprocess.Popen([sys.executable, "-c", FOLLOW, suite.name, file], env={**os.environ, "OMP_NUM_THREADS": "1"})
    start = time.monotonic()
    while p.poll() is None and len(list(work.glob("*.safetensors"))) < wanted and time.monotonic() - start < 120:
        time.sleep(0.002)
    os.kill(p.pid, signal.SIGKILL) if p.poll() is None else None
    p.wait()
    made, counted = above.pairs_above, []
    monkeypatch.setattr(above, "pairs_above", lambda *a, **k: (counted.append(1), made(*a, **k))[1])
    monkeypatch.setattr(Similarities, "small", 0)
    there = len(list(work.glob("pairs-*.safetensors")))
    assert there and not file.exists(), f"killed after {wanted} parts"
    lineages_in(file, suite, list(suite))
    again = len(counted)
    lineages_in(tmp_path / "whole" / LINEAGES, suite, list(suite))
    assert again == len(counted) - again - there, "what was listed is not listed again"
    (ours, said), (whole, of_whole) = map(read_safetensors, (file, tmp_path / "whole" / LINEAGES))
    assert said == of_whole and ours.keys() == whole.keys() and not work.exists()
    assert all(torch.equal(ours[k].nan_to_num(-1), whole[k].nan_to_num(-1)) for k in whole)
