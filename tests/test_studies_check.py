# Written from nbs/studies/33_check.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.check import (
    same,
    check,
)


import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.match import Match
from saematch.saes.suite import load_suite
from saematch.studies.run import run
from saematch.studies.toys import planted_folder


def test_a_match_that_is_whole_and_not_true_is_found():
    from saematch.writer import write_manifest

    with tempfile.TemporaryDirectory() as home:
        suite, out = Path(home) / "suite", Path(home) / "out"
        planted_folder(suite, layers=(3, 4))
        run(suite, out=out, jobs=1, lineages=False)
        assert check(out, progress=False).ok
        m = Match.load(path := out / "matches" / "3-4" / "direct.safetensors")
        lie = replace(m, cost=m.cost * 0.5, proof=None)
        lie.save(path), write_manifest(out, {})
        found = check(out, progress=False)
        assert set(found.wrong.file) == {"matches/3-4/direct.safetensors", "pairs.parquet"}, found.lines()
        weaker = replace(m.proof, objective=m.proof.objective * 0.99)
        replace(m, proof=weaker).save(path), write_manifest(out, {})
        found = check(out, progress=False)
        assert list(found.wrong.file) == ["matches/3-4/direct.safetensors"] and "the objective is" in found.lines()[0]
        m.save(path), write_manifest(out, {})
        assert check(out, progress=False).ok
        planted_folder(suite, layers=(3, 4), d_sae=64)
        found = check(out, progress=False)
        assert "other weights than the run was made from; put the weights back" in found.lines()[0] and not found.ok
        assert check(out, Path(home) / "elsewhere", progress=False).ok, "what cannot be known is not wrong"
        unknown = check(out, Path(home) / "elsewhere", progress=False).lines()
        with expect_fail(UsageError, "holds no run: it has no run.json; give the folder that saematch run wrote"):
            check(suite)
    unknown[0].replace(home, "")


def test_lineages_that_leave_out_strangers_are_found_by_the_search():
    from saematch.judging.recomputed import q_of_p
    from saematch.matching.lineage import Lineages
    from saematch.matching.select import counted, link_q
    from saematch.writer import write_manifest

    with tempfile.TemporaryDirectory() as home:
        suite, out = Path(home) / "suite", Path(home) / "out"
        planted_folder(suite, layers=(3, 4, 5))
        run(suite, out=out, jobs=1, variants="none", adjacent=True)
        assert check(out, progress=False, again=True).unknown.empty
        t = Lineages.load(path := out / "lineages.safetensors")
        none = {kind: type(c)(**{k: x[:0] for k, x in vars(c).items()}) for kind, c in t.drawn.items()}
        best, several = 1 / (1 + sum(t.widths)), t.lengths > 1  # the p-value of what no stranger reaches
        p, q = t.p.where(~several, best), t.q.clone()
        q[several] = q_of_p(p[several], t.gain[several], sum(t.widths))
        lie = replace(t, drawn=none, p=p, q=q, p_link=t.p_link.where(t.link.isnan(), best))
        lie = replace(lie, q_link=link_q(lie), info={**t.info, "nulls": counted(lie)})
        lie.save(path), write_manifest(out, {})
        assert check(out, progress=False).ok
        (said,) = check(out, progress=False, again=True).wrong.said
    assert said.startswith("the same search does not give its members of the null "), said
    said


def test_matches_by_rows_of_ones_own_are_whole_and_unknown():
    with tempfile.TemporaryDirectory() as folder:
        planted_folder(Path(folder) / "suite")
        short = dict(adjacent=True, variants="none", lineages=False)
        run(Path(folder) / "suite", "3-4", Path(folder) / "out", rows={"written": lambda sae: sae.W_dec}, **short)
        found = check(Path(folder) / "out")
    assert found.ok and found.unknown.file.tolist() == [
        f"matches/3-4/rows written{end}.safetensors" for end in (", strangers", "")
    ]
    assert "only the function that made them" in found.lines()[0]
