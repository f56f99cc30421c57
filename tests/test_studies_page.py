# Written from nbs/studies/17_page.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.page import (
    EVENTS,
    columns,
    as_columns,
    threads_at,
    counted,
    rows_at,
    atlas,
    compressed,
    asset,
    write_page,
    widget,
)


import numpy as np
import pandas as pd
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.studies.toys import some_lineages


def test_members_stand_in_order_and_links_at_their_later_member():
    members, links = some_lineages(n=30, seed=3)
    c = columns(members, links, [14, 15, 16])
    assert c["offset"][-1] == len(members) == len(c["latent"]) and len(c["p"]) == len(c["offset"]) - 1
    assert c["q_lineage"] == members.sort_values("lineage").groupby("lineage").q.first().tolist()
    number = {(14 + x, i): m for m, (x, i) in enumerate(zip(c["layer"], c["latent"]))}
    for link in links.itertuples():
        m = number[link.layer_b, link.latent_b]
        assert c["similarity"][m] == link.similarity and c["q"][m] == link.q
        assert number[link.layer_a, link.latent_a] == m - 1, "the member before it in the list is the other end"
    firsts = set(c["offset"][:-1])
    assert all((c["q"][m] is None) == (m in firsts) for m in range(len(members)))
    twice = pd.concat([members, members.head(1).assign(lineage=99)])
    with expect_fail(UsageError, "stands in two lineages"):
        columns(twice, links, [14, 15, 16])
    with expect_fail(UsageError, "1 links end in latents that are in no lineage, the first in latent 77"):
        columns(members, pd.concat([links, links.head(1).assign(latent_b=77)]), [14, 15, 16])


def test_what_is_counted_at_a_rate():
    members, links = some_lineages(n=50, seed=4)
    c = as_columns(columns(members, links, [14, 15, 16], {15: 7}))
    for rate in (0.05, 0.02, 0.0):
        t, told = threads_at(c, rate), counted(c, threads_at(c, rate))
        passes = members.q <= rate
        cut = members.assign(lineage=members.lineage.where(passes, -1 - np.arange(len(members))))
        life = cut.groupby("lineage").layer.agg(["min", "max", "size"])
        assert len(t.start) == len(life) and told["census"]["links"] == (life["size"] - 1).sum()
        born = life.groupby("min").size().reindex([14, 15, 16], fill_value=0) + [0, 7, 0]
        assert told["census"]["born"] == born.tolist() and told["census"]["alive"] == [50, 57, 50]
        assert told["census"]["length"] == np.bincount(life["size"], minlength=4).tolist()[:1] + [
            (life["size"] == 1).sum() + 7,
            *np.bincount(life["size"], minlength=4).tolist()[2:],
        ]
    twice = counted(
        c | dict(weight=np.full(len(c["p"]), 2.0)), threads_at(c | dict(weight=np.full(len(c["p"]), 2.0)), 0.05)
    )
    assert twice["census"]["links"] == 2 * len(links), "a lineage counts as often as its weight says"


def test_a_row_says_what_a_lineage_is():
    members, links = some_lineages(n=50, seed=4)
    c = as_columns(columns(members, links, [14, 15, 16]))
    t, unclear = threads_at(c, 0.05), np.zeros(len(members), dtype=bool)
    rows = rows_at(c, t, unclear, np.zeros(len(members), dtype=int))
    life = members.groupby("lineage")
    assert rows["length"].tolist() == life.size().tolist()
    weakest = links.groupby("lineage").similarity.min().reindex(life.size().index)
    np.testing.assert_array_equal(rows["weakest"], weakest)
    first, last = (life.layer.agg(f).to_numpy() for f in ("min", "max"))
    bits = dict(birth=first > 14, death=last < 16, gap=last - first + 1 > life.size().to_numpy())
    for name, there in bits.items():
        assert ((rows["events"] >> EVENTS.index(name) & 1) == there).all(), name
    assert np.allclose(rows["frequency"], 0.01) and np.array_equal(rows["member"], t.start)


def test_a_page_is_one_file_that_asks_for_nothing():
    import tempfile
    from importlib.resources import files
    from pathlib import Path

    from saematch.studies.page import compressed

    members, links = some_lineages(n=30, seed=1)
    members.loc[0, "label"] = "</script><img src=x onerror=alert(1)>"
    with tempfile.TemporaryDirectory() as folder:
        out = write_page(atlas(members, links, title="A <b>toy</b>", rate=0.05), Path(folder) / "toy.html")
        page = out.read_text()
        assert [p.name for p in Path(folder).iterdir()] == ["toy.html"]
    assert "onerror" not in page.replace(asset("explorer.js"), "") and "A &lt;b&gt;toy&lt;/b&gt;" in page
    assert "</script" not in asset("explorer.js").lower(), "the program would end its own element"
    assert "default-src 'none'" in page and "http://" not in page.split("<body>")[0]
    assert compressed(dict(a=1)) == compressed(dict(a=1)), "the same bytes for the same data"
    f"{len(page) / 1000:.0f} kB, {len(asset('explorer.js')) / 1000:.0f} of them the program"


def test_what_the_page_does_not_hold_is_refused():
    members, links = some_lineages()
    far = pd.DataFrame(dict(layer_a=[14], latent_a=[0], layer_b=[15], latent_b=[9], similarity=[0.5]))
    with expect_fail(UsageError, "latent 9 of layer 15 is in no lineage"):
        atlas(members, links, title="toy", rate=0.05, near=far)
    split = pd.DataFrame(dict(event=["split"], layer=[99], latent=[0], others=[[(15, 1), (15, 2)]]))
    with expect_fail(UsageError, "events: latent 0 of layer 99"):
        atlas(members, links, title="toy", rate=0.05, events=split)
    split = split.assign(layer=14)
    data = atlas(
        members, links, title="toy", rate=0.05, events=split, chance=(members.assign(weight=0.5), links), alone={16: 5}
    )
    assert data["events"]["event"] == ["split"] and len(data["events"]["others"][0]) == 2
    assert data["chance"]["offset"] == data["lineages"]["offset"] and data["lineages"]["alone"] == [0, 0, 5]
    assert set(data["chance"]["weight"]) == {0.5} and "weight" not in data["lineages"], (
        "a lineage of strangers stands for so many"
    )


def test_a_widget_holds_the_same_data():
    members, links = some_lineages()
    data = atlas(members, links, title="toy", rate=0.05)
    w = widget(data)
    assert w.atlas == compressed(data) and w.cards == {} and w.selected is None
