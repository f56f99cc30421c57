# Written from nbs/studies/18_explorer.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.explorer import (
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
from saematch.matching.lineage import Lineages


def page_data(path):
    "What a page holds."
    return json.loads(gzip.decompress(base64.b64decode(Path(path).read_text().split('id="atlas">')[1].split("<")[0])))


def few_lineages(**more):
    "Layers 4, 5 and 6 with two latents each: 0-1-0, 1-0, and a latent alone."
    members = torch.tensor([[0, 1, 0], [1, 0, -1], [-1, -1, 1]])
    link = torch.tensor([[0.9, 0.8, 0], [0.6, 0, 0], [0, 0, 0]], dtype=torch.float64)
    p = torch.tensor([[0.01, 0.02, 1], [0.04, 1, 1], [1, 1, 1]], dtype=torch.float64)
    info = dict(name="toy", nulls=dict(lineages={"2": 1.0, "3": 1.0}, parts={"2": 0.4, "3": 0.0}))
    fields = dict(link=link, p_link=p, p=p[:, 0], info=info) | more
    return Lineages(members, (4, 5, 6), (2, 2, 2), torch.zeros(3).double(), **fields)


def test_lineages_become_a_page():
    with tempfile.TemporaryDirectory() as folder:
        data = page_data(explore(few_lineages(), Path(folder) / "toy.html"))
        with expect_fail(UsageError, "no p-values"):
            explore(few_lineages(p_link=None, p=None), "toy.html")
    assert data["lineages"]["q"] == [None, 0.03, 0.03, None, 0.04], "Benjamini and Hochberg: 0.01 x 3, 0.02 x 3 / 2, 0.04"
    assert data["chance"] is None, "these lineages keep nothing of their nulls"
    assert data["lineages"]["alone"] == [0, 0, 1] and data["meta"]["rate"] == 0.04
    data["meta"]["about"]
