"""What is exported, judged by the packages that read it. Skipped where they are not installed."""

import json

import networkx as nx
import numpy as np
import pytest
import torch

from saematch.matching.lineage import Lineages
from saematch.model.card import Context
from saematch.studies.export import export, feature_file, quick_list
from saematch.studies.graph import cantor, from_cantor, lineage_graph, members_and_links, read_graph, write_graph
from saematch.studies.supernodes import graph_scores
from saematch.studies.toys import toy_card


def random_lineages(n=30, layers=(2, 3, 5, 9), seed=0):
    "Lineages with gaps, among them latents alone."
    g = torch.Generator().manual_seed(seed)
    order = [torch.randperm(n, generator=g) for _ in layers]
    rows, loose = [], []
    for k in range(n):
        keep = torch.rand(len(layers), generator=g) < 0.6
        rows.append([int(o[k]) if stay else -1 for o, stay in zip(order, keep)])
        loose += [[int(o[k]) if y == x else -1 for y in range(len(layers))] for x, o in enumerate(order) if not keep[x]]
    members = torch.tensor([r for r in rows if max(r) >= 0] + loose)
    draw = lambda: torch.rand(members.shape, generator=g, dtype=torch.float64)
    info = dict(name="toy", origins=[dict(layer=x, model_name="a model/1b") for x in layers])
    return Lineages(members, layers, (n,) * len(layers), draw()[:, 0], draw(), draw(), draw()[:, 0], info)


def card_of(layer, latent, dead=False):
    "A card with tokens that a file format may stumble over; a dead latent has no texts."
    tokens = [" a", "</script>", "\\xe2", "\n", '"']
    texts = [Context(tokens, np.array([0, 4.0, 1.0, 0, 2.0]), 0, 1, 1, q) for q in ("top", "top", "q50")]
    known = dict(label="", histogram=(np.linspace(0, 4, 33), np.zeros(32, dtype=int)), promoted=[("</b>", 1.5)])
    alive = dict(contexts=[], active=0, largest=0.0, dead=True) if dead else dict(contexts=texts, largest=4.0)
    return toy_card(layer, latent, **known, **alive)


@pytest.fixture(scope="module")
def circuit_tracer():
    reason = "needs circuit-tracer's models: pip install --no-deps circuit-tracer"
    graphs = pytest.importorskip("circuit_tracer.frontend.graph_models", reason=reason)
    features = pytest.importorskip("circuit_tracer.frontend.feature_models", reason=reason)
    return graphs, features


@pytest.mark.parametrize("seed", range(5))
def test_a_graph_read_back_has_the_same_members_links_and_weights(tmp_path, seed):
    t = random_lineages(seed=seed)
    members, links = members_and_links(read_graph(write_graph(lineage_graph(t), tmp_path)))
    expected = t.frame().query("length > 1")[["lineage", "layer", "latent"]]
    assert set(members.itertuples(index=False, name=None)) == set(expected.itertuples(index=False, name=None))
    assert links.equals(t.links())


def test_circuit_tracer_takes_graphs_and_features(circuit_tracer, tmp_path):
    graphs, features = circuit_tracer
    t = random_lineages()
    cards = {layer: {i: card_of(layer, i, dead=i == 3) for i in range(30)} for layer in t.layers}
    export(t, "circuit-tracer", tmp_path, cards, top=12)
    graph = json.loads((tmp_path / "lineages.json").read_text())
    taken = graphs.Model.model_validate(graph).model_dump()
    for ours, theirs in zip(graph["nodes"], taken["nodes"], strict=True):
        assert ours == theirs, "nothing of a node is lost or filled in"
        layer, latent = from_cantor(ours["feature"])
        made = graphs.Node.feature_node(layer, ours["ctx_idx"], latent)
        assert (made.node_id, made.feature, made.jsNodeId) == (ours["node_id"], ours["feature"], ours["jsNodeId"])
    assert taken["links"] == graph["links"] and taken["qParams"] == graph["qParams"]
    listed = json.loads((tmp_path / "graph-metadata.json").read_text())["graphs"]
    assert graphs.Metadata.model_validate(listed[0]).slug == "lineages"
    found = sorted((tmp_path / "features").iterdir())
    assert len(found) == len(graph["nodes"])
    for path in found:
        feature = features.Model.model_validate_json(path.read_text())
        assert str(feature.index) == path.stem and feature.act_max > 0


def test_circuit_tracer_reads_the_supernodes(circuit_tracer):
    from urllib.parse import quote

    from circuit_tracer.utils.decode_url_features import decode_url_features

    t = random_lineages(seed=1)
    graph = lineage_graph(t, [0, 1, 2, 5], labels={(2, int(t.members[0, 0])): "is, are"})
    asked = quote(json.dumps(graph["qParams"]["supernodes"]))
    supernodes, _ = decode_url_features(f"http://localhost/?supernodes={asked}")
    assert [[(f.layer, f.feature_idx) for f in found] for found in supernodes.values()] == [
        [(layer, int(i)) for layer, i in zip(t.layers, t.members[k]) if i >= 0] for k in (0, 1, 2, 5)
    ]
    assert list(supernodes) == graph["metadata"]["prompt_tokens"]


