# Written from nbs/studies/23_serve.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.serve import (
    explorer_server,
)


import json
import urllib.error
import urllib.request

import pandas as pd
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.studies.toys import labelled_card, one_lineage, running


def test_a_server_gives_the_page_the_lineages_and_single_cards():
    cards = {4: {i: labelled_card(4, i) for i in range(2)}}
    ask = lambda url, **headers: urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    said = {}
    with running(explorer_server(one_lineage(), cards, 0)) as at:
        page = ask(at + "/").read().decode()
        import gzip

        data = json.loads(gzip.decompress(ask(at + "/view.json?focus=4/0&to=100").read()))
        card = json.loads(ask(at + "/cards/0/1.json").read())
        no_card = ("/cards/1/0.json", "/cards/0/7.json", "/cards/9/0.json")
        for path in (*no_card, "/../setup.py", "/etc/passwd", "/cards/0/../0.json"):
            try:
                ask(at + path)
            except urllib.error.HTTPError as e:
                said[path] = e.code
        for query in ("rate=nan", "rate=-1", "least=few"):
            try:
                ask(f"{at}/view.json?{query}")
            except urllib.error.HTTPError as e:
                said[query] = e.code, e.read().decode()
        try:
            ask(at + "/", Host="evil.example")
        except urllib.error.HTTPError as e:
            said["a page that pretends to be this machine"] = e.code
        with expect_fail(UsageError, "cannot be used"):
            explorer_server(one_lineage(), cards, int(at.rsplit(":", 1)[1]))
    with expect_fail(UsageError, "a port is a number"):
        explorer_server(one_lineage(), cards, 70000)
    assert "data-served" in page and "connect-src &#39;self&#39;" in page and 'id="atlas"' not in page
    assert data["atlas"]["lineages"]["offset"] == [0, 2] and data["rows"][0]["name"] == "4/0" and data["total"] == 1
    assert card["vocabulary"] == [" token1", " layer4"]
    assert {v if isinstance(v, int) else v[0] for v in said.values()} == {404, 403, 400} and len(said) == 10
    said
