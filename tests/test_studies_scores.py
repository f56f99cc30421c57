# Written from nbs/studies/08_scores.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.scores import (
    TABLES,
    facts,
    load_experiment,
    load_run,
)


import tempfile
from pathlib import Path

import pandas as pd
from fastcore.test import expect_fail

from saematch.ground import UsageError


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
