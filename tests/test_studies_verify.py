# Written from nbs/studies/35_verify.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.verify import (
    cmd_check,
)


import contextlib
import io
import tempfile
from pathlib import Path

from saematch.studies.run import run
from saematch.studies.toys import planted_folder


def test_the_command_names_what_is_wrong():
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as told:
        suite, out = Path(folder) / "suite", Path(folder) / "out"
        planted_folder(suite, layers=(3, 4))
        run(suite, out=out, jobs=1, lineages=False)
        cmd_check(str(out), None)
        (out / "pairs.parquet").write_bytes((out / "pairs.parquet").read_bytes()[:-1])
        try:
            cmd_check(str(out), str(suite))
        except ValueError as e:
            said = str(e).replace(folder, "")
    assert said == "/out is not what was written: 1 files are wrong"
    lines = told.getvalue().replace(folder, "").splitlines()
    assert lines[0].startswith("out: ") and "files are whole" in lines[0]
    assert lines[1].startswith("pairs.parquet: ") and lines[2].startswith("out: 1 of ")
    lines
