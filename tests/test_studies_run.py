# Written from nbs/studies/25_run.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.run import (
    run,
)


import json
import tempfile
from pathlib import Path

import pandas as pd
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError, read_json
from saematch.matching.lineage import Lineages
from saematch.matching.match import Match
from saematch.saes.files import save_sae
from saematch.saes.suite import load_suite
from saematch.saes.toys import random_sae
from saematch.studies.matches import load_matches
from saematch.studies.toys import planted_folder


def test_a_run_finds_the_planted_partners():
    with tempfile.TemporaryDirectory() as folder:
        truths = planted_folder(Path(folder) / "suite")
        summary = run(Path(folder) / "suite", out=Path(folder) / "out")
        for (a, b), truth in zip(((3, 4), (4, 5)), truths):
            m = Match.load(Path(folder) / "out" / "matches" / f"{a}-{b}" / "direct.safetensors")
            assert (
                torch.equal(m.index[truth >= 0], truth[truth >= 0])
                and m.info["key"]["a"] == summary["weights_sha256"][str(a)]
            )
        pairs = pd.read_parquet(Path(folder) / "out" / "pairs.parquet")
        assert len(pairs) == 3 * 60 and len(list((Path(folder) / "out" / "matches").rglob("*.safetensors"))) == 3 + 2 * 10
        page = (Path(folder) / "out" / "report.html").read_text()
        assert page.count("data:image/png;base64,") == 4 and "<script" not in page and summary["findings"][0] in page
        assert read_json(Path(folder) / "out" / "summary.json") == summary
        t = Lineages.load(Path(folder) / "out" / "lineages.safetensors", list(summary["weights_sha256"].values()))
        for a, b, truth in ((3, 4, truths[0]), (4, 5, truths[1])):
            m = t.match(a, b)
            assert (m.index[m.matched] == truth[m.matched]).double().mean() > 0.9 and m.matched.double().mean() > 0.5
        assert "lineages of two layers or more" in summary["findings"][0] and summary["lineages"]["lengths"]
        assert page.count("<svg") == 5 and "saematch cards" in page, "a suite without cards says how to make them"


def test_a_killed_run_continues_to_the_same_numbers():
    with tempfile.TemporaryDirectory() as folder:
        suite, out = Path(folder) / "suite", Path(folder) / "out"
        planted_folder(suite)
        first = run(suite, out=out)
        files = sorted((out / "matches").rglob("*.safetensors"))
        whole = {p: p.stat().st_mtime_ns for p in files[:15]}
        for p in files[16:]:
            p.unlink()
        files[15].write_bytes(files[15].read_bytes()[:200])
        (out / "summary.json").unlink()
        kept = (out / "lineages.safetensors").stat().st_mtime_ns
        second = run(suite, out=out)
        assert (out / "lineages.safetensors").stat().st_mtime_ns == kept, "lineages are not computed again"
        assert {p: p.stat().st_mtime_ns for p in whole} == whole, "finished matches are not computed again"
        assert [first[k] for k in ("mse", "agreement", "lineages", "findings", "chains")] == [
            second[k] for k in ("mse", "agreement", "lineages", "findings", "chains")
        ]
        assert sorted((out / "matches").rglob("*.safetensors")) == files


def test_ways_are_chosen_and_added():
    with tempfile.TemporaryDirectory() as folder:
        suite, out = Path(folder) / "suite", Path(folder) / "out"
        planted_folder(suite)
        short = dict(adjacent=True, variants="none", lineages=False, out=out)
        run(suite, **short)
        files = lambda: sorted(p.stem for p in (out / "matches").glob("3-4/*"))
        assert files() == ["direct", "random", "strangers"] and not (out / "matches" / "3-5").exists()
        summary = run(suite, rows={"written": lambda sae: sae.W_dec}, **short)
        assert files() == ["direct", "random", "rows written", "rows written, strangers", "strangers"]
        found = {r["method"]: r["relative"] for r in summary["mse"] if (r["layer_a"], r["block"]) == (3, "all")}
        assert found["folded"] <= found["written"] < found["written, strangers"] and summary["agreement"] == []
        assert f"written {found['written']:.2f}"[:9] in summary["findings"][0] and "written, strangers" in files()[3]
        assert load_matches(out, load_suite(suite))[3, 4, "written"].matched.all()
        with expect_fail(UsageError, "rows 'written', layers 3 to 4: ValueError: the table that the lambda of rows= "):
            run(suite, rows={"written": lambda sae: sae.b_dec}, **short)


def test_a_folder_belongs_to_one_run():
    with tempfile.TemporaryDirectory() as folder:
        suite, out = Path(folder) / "suite", Path(folder) / "out"
        planted_folder(suite)
        run(suite, layers="3-4", out=out)
        before = (out / "summary.json").read_text()
        with expect_fail(UsageError, "holds the results of another run (suite"):
            run(suite, layers="3-4", out=out, fold=False)
        assert (out / "summary.json").read_text() == before
        with expect_fail(UsageError, "the seed must be a whole number"):
            run(suite, layers="3-4", out=out, seed=10**20, overwrite=True)
        assert (out / "summary.json").read_text() == before, "a run that fails replaces nothing"
        run(suite, layers="3-4", out=out, fold=False, overwrite=True)
        assert not json.loads((out / "summary.json").read_text())["options"]["fold"]
        (Path(folder) / "file").write_text("not a folder")
        with expect_fail(UsageError, "is a file; choose another"):
            run(suite, out=Path(folder) / "file")
        (Path(folder) / "thesis").mkdir(), (Path(folder) / "thesis" / "chapter1.tex").write_text("...")
        with expect_fail(UsageError, "is not empty and holds no run"):
            run(suite, out=Path(folder) / "thesis")
        with expect_fail(UsageError, "method must be one of"):
            run(suite, out=out, method="best")


def test_every_figure_draws_itself_from_a_run():
    from dataclasses import replace

    from saematch.model.toys import random_lm
    from saematch.studies.options import Trial
    from saematch.studies.paper import FIGURES, panels, write_paper
    from saematch.studies.scores import load_run

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        random_lm(folder / "lm", dtype=torch.float32)
        for l in range(4):
            save_sae(
                replace(
                    random_sae(16, 24, seed=l, dtype=torch.float32),
                    info=dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post"),
                ),
                folder / "suite" / f"layer_{l}.safetensors",
            )
        text = folder / "text.txt"
        words = torch.randint(0, 60, (12, 40), generator=torch.Generator().manual_seed(0))
        for d, row in enumerate(words.tolist()):
            (folder / "text").mkdir(exist_ok=True)
            (folder / "text" / f"{d:02d}.txt").write_text(" ".join(f"w{i}" for i in row))
        trial = Trial(
            model=str(folder / "lm"),
            text=(str(folder / "text"),),
            documents=8,
            loss_documents=4,
            fit_documents=4,
            length=32,
        )
        with expect_fail(UsageError, "holds no complete run"):
            load_run(folder / "out")
        summary = run(folder / "suite", out=folder / "out", trial=trial, jobs=1)
        tables = load_run(folder / "out")
        assert len(tables["spans"]) == len(summary["spans"]), "lineages are judged beside matches"
        found = panels(tables)
        assert [p.number for p in found] == list(FIGURES)
        assert "nan" not in " ".join(p.ours for p in found).lower(), [p.ours for p in found]
        page = write_paper(folder / "out", "toy", found).read_text()
        assert page.count("<img") == len(found) and (folder / "out" / "paper" / "figure_7_right.png").stat().st_size > 1000
    found[0].ours
