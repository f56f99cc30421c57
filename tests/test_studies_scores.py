# Written from nbs/studies/08_scores.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.scores import (
    WAYS,
    TABLES,
    lineage_matches,
    span_table,
    spanned,
    span_rows,
    facts,
    load_experiment,
    load_run,
)


import tempfile
from pathlib import Path

import pandas as pd
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.judging.routes import Pair
from saematch.judging.sums import key as sum_of
from saematch.matching.match import Match
from saematch.saes.toys import random_sae


def test_ways_are_asked_about_the_same_latents():
    from saematch.judging.depth import lineages
    from saematch.matching.match import match
    from saematch.saes.toys import planted_suite
    from saematch.studies.matches import Matches

    toy = planted_suite(random_sae(24, 120, seed=1), layers=3, width=60, noise=0.3, seed=2).suite
    t = lineages(toy)
    found = {(a, b): {"match": match(toy[a], toy[b])} for a, b in ((0, 1), (1, 2), (0, 2))}
    for (a, b), named in lineage_matches(t, Matches(toy, [0, 1, 2], found)).items():
        joint, chained, direct, shuffled = named.values()
        assert joint.index.equal(t.match(a, b).index) and all(m.matched.equal(joint.matched) for m in named.values())
        assert direct.index[joint.matched].equal(found[a, b]["match"].index[joint.matched])
        assert chained.index.equal(direct.index) or b > a + 1
        assert shuffled.index.sort().values.equal(joint.index.sort().values) and not shuffled.index.equal(joint.index)
        print(f"{a} to {b}: {int(joint.matched.sum())} latents")


def test_ways_by_distance_are_pooled_and_paired():
    a = random_sae(8, 12, seed=0)
    identity = Match(torch.arange(12), 12, torch.zeros(12))
    half = Match(torch.where(torch.arange(12) < 6, torch.arange(12), -1), 12, torch.zeros(12))
    ways = {way: half for way in WAYS}
    pairs = {at: Pair(a, a, dict(match=identity), decode=False, beside=ways) for at in ((3, 4), (4, 5), (3, 5))}
    g = torch.Generator().manual_seed(0)
    draw = lambda *more: 5 + torch.randint(0, 5, (10, 5, *more), generator=g)
    found = {sum_of(k, *at): draw() for at in pairs for k in ("both", "here", "there")}
    found |= {sum_of("products", *at): draw(3).double() for at in pairs}
    table = span_table(found, pairs, [3, 4, 5])
    assert len(table) == 2 * 3 * 4 and table.pairs.tolist() == [12] * 12 + [6] * 12
    joint = lambda k: sum(int(found[sum_of(k, *at)][:, 1].sum()) for at in ((3, 4), (4, 5)))
    assert abs(table.value[0] - joint("both") / joint("here")) < 1e-12
    assert (table.joint_more[table.way == "joint"] == 0).all() and (table.low <= table.value).all()
    assert (table.joint_low <= table.joint_more).all() and (table.joint_more <= table.joint_high).all()
    assert spanned(table)[0].startswith("Of the tokens") and "2 layers apart: joint" in spanned(table)[0]
    rows = span_rows(table)
    assert rows.shape == (2 * 3, 9) and rows.joint[0].startswith(f"{table.value[0]:.3f} ({table.low[0]:.3f} to ")
    none = span_table(found, {at: Pair(a, a, dict(match=identity), decode=False) for at in pairs}, [3, 4, 5])
    assert not len(none) and spanned(none) == []
    table.head(4).round(3)


def test_incomplete_folders_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        with expect_fail(UsageError, "holds no complete evaluation"):
            load_experiment(folder)
        with expect_fail(UsageError, "summary.json is missing"):
            load_run(folder)
        (Path(folder) / "facts.json").write_text("{}")
        for name in TABLES[1:]:
            pd.DataFrame(dict(layer=[1])).to_parquet(Path(folder) / f"{name}.parquet")
        with expect_fail(UsageError, "scores.parquet is missing or damaged"):
            load_experiment(folder)
        pd.DataFrame(dict(route=["match"])).to_parquet(Path(folder) / "scores.parquet")
        assert set(load_experiment(folder)) == {*TABLES, "facts"}
