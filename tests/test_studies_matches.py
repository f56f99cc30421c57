# Written from nbs/studies/04_matches.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.matches import (
    Matches,
    match_all,
    load_matches,
)


import json
import tempfile
from pathlib import Path

import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.compose import compose
from saematch.matching.match import match
from saematch.saes.suite import fingerprint, load_suite
from saematch.studies.options import Options
from saematch.studies.plan import plan
from saematch.studies.toys import planted_folder


def test_every_spelling_finds_the_match_and_walks_compose():
    with tempfile.TemporaryDirectory() as folder:
        planted_folder(folder)
        suite = load_suite(folder)
        steps = {(a, b): match(suite[a], suite[b]) for a, b in ((3, 4), (4, 5), (3, 5))}
        found = {pair: {"match": m} for pair, m in steps.items()}
        found[3, 4]["identity"] = match(suite[3], suite[4], method="identity")
    matches = Matches(suite, [3, 4, 5], found)
    assert matches[3, 4, "direct"] is matches[3, 4, "folded"] is matches.direct(3, 4) is steps[3, 4]
    assert matches[3, 4, "vanilla"] is found[3, 4]["identity"] and len(matches) == len(list(matches)) == 4
    assert matches.adjacent == [(3, 4), (4, 5)] and matches.longer == [(3, 5)]
    assert torch.equal(matches.walk(3, 5).index, compose(steps[3, 4], steps[4, 5]).index)
    assert matches.walk(3, 4) is steps[3, 4]
    with expect_fail(UsageError, "layers 3 and 4 have no match 'greedy'; there are match, identity"):
        matches[3, 4, "greedy"]
    with expect_fail(UsageError, "layers 5 and 3 were not matched"):
        matches.direct(5, 3)


def test_a_folder_that_is_removed_meanwhile_is_not_blamed_on_another_run():
    import shutil
    from unittest import mock

    from saematch.matching.match import Match

    with tempfile.TemporaryDirectory() as folder:
        planted_folder(Path(folder) / "suite")
        suite, out = load_suite(Path(folder) / "suite"), Path(folder) / "out"
        hashes = {str(l): fingerprint(suite[l]) for l in suite.layers}
        tasks, save = plan(suite.layers, Options()), Match.save
        last = f"{tasks[-1].file.stem}.safetensors"

        def saved(self, path):
            "The last match is written, and then everything is removed."
            save(self, path)
            if path.parent.name == tasks[-1].file.parent.name and path.name == last:
                shutil.rmtree(out)

        with mock.patch.object(Match, "save", saved), expect_fail(OSError, "is gone: "):
            match_all(suite, tasks, out, hashes, jobs=1)


def test_a_finished_run_is_read_again():
    with tempfile.TemporaryDirectory() as folder:
        planted_folder(Path(folder) / "suite"), planted_folder(Path(folder) / "other", d_sae=50)
        suite, out = load_suite(Path(folder) / "suite"), Path(folder) / "out"
        hashes = {str(l): fingerprint(suite[l]) for l in suite.layers}
        first = match_all(suite, plan(suite.layers, Options()), out, hashes, progress=False)
        with expect_fail(UsageError, "holds no run"):
            load_matches(out, suite)
        (out / "run.json").write_text(json.dumps(dict(layers=suite.layers, weights_sha256=hashes)))
        again = load_matches(out, suite)
        assert again.layers == first.layers and len(again) == len(first) == 3 + 2 * 10
        assert all(torch.equal(m.index, again[a, b, name].index) for a, b, name, m in first)
        with expect_fail(UsageError, "is not the one that the run"):
            load_matches(out, load_suite(Path(folder) / "other"))
