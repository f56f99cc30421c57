# Written from nbs/studies/20_explorer.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.explorer import (
    near_pairs,
    split_events,
    from_weights,
    with_labels,
    that_fit,
    explore,
)


import base64
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.lineage import Chance, Lineages


def page_data(path):
    "What a page holds."
    return json.loads(gzip.decompress(base64.b64decode(Path(path).read_text().split('id="atlas">')[1].split("<")[0])))


def few_lineages(**more):
    "Layers 4, 5 and 6 with two latents each: 0-1-0, 1-0, and a latent alone."
    members = torch.tensor([[0, 1, 0], [1, 0, -1], [-1, -1, 1]])
    link = torch.tensor([[0.9, 0.8, 0], [0.6, 0, 0], [0, 0, 0]], dtype=torch.float64)
    p = torch.tensor([[0.01, 0.02, 1], [0.04, 1, 1], [1, 1, 1]], dtype=torch.float64)
    info = dict(name="toy", nulls=dict(lineages={"2": 1.0, "3": 1.0}, parts={"2": 0.4, "3": 0.0}))
    fields = dict(link=link, p_link=p, p=p[:, 0], q_link=2 * p, q=3 * p[:, 0], info=info) | more
    return Lineages(members, (4, 5, 6), (2, 2, 2), torch.zeros(3).double(), **fields)


def test_lineages_become_a_page():
    with tempfile.TemporaryDirectory() as folder:
        data = page_data(explore(few_lineages(), Path(folder) / "toy.html"))
        for missing in ("q", "q_link"):
            with expect_fail(UsageError, "no q-values"):
                explore(few_lineages(**{missing: None}), "toy.html")
    assert data["lineages"]["q"] == [None, 0.02, 0.04, None, 0.08], "of links, as the lineages say"
    assert data["lineages"]["q_lineage"] == [0.03, 0.12] and data["meta"]["rate"] == 0.12
    assert data["chance"] is None, "these lineages keep nothing of their nulls"
    assert data["lineages"]["alone"] == [0, 0, 1]
    data["meta"]["about"]


def test_strangers_pass_where_the_suite_would():
    members = torch.tensor([[1, 1, -1], [0, -1, 1], [1, -1, 0]])
    link = torch.tensor([[0.85, 0, 0], [0.95, 0, 0], [0.2, 0, 0]], dtype=torch.float64)
    weight, q = torch.tensor([[0.5, 2.0, 0.25], [0.03, 0.12, 0.2]], dtype=torch.float64)
    drawn = dict(parts=Chance(members, members, weight, link, link, link[:, 0], q))
    t = few_lineages(drawn=drawn, info=dict(name="toy", options=dict(q=0.15)))
    with tempfile.TemporaryDirectory() as folder:
        chance = page_data(explore(t, Path(folder) / "toy.html"))["chance"]
    assert chance["q_lineage"] == [0.03, 0.12] and chance["layer"] == [0, 1, 0, 2], (
        "0.2 is beyond the cut of these lineages"
    )
    assert chance["q"] == [None, 0.04, None, 1.0], "0.85 passes with 0.8; no link of the suite spans two layers"
    assert chance["weight"] == [0.5, 2.0] and chance["alone"] == [0, 2, 0], "of two latents a layer, less 2.5, 0.5 and 2"


def test_pairs_that_come_near_are_above_the_threshold_and_in_two_lineages():
    from saematch.saes.toys import random_sae

    a = random_sae(12, 3, seed=0)
    rows = a.W_dec / a.W_dec.norm(dim=1, keepdim=True)
    close = torch.stack([rows[0], (rows[0] + 0.4 * rows[1]), rows[2]])
    saes = {4: a, 5: random_sae(12, 3, seed=1)}
    saes[5].W_dec.copy_(close)
    members = torch.tensor([[0, 0], [1, 1], [2, -1], [-1, 2]])
    info = dict(name="toy", thresholds={"1": 0.3}, options=dict(weights="decoder"))
    t = Lineages(members, (4, 5), (3, 3), torch.zeros(4).double(), torch.zeros(4, 2).double(), info=info)
    near = near_pairs(t, saes)
    cosine = torch.nn.functional.cosine_similarity(a.W_dec[0], close[1], dim=0)
    assert near.iloc[0][["layer_a", "latent_a", "layer_b", "latent_b"]].tolist() == [4, 0, 5, 1]
    assert abs(near.similarity[0] - float(cosine)) < 1e-6 and (near.similarity > 0.3).all()
    assert not ((near.latent_a == 2) | (near.latent_b == 2)).any(), "latents that are alone are not in the file"
    near


def test_a_split_leads_to_both_children():
    from saematch.judging.depth import forks_of
    from saematch.judging.splits import splits as claimed
    from saematch.saes.toys import random_sae

    saes = {layer: random_sae(12, 8, seed=layer) for layer in (4, 5, 6)}
    alone = [[i if y == x else -1 for y in range(3)] for x in range(3) for i in range(x < 2, 8)]
    members = torch.tensor([[0, 0, -1], *alone])
    link = torch.full(members.shape, 0.5).double()
    judged = dict(p_link=link / 50, p=link[:, 0], q_link=link / 50, q=link[:, 0])
    judged |= forks_of(saes, 0)
    zero = torch.zeros(len(members)).double()
    t = Lineages(
        members,
        (4, 5, 6),
        (8, 8, 8),
        zero,
        link,
        **judged,
        info=dict(name="toy", nulls={}, thresholds={"1": 0.9, "2": 0.9}, options=dict(weights="decoder")),
    )
    told = split_events(t)
    of = lambda layer, kind: told[(told.layer == layer) & (told.event == kind)]
    table = claimed(saes[4], saes[5], 1)
    assert of(4, "split").latent.tolist() == table.parent.tolist() and of(4, "merge").empty and of(6, "split").empty
    assert of(4, "split").others.tolist() == [[(5, r.child), (5, r.other)] for r in table.itertuples()]
    assert from_weights(t).keys() == {"events"} and from_weights(t, saes).keys() == {"events", "near"}
    with tempfile.TemporaryDirectory() as folder:
        data = page_data(explore(t, Path(folder) / "toy.html", events=told))
    assert len(data["events"]["event"]) == len(told), "latents that are alone and split are in the file"
    told.head(3)


def test_a_file_holds_the_cards_that_fit():
    from saematch.studies.toys import labelled_card

    cards = {layer: {i: labelled_card(layer, i) for i in range(2)} for layer in (4, 5, 6)}
    members = with_labels(few_lineages().frame().query("length > 1"), cards)
    assert members.label.tolist()[:3] == ["word0", "word1", "word0"] and (members.frequency == 0.01).all()
    whole, none = that_fit(members, cards, 24.0)
    some, without = that_fit(members, cards, 0.0003)
    assert none == 0 and sum(map(len, whole.values())) == 5 and 0 < without < 5
    assert without == 5 - sum(map(len, some.values()))
    best = members.sort_values(["length", "p"], ascending=[False, True], kind="stable").head(5 - without)
    assert {(c.layer, c.latent) for found in some.values() for c in found} == set(zip(best.layer, best.latent))
    with tempfile.TemporaryDirectory() as folder:
        told = []
        page = explore(few_lineages(), Path(folder) / "toy.html", cards, limit=0.0003, say=told.append)
        assert told == [page_data(page)["meta"]["left_out"]], "the page and its maker hear the same"
    told[0]
