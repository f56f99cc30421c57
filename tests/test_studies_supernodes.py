# Written from nbs/studies/22_supernodes.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.supernodes import (
    latents,
    grouped,
    between_latents,
    inside,
    by_chance,
    merged,
    graph_scores,
    on_loops,
    supernodes,
    decoder_suite,
)


import copy
import math

import numpy as np
import pandas as pd
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.lineage import Lineages
from saematch.studies.graph import node


def two_lineages():
    "Layers 4, 5 and 6 with four latents each: lineages 0-0-0 and 1-1-1, the others alone."
    alone = [[i if y == x else -1 for y in range(3)] for i in (2, 3) for x in range(3)]
    members = torch.tensor([[0, 0, 0], [1, 1, 1], *alone])
    link = torch.full(members.shape, 0.8, dtype=torch.float64)
    p = torch.tensor([1e-4, 0.01, *[math.nan] * 6], dtype=torch.float64)
    info = dict(name="toy", origins=[dict(layer=l, model_name="google/gemma-2-2b") for l in (4, 5, 6)])
    return Lineages(members, (4, 5, 6), (4, 4, 4), torch.zeros(8).double(), link, link / 100, p, info)


def small_graph():
    "Two tokens; feature 0 fires on both, feature 1 on the second only, latent 3 is a stranger; errors and a logit."
    latents = [(4, 0, 0), (5, 0, 0), (4, 0, 1), (5, 0, 1), (6, 0, 1), (5, 1, 1), (6, 1, 1), (5, 3, 1)]
    nodes = [node(*at) for at in latents]
    nodes.append({**node(0, 5, 1), "feature": -1, "feature_type": "mlp reconstruction error", "layer": "5"})
    nodes.append({**node(8, 77, 1, 'Output " x" (p=0.500)'), "feature": 77, "feature_type": "logit"})
    edges = [("4_0_0", "5_0_0", 2.0), ("4_0_1", "5_0_1", 3.0), ("5_0_1", "6_0_1", 4.0), ("4_0_1", "5_3_1", -1.0)]
    edges += [("5_1_1", "6_1_1", 1.0), ("5_0_1", "6_1_1", 2.0), ("5_3_1", "6_0_1", 0.5), ("6_0_1", "8_77_1", 6.0)]
    edges += [("0_5_1", "6_0_1", 0.25)]
    links = [dict(source=a, target=b, weight=w) for a, b, w in edges]
    q = dict(pinnedIds=["4_0_1"], supernodes=[], linkType="both", clickedId="", sg_pos="")
    meta = dict(slug="toy", scan="gemma-2-2b", prompt_tokens=["a", "b"], prompt="ab", transcoder_list=[])
    return dict(metadata=meta, qParams=q, nodes=nodes, links=links)


def test_only_whole_groups_count_as_inside():
    graph, t = small_graph(), two_lineages()
    nodes = grouped(latents(graph), t)
    links, group = between_latents(graph, nodes), nodes.group.to_numpy()
    found = nodes[group >= 0].groupby("group").node.apply(sorted).tolist()
    assert found == [["4_0_0", "5_0_0"], ["4_0_1", "5_0_1", "6_0_1"], ["5_1_1", "6_1_1"]]
    assert inside(links, group) == (2 + 3 + 4 + 1) / (2 + 3 + 4 + 1 + 1 + 2 + 0.5)
    assert nodes.group[nodes.node == "5_3_1"].item() == -1
    wide = grouped(latents(graph), t, reach=1)
    assert sorted(wide[wide.group == 0].node) == ["4_0_0", "4_0_1", "5_0_0", "5_0_1", "6_0_1"]
    dealt = by_chance(nodes, links, 200)
    assert dealt.max() <= inside(links, group) and dealt.std() > 0 and np.array_equal(dealt, by_chance(nodes, links, 200))
    print(f"inside {inside(links, group):.2f}, by chance {dealt.mean():.2f}")


def test_everything_else_stays_as_it_was():
    graph, t = small_graph(), two_lineages()
    before = copy.deepcopy(graph)
    s = supernodes(graph, t, {(4, 0): "is, are"}, merge=True)
    assert graph == before, "the graph that was given is not touched"
    for key in ("nodes", "links"):
        assert s.graph[key] == before[key]
    added = s.graph["metadata"].pop("saematch_supernodes")
    assert s.graph["metadata"] == before["metadata"] and added["supernodes"][0]["p"] == 1e-4
    assert {**s.graph["qParams"], "supernodes": []} == before["qParams"]
    assert s.graph["qParams"]["supernodes"] == [
        ["is, are", "4_0_1", "5_0_1", "6_0_1"], ["is, are (2)", "4_0_0", "5_0_0"], ["4/1", "5_1_1", "6_1_1"],
    ]  # fmt: skip
    drawn = copy.deepcopy(before)
    drawn["qParams"]["supernodes"] = [["mine", "4_0_1", "5_3_1"]]
    kept = supernodes(drawn, t).graph["qParams"]["supernodes"]
    assert kept[0] == ["mine", "4_0_1", "5_3_1"] and all("4_0_1" not in ids for ids in kept[1:])
    s


def test_merged_links_add_up():
    one = supernodes(small_graph(), two_lineages(), merge=True).merged
    total = lambda g: sum(e["weight"] for e in g["links"])
    within = sum(n.get("inside", 0) for n in one["nodes"])
    assert math.isclose(total(one) + within, total(small_graph())) and within == 2 + 3 + 4 + 1
    assert len(one["nodes"]) == 10 - 1 - 2 - 1 and one["metadata"]["slug"] == "toy-merged"
    ids = {n["node_id"] for n in one["nodes"]}
    assert {e[end] for e in one["links"] for end in ("source", "target")} <= ids
    assert not any(e["source"] == e["target"] for e in one["links"])
    pd.DataFrame(one["links"])


