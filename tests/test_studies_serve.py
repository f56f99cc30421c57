# Written from nbs/studies/23_serve.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.serve import (
    explorer_server,
)


import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.lineage import Lineages
from saematch.model.card import Card, Context


def few_lineages():
    "Layers 4 and 5 with two latents each, and one lineage."
    members = torch.tensor([[0, 1], [1, -1], [-1, 0]])
    link = torch.tensor([[0.9, 0], [0, 0], [0, 0]], dtype=torch.float64)
    return Lineages(members, (4, 5), (2, 2), torch.zeros(3).double(), link, link / 100, link[:, 0], dict(name="toy"))


def toy_card(layer, latent):
    "A card whose text says which latent it is of."
    text = Context([f" token{latent}", f" layer{layer}"], np.array([1.0, 0.0]), 0, 0, 0)
    return Card(
        suite="toy", layer=layer, latent=latent, weights="0", label=f"word{latent}", seen=100, active=1, mean=1.0,
        largest=1.0, threshold=0.1, histogram=(np.arange(3.0), np.array([1, 0])), contexts=[text], tokens=[],
        promoted=[], suppressed=[], neighbours=[], dead=False,
    )  # fmt: skip


@contextmanager
def running(server):
    "A server in the background."
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown(), server.server_close(), thread.join()


def test_a_server_gives_the_page_the_lineages_and_single_cards():
    cards = {4: {i: toy_card(4, i) for i in range(2)}}
    ask = lambda url, **headers: urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    said = {}
    with running(explorer_server(few_lineages(), cards, 0)) as at:
        page = ask(at + "/").read().decode()
        import gzip

        data = json.loads(gzip.decompress(ask(at + "/atlas.json").read()))
        card = json.loads(ask(at + "/cards/0/1.json").read())
        no_card = ("/cards/1/0.json", "/cards/0/7.json", "/cards/9/0.json")
        for path in (*no_card, "/../setup.py", "/etc/passwd", "/cards/0/../0.json"):
            try:
                ask(at + path)
            except urllib.error.HTTPError as e:
                said[path] = e.code
        try:
            ask(at + "/", Host="evil.example")
        except urllib.error.HTTPError as e:
            said["a page that pretends to be this machine"] = e.code
        with expect_fail(UsageError, "cannot be used"):
            explorer_server(few_lineages(), cards, int(at.rsplit(":", 1)[1]))
    with expect_fail(UsageError, "a port is a number"):
        explorer_server(few_lineages(), cards, 70000)
    assert "data-served" in page and "connect-src &#39;self&#39;" in page and 'id="atlas"' not in page
    assert data["lineages"]["offset"] == [0, 2] and card["vocabulary"] == [" token1", " layer4"]
    assert set(said.values()) == {404, 403} and len(said) == 7
    said
