# Written from nbs/03_tasks.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.tasks import (
    Job,
    Threads,
)


from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


def test_jobs_are_done_and_an_error_stops_them():
    def write(path, text):
        path.write_text(text)
        return text.upper()


    with TemporaryDirectory() as folder:
        jobs = [Job(f"letter {c}", write, (Path(folder) / c, c)) for c in "abcd"]
        assert Threads(2).do(jobs, "writing", "letter", False) == ["A", "B", "C", "D"]
        assert sorted(p.name for p in Path(folder).iterdir()) == ["a", "b", "c", "d"]
        wrong = Job("a letter in no folder", write, (Path(folder) / "missing" / "e", "e"))
        with pytest.raises(FileNotFoundError):
            Threads(2).do([wrong, *jobs], "writing", "letter", False)
    [job.name for job in jobs]
