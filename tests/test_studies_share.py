# Written from nbs/studies/34_share.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.share import (
    FILES,
)


import tempfile
from pathlib import Path

import torch
from fastcore.test import expect_fail
from IPython.display import Markdown

from saematch.ground import UsageError
from saematch.matching.lineage import Lineages
from saematch.matching.match import Match, match
from saematch.saes.toys import planted, random_sae
from saematch.studies.toys import few_lineages


def test_a_result_comes_back_from_a_folder_as_it_went():
    a = random_sae(8, 24)
    m, t = match(a, planted(a, seed=1).sae), few_lineages()
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        m.save_pretrained(one, license="mit"), t.save_pretrained(two)
        assert torch.equal(Match.from_pretrained(one).index, m.index)
        assert torch.equal(Lineages.from_pretrained(two, ["a", "b", "c"]).members, t.members)
        with expect_fail(ValueError, "holds lineages of other weights, of toy"):
            Lineages.from_pretrained(two, ["a", "b", "d"])
        with expect_fail(
            UsageError, "holds no match.safetensors: it is no Match (it holds README.md, lineages.safetensors)"
        ):
            Match.from_pretrained(two)
        written = (one / "README.md").read_text()
    assert written.startswith("---\nlicense: mit\n") and "optimal, gap" in written and "from_pretrained" in written
    sorted(FILES.values())
