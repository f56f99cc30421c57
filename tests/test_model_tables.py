# Written from nbs/model/08_tables.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.tables import (
    SCHEMA,
    rounded,
    layer_table,
    write_parquet,
    leaf_names,
)


import tempfile
from pathlib import Path

import numpy as np
import torch

from saematch.model.activations import norm_limits
from saematch.model.gather import gather
from saematch.model.text import tokenize
from saematch.model.toys import toy_lm, toy_sae, toy_texts

LM = toy_lm(initializer_range=0.5)
TOKENS = tokenize(LM, toy_texts())


def test_a_layer_as_a_table():
    found = gather(LM, {2: toy_sae(2)}, TOKENS, norm_limits(LM, TOKENS, [2]), shared=[1, 7], progress=False)
    table = layer_table(LM, toy_sae(2), found.layers[2])
    assert table.schema == SCHEMA and table["latent"].to_pylist() == list(range(24))
    row = table.slice(5, 1).to_pylist()[0]
    assert sum(row["histogram"]) == row["active"] and row["largest"] <= row["end"]
    assert {r["document"] for r in row["shared"]} <= {1, 7}
    row["contexts"][0]


def test_rounding_is_relative():
    x = np.array([1.0, 3.14159, 1e-5, 0.0, -123.456])
    assert np.abs(rounded(x, 7) - x).max() <= 2**-7 * np.abs(x).max() and (rounded(x, None) == x).all()
    assert (np.abs(rounded(x, 7) - x) <= 2**-7 * np.abs(x)).all()
    rounded(x, 7)


def test_a_table_comes_back_with_its_header():
    path = Path(tempfile.mkdtemp()) / "layer.parquet"
    found = gather(LM, {2: toy_sae(2)}, TOKENS, norm_limits(LM, TOKENS, [2]), progress=False)
    table = layer_table(LM, toy_sae(2), found.layers[2])
    write_parquet(table, path, dict(layer=2))
    import pyarrow.parquet as pq

    back = pq.read_table(path)
    assert back.to_pylist() == table.to_pylist() and back.schema.metadata[b"saematch"] == b'{"layer": 2}'
    back.num_rows, len(leaf_names(SCHEMA))
