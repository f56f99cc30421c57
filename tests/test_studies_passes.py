# Written from nbs/studies/07_passes.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.passes import (
    pairs_of,
    chunks,
    load_chunk,
)


import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from saematch.ground import read_safetensors
from saematch.matching.match import match
from saematch.saes.toys import random_sae
from saematch.studies.fitting import Fit
from saematch.studies.matches import Matches
from saematch.studies.options import Trial


def test_adjacent_layers_get_everything_and_longer_spans_little():
    saes = [random_sae(8, 12, seed=l) for l in range(3)]
    ways = dict(match={}, encoder=dict(weights="encoder"), random=dict(method="random"))
    found = {
        (0, 1): {name: match(saes[0], saes[1], **how) for name, how in ways.items()},
        (1, 2): {name: match(saes[1], saes[2], **how) for name, how in ways.items()},
        (0, 2): {"match": match(saes[0], saes[2])},
    }
    x = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = pairs_of(Matches(saes, [0, 1, 2], found), Fit({}, {l: x + l for l in range(3)}), Trial(text="prose"), {})
    assert list(pairs) == [(0, 1), (1, 2), (0, 2)]
    near, far = pairs[0, 1], pairs[0, 2]
    assert list(near.matches) == ["match", "encoder", "random", "correlation", "activation scale", "whitened"]
    assert "encoder" in near.without_loss and "quantile 0.3" in near.without_loss and near.linear.shape == (9, 8)
    assert list(far.matches) == ["match", "composed", "identity", "random"] and not far.decode
    more = pairs_of(
        Matches(saes, [0, 1, 2], found),
        Fit({}, {l: x + l for l in range(3)}),
        Trial(text="prose"),
        {},
        beside={(0, 2): {"joint": found[0, 2]["match"]}},
    )
    assert list(more[0, 2].compared) == [*far.matches, "joint"] and more[0, 1].routes() == near.routes()
    assert more[0, 2].usual[1].shape == (2, 12) and not near.usual
    {layers: pair.routes() for layers, pair in pairs.items() if pair.decode}


def test_chunks_cover_every_document_once():
    texts = {"one": list(range(10)), "two": list(range(3))}
    parts = chunks(Trial(text="prose", documents=10, loss_documents=4, batch=2), texts)
    assert parts == [
        ("one", 0, 2, True),
        ("one", 2, 4, True),
        ("one", 4, 10, False),
        ("two", 0, 2, True),
        ("two", 2, 3, True),
    ]
    for source, documents in texts.items():
        assert [d for s, a, b, _ in parts if s == source for d in range(a, b)] == documents
    parts


def test_a_chunk_of_another_run_is_not_taken():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one-000000.safetensors"
        save_file({"kept": torch.ones(2)}, path, {"key": "mine"})
        assert load_chunk(path, "mine")["kept"].tolist() == [1, 1] and load_chunk(path, "another") is None
        path.write_bytes(path.read_bytes()[:40])
        assert load_chunk(path, "mine") is None and load_chunk(Path(folder) / "missing", "mine") is None