def test_loops_and_scores_are_what_the_paths_say():
    graph = small_graph()
    graph["nodes"].append({**node(9, 1, 0), "feature_type": "embedding"})
    graph["links"] += [
        dict(source="9_1_0", target=b, weight=w) for b, w in (("4_0_1", 1.0), ("4_0_0", 1.0), ("6_0_1", 1.0))
    ]
    one = supernodes(graph, two_lineages(), merge=True)
    # into 6_0_1: 4 from 5_0_1 (token behind it), 0.5 from 5_3_1 (too), 1 from the token, 0.25 from the error
    replacement, completeness = graph_scores({**graph, "nodes": [
        {**n, "token_prob": 0.5} if n["feature_type"] == "logit" else n for n in graph["nodes"]
    ]})  # fmt: skip
    assert math.isclose(replacement, 5.5 / 5.75), "of what reaches the only token that is said"
    reaches = dict(logit=1, last=1, middle=4 / 5.75, odd=0.5 / 5.75, early=4.5 / 5.75, token=5.5 / 5.75, error=0.25 / 5.75)
    explained = dict(logit=1, last=5.5 / 5.75, middle=1, odd=1, early=1, token=1, error=1)
    assert math.isclose(completeness, sum(reaches[k] * explained[k] for k in reaches) / sum(reaches.values()))
    assert on_loops(graph) == (0, 0.0)
    loops, along = on_loops(one.merged)
    assert loops == 2 and along == 1.5 / sum(abs(e["weight"]) for e in one.merged["links"]), (
        "feature 0 and latent 3, both ways"
    )
    one.scores


def test_a_graph_of_something_else_is_refused():
    t = two_lineages()
    with expect_fail(UsageError, "the graph is of gpt2, the lineages are of gemma22b"):
        supernodes({**small_graph(), "metadata": dict(scan="gpt2")}, t)
    wide = small_graph()
    wide["nodes"] += [node(5, 16000, 1), node(6, 9, 0)]
    with expect_fail(UsageError, "2 nodes are latents that the lineages lack, the first 5_16000_1: layer 5 has 4"):
        supernodes(wide, t)
    above = {**small_graph(), "nodes": [node(20, 1, 0)], "links": []}
    with expect_fail(UsageError, "latents of layers 20, the lineages of 4, 5, 6"):
        supernodes(above, t)
    lonely = {**small_graph(), "nodes": [node(4, 0, 0), node(5, 1, 0)], "links": []}
    with expect_fail(UsageError, "no two of the 2 latents share a lineage"):
        supernodes(lonely, t)
    odd = {**small_graph(), "nodes": [{**node(4, 0, 0), "feature": 12345, "node_id": "x"}]}
    with expect_fail(ValueError, "node x: its feature 12345 is no latent of its layer 4"):
        supernodes(odd, t)
    same = small_graph()
    same["nodes"].append({**same["nodes"][0], "feature": -1, "feature_type": "mlp reconstruction error"})
    assert "4_0_0" not in set(latents(same).node), "an id that two nodes have names neither"


def test_latents_that_write_the_same_into_a_layer_are_one_lineage():
    import tempfile
    from pathlib import Path

    from safetensors.torch import save_file

    from saematch.judging.depth import lineages

    g, n, D, L = torch.Generator().manual_seed(0), 60, 32, 3
    draw = lambda *shape: torch.randn(*shape, generator=g)
    shared, order = draw(n, D), [torch.randperm(n, generator=g) for _ in range(L)]
    with tempfile.TemporaryDirectory() as folder:
        for x in range(L):
            encoder = {
                f"W_enc_{x}": draw(n, D),
                f"b_enc_{x}": draw(n),
                f"b_dec_{x}": draw(D),
                f"threshold_{x}": draw(n).exp(),
            }
            decoder = draw(n, L - x, D)
            decoder[order[x], 2 - x] = shared + 0.1 * draw(n, D)  # into layer 2 all write the same, elsewhere anything
            save_file(encoder, Path(folder) / f"W_enc_{x}.safetensors")
            save_file({f"W_dec_{x}": decoder}, Path(folder) / f"W_dec_{x}.safetensors")
        into = {layer: lineages(decoder_suite(folder, layer)) for layer in (1, 2)}
        with expect_fail(UsageError, "layer that a cross-layer transcoder writes into"):
            decoder_suite(folder, 7)
        with expect_fail(UsageError, "holds no cross-layer transcoder"):
            decoder_suite(Path(folder) / "nothing", 1)
    whole = into[2].members[(into[2].members >= 0).all(1)]
    assert {tuple(m) for m in whole.tolist()} == set(zip(*(o.tolist() for o in order)))
    assert (into[1].lengths > 1).sum() < 5, "into layer 1 they write different things, so there they are strangers"
    two = [node(x, int(order[x][7]), 3) for x in range(L)]
    graph = {**small_graph(), "nodes": two, "links": [dict(source=two[0]["node_id"], target=two[2]["node_id"], weight=1.0)]}
    s = supernodes({**graph, "metadata": dict(slug="clt", scan="")}, into[2])
    assert s.graph["qParams"]["supernodes"][0][1:] == [n["node_id"] for n in two] and s.share == 1
    {f"into layer {layer}": int((t.lengths > 1).sum()) for layer, t in into.items()}
