# Written from nbs/judging/22_spread.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.spread import (
    spread_lineages,
)


from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch

from saematch.judging.depth import lineages
from saematch.saes.toys import planted_suite, random_sae
from saematch.tasks import Threads


def test_lineages_find_what_was_made_beforehand():
    pool = random_sae(32, 200, dtype=torch.float32)
    suite = planted_suite(pool, layers=3, width=60, noise=0.4).suite
    alone = lineages(suite, progress=False, forks=False)
    for small in (2**30, 0):  # listed at once, and pair by pair
        with TemporaryDirectory() as folder, patch("saematch.lap.similarities.Similarities.small", small):
            spread_lineages(Threads(2), suite, list(suite), folder, progress=False)
            names = sorted(p.name for p in Path(folder).iterdir())
            t = lineages(suite, progress=False, forks=False, work=folder)
            assert sorted(p.name for p in Path(folder).iterdir()) == names, "nothing had to be made again"
            assert torch.equal(t.members, alone.members) and torch.equal(t.gain, alone.gain)
            assert t.info["nulls"] == alone.info["nulls"] and torch.equal(t.q.nan_to_num(2), alone.q.nan_to_num(2))
    {name.partition("-")[0]: sum(n.startswith(name.partition("-")[0]) for n in names) for name in names}
