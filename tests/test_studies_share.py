# Written from nbs/studies/34_share.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.share import (
    FILES,
    made_of,
    check_saes,
)


import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.compose import compose
from saematch.matching.lineage import Lineages
from saematch.matching.match import Match, match
from saematch.model.cards import Cards, cards
from saematch.saes.suite import fingerprint
from saematch.saes.toys import planted, random_sae
from saematch.studies.toys import few_lineages


def test_a_result_comes_back_from_a_folder_as_it_went():
    matplotlib.use("Agg")
    a = random_sae(8, 24)
    b = planted(a, seed=1).sae
    m, t = match(a, b), few_lineages()
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        m.save_pretrained(one, license="mit"), t.save_pretrained(two)
        assert torch.equal(Match.from_pretrained(one, a, b).index, m.index)
        assert torch.equal(Lineages.from_pretrained(two, ["a", "b", "c"]).members, t.members)
        with expect_fail(ValueError, "holds lineages of other weights, of toy"):
            Lineages.from_pretrained(two, ["a", "b", "d"])
        with expect_fail(
            UsageError, "holds no match.safetensors: it is no Match (it holds README.md, figure.png, lineages.safetensors)"
        ):
            Match.from_pretrained(two)
        written = (one / "README.md").read_text()
    assert written.startswith("---\nlicense: mit\n") and "optimal, gap" in written and "from_pretrained" in written
    sorted(FILES.values())


def test_a_match_of_other_saes_is_refused():
    matplotlib.use("Agg")
    a = random_sae(8, 24)
    b, other = planted(a, seed=1).sae, planted(a, seed=2).sae
    m = match(a, b, dead="exclude")
    with expect_fail(ValueError, "this match is of other SAEs than those given: with them the cost of latent"):
        check_saes(m, a, other)
    with expect_fail(ValueError, "with them A has 24 latents and B 12, the match is of 24 and 24"):
        check_saes(m, a, b.select(range(12)))
    with expect_fail(UsageError, "does not say how it was made"):
        check_saes(compose(m, match(b, other)), a, other)
    with tempfile.TemporaryDirectory() as folder:
        with expect_fail(ValueError, "this match is of other SAEs"):
            m.save_pretrained(folder, a=a, b=other)
        m.save_pretrained(folder, a=a, b=b)
        assert made_of(Match.from_pretrained(folder)) == [fingerprint(a), fingerprint(b)]
        with expect_fail(ValueError, "than those given: B has the weights"):
            Match.from_pretrained(folder, a=a, b=other)


def test_cards_come_back_from_a_folder():
    matplotlib.use("Agg")
    found = cards("smollm2-135m-resid", 14)
    with tempfile.TemporaryDirectory() as folder:
        found.save_pretrained(folder, license="apache-2.0")
        back = Cards.from_pretrained(folder, layer=14)
        assert back[1091].text() == found[1091].text() and back.header == found.header
        assert "## Licence" in (Path(folder) / "README.md").read_text()
        with expect_fail(UsageError, "holds no cards of layer 3: it has no layer_3.parquet"):
            Cards.from_pretrained(folder, layer=3)
        with expect_fail(ValueError, "holds cards of other weights"):
            Cards.from_pretrained(folder, layer=14, sae=random_sae(8, 24))
    back
