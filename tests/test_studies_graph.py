# Written from nbs/studies/18_graph.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.graph import (
    cantor,
    from_cantor,
    node,
    lineage_graph,
    write_graph,
    read_graph,
    members_and_links,
)


import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.studies.toys import few_lineages


def test_numbers_of_latents_are_turned_back_without_error():
    pairs = [(0, 0), (25, 16383), (0, 66_999_999), (40, 2**40), (3, 2)]
    assert [from_cantor(cantor(*p)) for p in pairs] == pairs
    assert len({cantor(x, i) for x in range(30) for i in range(300)}) == 9000
    with expect_fail(ValueError, "names no latent"):
        from_cantor(-1)
    [cantor(*p) for p in pairs]


def test_a_graph_read_back_is_the_same():
    t = few_lineages()
    with tempfile.TemporaryDirectory() as folder:
        out = write_graph(lineage_graph(t), folder)
        write_graph(lineage_graph(t, [1], slug="one"), folder)
        back, again = read_graph(out), write_graph(lineage_graph(t), folder)
        listed = json.loads((Path(folder) / "graph-metadata.json").read_text())["graphs"]
        one = read_graph(Path(folder) / "one.json")
        for broken, says in (("{", "not valid JSON"), ("{}", "'metadata' is missing"), ("[]", "not a JSON object")):
            out.write_text(broken)
            with expect_fail(ValueError, says):
                read_graph(out)
        with expect_fail(UsageError, "there is no file"):
            read_graph(out.with_name("other.json"))
        lost = {**back, "links": [*back["links"], dict(source="9_9_9", target="4_2_0", weight=1.0)]}
        out.write_text(json.dumps(lost))
        with expect_fail(ValueError, "1 of its links lead to no node"):
            read_graph(out)
    members, links = members_and_links(back)
    expected = t.frame().query("length > 1")
    assert set(members.itertuples(index=False)) == set(expected[members.columns].itertuples(index=False))
    pd.testing.assert_frame_equal(links, t.links(), check_exact=True)
    assert [g["slug"] for g in listed] == ["one", "lineages"] and len(one["metadata"]["prompt_tokens"]) == 2
    links
