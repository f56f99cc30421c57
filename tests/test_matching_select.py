# Written from nbs/matching/09_select.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.select import (
    TOGETHER,
    World,
    worlds_of,
    stands_for,
    worst_count,
    pools,
    q_values,
    q_among,
)


import math
from unittest import mock

import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.lap.similarities import Similarities
from saematch.matching.lineage import Chance, Lineages


def test_worlds_side_by_side_are_what_they_are_alone():
    def problem(n, seed):
        "The same n directions in four tables, each with noise of its own, in another order."
        g, L = torch.Generator().manual_seed(seed), 4
        base, noise = torch.randn(n, 24, generator=g), 0.8 * torch.randn(L, n, 24, generator=g)
        rows = [torch.nn.functional.normalize(base[torch.randperm(n, generator=g)] + z, dim=1) for z in noise]
        return Similarities(rows, torch.full((L, L), 0.35, dtype=torch.float64))


    many = [problem(n, seed) for seed, n in enumerate((40, 40, 9, 60))]
    for single, one in zip([World(s) for s in many], worlds_of(many), strict=True):
        assert torch.equal(single.members, one.members) and torch.allclose(single.gain, one.gain, atol=1e-12)
        assert torch.equal(single.span, one.span) and math.isclose(single.state.objective, one.state.objective)
    with mock.patch.dict(worlds_of.__globals__, TOGETHER=300):  # in groups
        assert all(
            torch.equal(a.members, b.members) for a, b in zip(worlds_of(many), [World(s) for s in many], strict=True)
        )
    [int((w.length > 1).sum()) for w in worlds_of(many)], "lineages"


def test_q_values_are_benjamini_and_hochberg():
    from saematch.judging.calibrate import benjamini_hochberg

    g = torch.Generator().manual_seed(0)
    score = torch.cat([torch.randn(60, generator=g) + 3, torch.randn(140, generator=g)]).double()
    strangers, group = torch.randn(200, generator=g).double(), torch.zeros(200, dtype=torch.int64)
    expected = worst_count(group, score, {"null": (group, strangers, torch.ones(200).double(), torch.ones(1))})
    assert expected.tolist() == [1 + float((strangers >= s).sum()) for s in score]
    q, bh = q_values(group, score, expected), benjamini_hochberg(expected / 201)
    assert torch.allclose(q, (bh * 201 / 200).clamp(max=1))  # 200 tests, and a p-value of at least 1 / 201
    assert torch.equal(q_among(group, score, (group, score, q)), q)
    assert q_among(group[:1], score.min()[None] - 1, (group, score, q)).tolist() == [1.0]
    f"{int((q <= 0.05).sum())} of 200 kept at 5 %, {int((q[60:] <= 0.05).sum())} of them strangers"


def test_groups_and_the_worst_null():
    group, score = torch.tensor([2, 2, 2, 3]), torch.tensor([0.9, 0.5, 0.4, 0.5]).double()
    one = torch.ones(4)
    nulls = {k: (torch.tensor([2]), torch.tensor([0.45]).double(), torch.tensor([k]).double(), one) for k in (1.0, 6.0)}
    expected = worst_count(group, score, nulls)
    assert expected.tolist() == [1, 1, 7, 1], "strangers as good as each, of its group, from the worst null, and one"
    assert q_values(group, score, expected).tolist() == [0.5, 0.5, 1.0, 1.0]
    assert worst_count(group, score, {k: (*found, k * one) for k, (*found, _) in nulls.items()}).tolist() == [6, 6, 12, 6]
    lengths = torch.tensor([2] * 30 + [3] * 25 + [4] * 3 + [5] * 18 + [6] * 4)
    assert pools(lengths, 7).tolist()[2:] == [2, 3, 3, 5, 5, 5]
    assert pools(lengths[30:], 7).tolist()[2:] == [2, 2, 2, 5, 5, 5] and pools(lengths[:3], 4).tolist()[2:] == [2, 2, 2]
    coarse = stands_for(4, 8, 7)  # of a pair 2, of three 8, of four 32, of five 128
    assert coarse.tolist()[:5] == [1 / 8, 1 / 2, 2, 8, 32]
    assert pools(lengths, 7, coarse).tolist()[2:] == [2] * 6, "25 + 3 + 18 + 4 of 160 that it takes for three"
    assert pools(lengths.repeat(5), 7, coarse).tolist()[2:] == [2, 3, 3, 3, 3, 3]
    dict(zip(range(2, 8), pools(lengths, 7)[2:].tolist()))


def test_layers_are_summed_up():
    members = torch.tensor([[0, 1, 2], [1, -1, 0], [-1, 0, -1], [-1, -1, 1]])
    none, one = torch.full((4, 3), math.nan).double(), torch.ones(1).double()
    drawn = Chance(torch.tensor([[1, -1, 2]]), torch.tensor([[6, -1, 6]]), 3 * one, none[:1], none[:1], one / 2, one / 4)
    forks = dict(forks=torch.tensor([[0, 0, 0, 1, 0], [1, 2, 1, 0, 1]]), q_forks=torch.tensor([0.01, 0.02]).double())
    t = Lineages(members, (4, 5, 6), (2, 2, 3), none[:, 0], none, drawn={"parts": drawn}, **forks)
    table = t.summary()
    assert table.goes_on.tolist()[:2] == [1.0, 0.5] and table.half_life.tolist()[:2] == [math.inf, 1.0]
    assert table.gap.tolist() == [0, 1, 0] and table.split.tolist() == [1, 0, 0] and table["merge"].sum() == 0
    assert t.summary("parts").loc[4, ["birth", "death", "goes_on"]].tolist() == [0, 0, 1.5]
    table


def test_a_cut_takes_lineages_apart():
    members = torch.tensor([[0, 0, 0], [1, 1, -1], [2, -1, 1]])
    none, q = torch.full((3, 3), math.nan).double(), torch.tensor([0.01, 0.2, 0.04]).double()
    link = torch.tensor([[0.9, 0.8, math.nan], [0.5, math.nan, math.nan], [0.6, math.nan, math.nan]]).double()
    one = torch.ones(1).double()
    drawn = Chance(torch.tensor([[0, 1, -1]]), torch.tensor([[4, 4, -1]]), 3 * one, link[1:2], none[:1], one, one * 0.2)
    gain = torch.tensor([3, 2, 1.0]).double()
    judged = dict(p_link=none, p=q, q_link=none, q=q, drawn={"parts": drawn})
    t = Lineages(members, (4, 5, 6), (3, 2, 2), gain, link, **judged)
    kept = t.cut(0.05)
    assert kept.members.tolist() == [[0, 0, 0], [2, -1, 1], [1, -1, -1], [-1, 1, -1]]
    assert len(kept.frame()) == 7 == len(t.frame()) and not kept.frame().duplicated(["layer", "latent"]).any()
    assert kept.info["nulls"] == {"lineages": {"2": 1.0, "3": 1.0}, "parts": {"2": 0.0, "3": 0.0}}
    assert t.cut(0.2).info["nulls"]["parts"]["2"] == 3 and t.cut(1.0).links().q.tolist() == [1 / 2, 1 / 2, 1.0, 1.0]
    assert len(kept.chance()) == 0 and len(kept.chance(q=1)) == 2 and len(t.cut(0.2).chance()) == 2
    with expect_fail(UsageError, "were cut at q=0.05, what lay above is gone"):
        kept.cut(0.2)
    for bad, says in ((0, "q is a rate"), (math.nan, "q is a rate")):
        with expect_fail(UsageError, says):
            t.cut(bad)
    kept.frame()
