# Written from nbs/studies/30_benchmark.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.benchmark import (
    recall_at,
    called,
    made_of,
    cell,
    Benchmark,
    benchmark,
)


from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import pandas as pd
import torch

from saematch.judging.worlds import Around, planted_worlds
from saematch.saes.toys import random_sae
from saematch.studies.matchers import MATCHERS, by_cost


def test_recall_by_hand():
    score = torch.tensor([9.0, 8, 7, 7, 5, 4])
    right = torch.tensor([True, True, True, False, True, False])
    assert recall_at(score, right, 8, rate=0.2) == 4 / 8  # 9 to 5: four of five are right
    assert recall_at(score, right, 8, rate=0.1) == 2 / 8  # not 3 of 3: the two sevens come together, and one is wrong
    assert recall_at(score, ~right, 8, rate=0.1) == 0
    assert not called(score, score).any() and called(torch.arange(100.0) + 200, torch.arange(100.0)).all()
    recall_at(score, right, 8, rate=0.2)


def test_finished_cells_are_kept():
    worlds = lambda: planted_worlds(random_sae(24, 120), "toy", tokens=200, layers=2, width=30)
    asked, mine = [], by_cost(lambda w: asked.append(w.name) or torch.cdist(w.a.W_dec, w.b.W_dec))
    with TemporaryDirectory() as folder:
        first = benchmark(worlds(), dict(mine=mine), folder)
        assert asked == ["toy 0-1", "toy 0-1, strangers"]
        again = benchmark(worlds(), dict(mine=mine), folder)
        assert len(asked) == 2 and again.table.equals(first.table)
        other = lambda: planted_worlds(random_sae(24, 120), "toy", tokens=200, layers=2, width=30, seed=1)
        benchmark(other(), dict(mine=mine), folder)
        assert len(asked) == 4, "another world of the same name"
        (path,) = Path(folder).rglob("*.json")
        path.write_text(path.read_text().replace("matched", "watched", 1))
        try:
            benchmark(other(), dict(mine=mine), folder)
            raise AssertionError("a damaged cell was read")
        except ValueError as e:
            assert "damaged" in str(e)
    first.table.T


def test_another_world_makes_another_cell():
    (world,) = planted_worlds(random_sae(24, 120), "toy", tokens=200, layers=2, width=30)
    others = dict(
        truth=world.truth.flip(0),
        unembedding=torch.ones(24, 3),
        around=Around({0: world.a, 1: world.a}),
        layers=(1, 2),
        distance=2,
    )
    made = [made_of(world), *(made_of(replace(world, **{name: value})) for name, value in others.items())]
    assert len(set(made)) == 1 + len(others) and made_of(replace(world)) == made[0]


def test_what_was_not_measured_stays_empty():
    rows = dict(world="layers 1-2", kind="layers", distance=1, matcher="cosine", strangers=[False, True], F1=[0.3, 0.1])
    fig = Benchmark(pd.DataFrame(rows)).plot()  # no world with a truth, so no recall
    assert [len(a.lines) for a in fig.axes] == [0, 0, 0, 0, 1, 0, 0, 0]
    plt.close(fig)


def test_scores_by_distance_beside_strangers():
    rows = [
        ("a", d, s, v) for d, s, v in ((1, False, 0.8), (1, False, 0.6), (3, False, 0.5), (1, True, 0.1), (3, True, 0.2))
    ]
    t = pd.DataFrame(rows, columns=["matcher", "distance", "strangers", "first"]).assign(kind="layers", world="w")
    found = Benchmark(t.assign(**{"first low": t["first"] - 0.1, "first high": t["first"] + 0.1})).asked("first")
    assert found.round(9).loc["a"].to_dict() == {"1 apart": 0.7, "3 apart": 0.5, "low": 0.6, "high": 0.8, "strangers": 0.2}
    found


def test_a_small_benchmark_tells_good_from_blind():
    toy = benchmark(planted_worlds(random_sae(24, 120), "toy", tokens=600, layers=2, width=30, noise=0.3))
    recall = toy.of("planted", "recall")
    assert set(recall.index) == set(MATCHERS) - {"logit lens"}
    assert min(recall[k] for k in ("match", "directions", "joint", "correlation", "whitened")) > 0.6
    assert max(recall["random"], recall["identity"]) < 0.1
    assert toy.of("planted", "Matching Score")["match"] > 2 * toy.of("planted", "Matching Score", strangers=True)["match"]
    assert len(toy.frame()) == len(MATCHERS) - 1 and toy._repr_markdown_().count("\n") == len(MATCHERS)
    toy
