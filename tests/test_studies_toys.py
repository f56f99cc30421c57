# Written from nbs/studies/00_toys.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.toys import (
    planted_folder,
    some_lineages,
    running,
)


import tempfile
import urllib.request

from saematch.saes.suite import load_suite


def test_a_folder_is_a_suite_with_its_truth():
    with tempfile.TemporaryDirectory() as folder:
        truths = planted_folder(folder)
        suite = load_suite(folder)
        sizes = suite.frame()
    assert list(suite) == [3, 4, 5] and [len(t) for t in truths] == [60, 60]
    assert [int((t < 0).sum()) for t in truths] == [6, 6], "a tenth has no successor"
    sizes


def test_a_link_joins_members_of_its_lineage():
    members, links = some_lineages(n=30, seed=1)
    of = members.set_index(["layer", "latent"]).lineage
    assert not of.index.has_duplicates and links.q.between(0, 0.05).all()
    assert all(of[r.layer_a, r.latent_a] == of[r.layer_b, r.latent_b] == r.lineage for r in links.itertuples())
    links.head(3)


def test_a_server_answers_while_the_block_runs():
    from http.server import BaseHTTPRequestHandler, HTTPServer


    class Hello(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200), self.end_headers(), self.wfile.write(b"hello")

        def log_message(self, *args):
            pass


    with running(HTTPServer(("127.0.0.1", 0), Hello)) as at:
        said = urllib.request.urlopen(at).read().decode()
    try:
        urllib.request.urlopen(at)
    except OSError as e:
        closed = e
    assert said == "hello" and closed, "closed afterwards"
    said
