# Written from nbs/matching/08_lineage.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.lineage import (
    Lineages,
    Lineage,
)


import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.studies.toys import forked_lineages


def test_what_chance_draws():
    t = forked_lineages()
    assert t.chance().columns.tolist() == ["lineage", "layer", "latent", "length", "p", "q", "source", "weight"]
    assert t.chance()[["layer", "latent", "source"]].values.tolist() == [[4, 1, 6], [6, 2, 6]]
    assert t.chance_links()[["layer_a", "latent_a", "layer_b", "latent_b", "span"]].values.tolist() == [[4, 1, 6, 2, 2]]
    assert len(t.chance(q=0.2)) == 0
    with expect_fail(KeyError, "unknown null of these lineages 'signs'"):
        t.chance("signs")
    t.chance()


def test_tables_of_lineages():
    t = forked_lineages()
    frame, links = t.frame(), t.links()
    assert (
        list(zip(frame.layer, frame.latent)) != [] and not frame.duplicated(["layer", "latent"]).any() and len(frame) == 7
    )
    assert links[["layer_a", "latent_a", "layer_b", "latent_b"]].values.tolist() == [
        [4, 0, 5, 1],
        [5, 1, 6, 2],
        [4, 1, 6, 0],
    ]
    assert links.similarity.tolist() == [0.75, 0.625, 0.5] and links.span.tolist() == [1, 1, 2]
    assert t.events().values.tolist() == [["gap", 5, 1], ["split", 4, 0]], "the merge is of a latent that is alone"
    assert t.forked().drop(columns="q").values.tolist() == [["split", 4, 0, 0, 5, 1, 0], ["merge", 6, 1, 3, 5, 0, 1]]
    assert t.events("split").lineage.tolist() == [0]
    assert replace(t, info={"options": {"q": 0.001}}).forked().empty and replace(t, forks=None, q_forks=None).forked().empty
    with expect_fail(UsageError, "the event must be one of birth, death, gap, split, merge"):
        t.events("marriage")
    with expect_fail(ValueError, "each of the 2 latents of layer 4 must stand in exactly one lineage"):
        Lineages(torch.tensor([[0], [0]]), (4,), (2,), torch.zeros(2), torch.zeros(2, 1))
    t.events()


def test_one_lineage_and_the_match_of_two_layers():
    t = forked_lineages()
    assert t.of(6, 0).members == {4: 1, 6: 0} and repr(t.of(4, 0)) == "Lineage 0: 4/0 - 5/1 - 6/2"
    assert t.match(4, 6).index.tolist() == [2, 0] and t.match(6, 5).index.tolist() == [-1, -1, 1]
    assert "3 layers" in repr(t) and "| lineages | 2 | 1 | 1 |" in t._repr_markdown_()
    with expect_fail(KeyError, "unknown layer of these lineages '7'"):
        t.of(7, 0)
    with expect_fail(KeyError, "layer 6 has no latent 3; its latents are 0 to 2"):
        t.of(6, 3)
    t.of(4, 0, labels={(4, 0): "infinitive to"})


def test_a_file_of_lineages_comes_back_or_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.safetensors"
        t = forked_lineages()
        t.save(path)
        back = Lineages.load(path, ["a", "b", "c"])
        assert torch.equal(back.members, t.members) and dict(back.info) == dict(t.info) and back.p is None
        assert back.chance().equals(t.chance()) and back.chance_links().equals(t.chance_links())
        assert back.forked().equals(t.forked())
        replace(t, forks=None, q_forks=None).save(path)
        assert Lineages.load(path).forked().empty, "files of before splits were looked for are read"
        numbers = dict(options=dict(seed=np.int64(1), loose=np.float32(0.5)))
        replace(t, layers=tuple(map(np.int64, t.layers)), info=numbers).save(path)
        back = Lineages.load(path)
        assert back.layers == t.layers and back.info == dict(options=dict(seed=1, loose=0.5))
        t.save(path)
        with expect_fail(ValueError, "lineages of other weights: they were made from toy"):
            Lineages.load(path, ["a", "b", "d"])
        with expect_fail(UsageError, "saved as a .safetensors file"):
            t.save(Path(folder) / "t.json")
        whole = path.read_bytes()
        for at in (len(whole) - 5, whole.index(b"objective") + 14, len(whole) - 100):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with expect_fail(ValueError, "does not fit its checksum"):
                Lineages.load(path)