def test_what_the_viewers_stumble_over_is_not_written(tmp_path):
    t = random_lineages(seed=2)
    for numbers in ([0], [0, 1, 2]):
        graph = lineage_graph(t, numbers)
        assert len(graph["metadata"]["prompt_tokens"]) >= 2, "of a prompt of one token a viewer deletes every node"
        ids = [n["node_id"] for n in graph["nodes"]]
        assert len(set(ids)) == len(ids) and max(int(n["layer"]) for n in graph["nodes"]) > 0
        assert {n["node_id"] for n in graph["nodes"]} >= {
            e[end] for e in graph["links"] for end in ("source", "target")
        }
        assert all(n["feature_type"] != "logit" and isinstance(n["layer"], str) for n in graph["nodes"])
    for slug in ("", "a b", "ü", "a/b", "../up"):
        with pytest.raises(ValueError, match="letters, digits"):
            lineage_graph(t, slug=slug)
    export(t, "neuronpedia", tmp_path, top=3)
    assert json.loads((tmp_path / "lineages.json").read_text())["metadata"]["scan"] == "a-model-1b"


def test_neuronpedias_required_fields_are_there(tmp_path):
    t = random_lineages(seed=3)
    sites = {layer: f"gemma-2-2b/{layer}-gemmascope-res-16k" for layer in t.layers}
    export(t, "neuronpedia", tmp_path, sites=sites)
    graph = json.loads((tmp_path / "lineages.json").read_text())
    assert {"slug", "scan", "prompt_tokens", "prompt"} <= set(graph["metadata"])
    assert graph["metadata"]["feature_details"] == dict(neuronpedia_source_set="gemmascope-res-16k")
    assert "node_threshold" not in graph["metadata"], "a number, where it is given at all"
    for n in graph["nodes"]:
        assert {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"} <= set(n)
    link = (tmp_path / "quick-list.txt").read_text().strip()
    assert link.count("modelId") == min(150, len(graph["nodes"])) and " " not in link
    features = json.loads((tmp_path / "list.json").read_text())["features"]
    assert len(features) == len(graph["nodes"]) and isinstance(features[0]["index"], int)
    assert "%26" in quick_list([(2, 0)], sites, "a&b")


def test_graphml_is_read_by_networkx(tmp_path):
    t = random_lineages(seed=4)
    cards = {t.layers[0]: {i: card_of(t.layers[0], i) for i in range(30)}}
    export(t, "graphml", tmp_path, cards)
    g, links = nx.read_graphml(tmp_path / "lineages.graphml"), t.links()
    assert g.number_of_edges() == len(links) and nx.is_directed_acyclic_graph(g)
    for r in links.itertuples():
        edge = g.edges[f"{r.layer_a}/{r.latent_a}", f"{r.layer_b}/{r.latent_b}"]
        assert (edge["similarity"], edge["p"], edge["span"]) == (r.similarity, r.p, r.span)
    pieces = {frozenset(p) for p in nx.weakly_connected_components(g)}
    table = t.frame().query("length > 1")
    assert pieces == {frozenset(f"{r.layer}/{r.latent}" for r in m.itertuples()) for _, m in table.groupby("lineage")}


def test_a_feature_file_holds_the_card():
    f = feature_file(card_of(7, 11))
    assert f["index"] == cantor(7, 11) and [len(q["examples"]) for q in f["examples_quantiles"]] == [2, 1]
    assert f["examples_quantiles"][0]["examples"][0]["tokens"][1] == "</script>"


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_circuit_tracer(seed):
    theirs = pytest.importorskip("circuit_tracer.graph", reason="needs circuit-tracer: pip install circuit-tracer")
    from types import SimpleNamespace

    g, tokens, layers, features, logits = torch.Generator().manual_seed(seed), 3, 2, 12, 4
    n = features + tokens * layers + tokens + logits
    weight = torch.randn(n, n, generator=g) * (torch.rand(n, n, generator=g) < 0.6)
    place = torch.arange(n)
    weight[:features, :features] *= place[:features, None] > place[:features]  # a feature hears of those before it
    weight[features:-logits] = 0
    weight[:, -logits:] = 0
    says = torch.rand(logits, generator=g) / logits
    kinds = ["transcoder"] * features + ["mlp reconstruction error"] * (tokens * layers) + ["embedding"] * tokens
    nodes = [dict(node_id=f"n{k}", feature_type=kind) for k, kind in enumerate(kinds)]
    nodes += [dict(node_id=f"n{n - logits + k}", feature_type="logit", token_prob=float(p)) for k, p in enumerate(says)]
    links = [dict(source=f"n{s}", target=f"n{t}", weight=float(weight[t, s])) for t, s in weight.nonzero().tolist()]
    whole = SimpleNamespace(
        logit_targets=range(logits), input_tokens=range(tokens), selected_features=range(features),
        cfg=SimpleNamespace(n_layers=layers), adjacency_matrix=weight, logit_probabilities=says,
    )  # fmt: skip
    assert graph_scores(dict(nodes=nodes, links=links)) == pytest.approx(theirs.compute_graph_scores(whole), abs=1e-5)
