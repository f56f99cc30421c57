# Written from nbs/studies/21_export.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.export import (
    LISTED,
    listed,
    quick_list,
    new_list,
    upload,
    subgraph,
    export,
)


import json
import tempfile
from pathlib import Path

import pandas as pd
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.lineage import Lineages
from saematch.studies.graph import cantor, lineage_graph
from saematch.studies.toys import few_lineages, toy_card


def test_lists_hold_what_neuronpedia_takes():
    from urllib.parse import parse_qs, urlparse

    sites = {l: f"gemma-2-2b/{l}-gemmascope-res-16k" for l in (4, 5)}
    link = urlparse(quick_list([(4, i) for i in range(400)], sites, "a/b & c?"))
    asked = parse_qs(link.query)
    features = json.loads(asked["features"][0])
    assert asked["name"] == ["a/b & c?"] and len(features) == LISTED
    assert features[7] == dict(modelId="gemma-2-2b", layer="4-gemmascope-res-16k", index="7")
    assert new_list([(5, 1)], sites, "n", {(5, 1): "is"})["features"][0]["index"] == 1
    with expect_fail(UsageError, "2 of 3 latents have no page on Neuronpedia, the first is latent 1 of layer 7"):
        listed([(4, 0), (7, 1), (7, 2)], sites)
    batches = upload([toy_card(latent=i) for i in range(300)], "m", "4-res")
    assert [len(b["features"]) for b in batches] == [128, 128, 44]
    assert batches[0]["features"][0]["explanations"][0]["text"] == "is, are"
    asked = subgraph(lineage_graph(few_lineages()), "m")
    assert len(asked["pinnedIds"]) == 9 and asked["pruningThreshold"] is None
    batches[0]["features"][2] | dict(activations="…")


def test_every_format_is_read_by_its_reader():
    import networkx as nx

    t, cards = few_lineages(), {4: {i: toy_card(latent=i) for i in range(3)}}
    sites = {l: f"gemma-2-2b/{l}-gemmascope-res-16k" for l in (4, 5, 7)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        export(t, "csv", out, cards, sites=sites)
        members, links = (pd.read_csv(out / f"lineages-{w}.csv") for w in ("members", "links"))
        export(t, "graphml", out, cards, sites=sites)
        g = nx.read_graphml(out / "lineages.graphml")
        says = export(t, "circuit-tracer", out / "ct", cards, top=2)
        features = [json.loads(p.read_text()) for p in (out / "ct" / "features").iterdir()]
        export(t, "neuronpedia", out / "np", cards, sites=sites)
        export(t, "neuronpedia", out / "own", cards)
        there = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and "features" not in str(p))
        for to, top, error in (("xlsx", 1, "csv"), ("csv", 0, "at least 1")):
            with expect_fail(UsageError, error):
                export(t, to, out, cards, top=top)
    assert (
        len(members) == 9
        and members.page[0] == f"https://www.neuronpedia.org/{sites[4]}/2"
        and members.label[0] == "is, are"
    )
    assert links.similarity.tolist() == t.links().similarity.tolist()
    assert {(*e, d["similarity"]) for *e, d in g.edges(data=True)} == {
        (f"{r.layer_a}/{r.latent_a}", f"{r.layer_b}/{r.latent_b}", r.similarity) for r in t.links().itertuples()
    }
    assert g.nodes["4/2"]["label"] == "is, are" and "label" not in g.nodes["7/1"]
    assert (
        sorted(f["index"] for f in features) == [cantor(4, 0), cantor(4, 2)] and "2 of 4 lineages are left out" in says[-1]
    )
    there
