# Written from nbs/studies/24_take.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.take import (
    TO,
    cmd_export,
    cmd_supernodes,
)


import contextlib
import io
import tempfile
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError


def test_formats_are_those_of_export():
    from saematch.studies.export import FORMATS

    assert tuple(FORMATS) == TO


def test_a_graph_is_grouped_and_given_back():
    import torch

    from saematch.ground import notebook_data
    from saematch.matching.lineage import Lineages
    from saematch.studies.graph import read_graph
    from saematch.studies.supernodes import latents

    path = notebook_data("graphs/capital-of-france.json")
    nodes = latents(read_graph(path))
    widths, layers = 2048, sorted(set(nodes.layer))
    same = torch.arange(widths)[:, None].repeat(1, len(layers))  # latents of one number as lineages: strangers
    t = Lineages(
        same,
        tuple(layers),
        (widths,) * len(layers),
        torch.zeros(widths).double(),
        torch.zeros(same.shape).double(),
        info=dict(name="strangers"),
    )
    with tempfile.TemporaryDirectory() as folder:
        t.save(Path(folder) / "t.safetensors")
        file, out = str(Path(folder) / "t.safetensors"), Path(folder) / "g.json"
        with contextlib.redirect_stdout(io.StringIO()) as said:
            cmd_supernodes(str(path), file, str(out), 1, True, 2)
            cmd_export(file, "csv", folder, 3, "few")
        back, one = read_graph(out), read_graph(out.with_name("g-merged.json"))
        with expect_fail(UsageError, "another file than it is read from"):
            cmd_supernodes(str(out), file, str(out), 0, False, 0)
    before = read_graph(path)
    assert back["nodes"] == before["nodes"] and back["links"] == before["links"] and back["qParams"]["supernodes"]
    assert len(one["nodes"]) < len(before["nodes"])
    assert "by hand, other graphs" in said.getvalue() and "nodes are on one" in said.getvalue()
    print(said.getvalue().replace(folder, ""))
