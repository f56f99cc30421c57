"""How quickly the explorer shows and searches the lineages of a large model.

    python benchmarks/explorer.py [--layers 26] [--width 16384] [--no-browser]
    python benchmarks/explorer.py --file [--runs 5]

Synthetic lineages with labels, cards, near pairs and splits, served as `saematch explore --serve` does. Aims at 26
layers of 16,384: the first view in 2 s, a search in 300 ms. Prints a Markdown table: CPU seconds of the server, wall
seconds, and what went over the wire; then how long a person in a browser waits, where Chromium and Playwright are.
`--file` measures the page of the embedded suite, a file, instead: each time in a Chromium that has just been started.
"""

import argparse
import json
import platform
import resource
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import torch

from saematch.matching.lineage import Chance, Lineages
from saematch.model.card import Card, Context
from saematch.studies.serve import explorer_server

WORDS = "is are was were the of and to in a for that with as by at from on be or year name left old new city".split()
SEARCHES = ["is", "year city", "layer 12 the", "word77", "left old new city"]


def synthetic(layers: int, width: int, seed: int = 0) -> Lineages:
    "Lineages in which nine of ten latents go on to the next layer, in random order, with random evidence."
    rng = np.random.default_rng(seed)
    columns, open_, rows = [], np.empty(0, dtype=int), 0
    for _ in range(layers):
        stay = open_[rng.random(len(open_)) < 0.9]
        new = rows + np.arange(width - len(stay))
        rows += len(new)
        open_ = rng.permutation(np.concatenate([stay, new]))
        columns.append(open_)
    members = np.full((rows, layers), -1)
    for x, lineage in enumerate(columns):
        members[lineage, x] = np.arange(width)
    draw = lambda *shape, most=1.0: torch.from_numpy(rng.uniform(0, most, shape))
    shape, info = members.shape, dict(name="synthetic", options=dict(q=0.05), nulls={})
    few = torch.from_numpy(members[(members >= 0).sum(1) > 1][:2000])
    drawn = Chance(few, few, draw(len(few), most=3.0), draw(*few.shape), draw(*few.shape), draw(len(few), most=0.05))
    judged = (draw(*shape), draw(*shape, most=0.05), draw(rows, most=0.05), info, dict(parts=drawn))
    q = dict(q_link=draw(*shape, most=0.05), q=draw(rows, most=0.05))
    return Lineages(torch.from_numpy(members), tuple(range(layers)), (width,) * layers, draw(rows), *judged, **q)


class Cards(Mapping):
    "Cards of a layer, made when they are asked for."

    def __init__(self, layer: int, width: int):
        self.layer, self.width = layer, width

    def __getitem__(self, i: int) -> Card:
        own = [WORDS[(i * k + self.layer) % len(WORDS)] for k in (1, 3, 7)]
        text = Context([f" {w}" for w in own] * 10, np.tile([3.0, 0.0, 1.0], 10), 0, 0, 0)
        label = ", ".join([*own, f"word{i}"])
        return Card(
            suite="synthetic", layer=self.layer, latent=i, weights="0", label=label, seen=10_000, active=1 + i % 500,
            mean=1.0, largest=3.0, threshold=0.1, histogram=(np.arange(33.0), np.ones(32, dtype=int)),
            contexts=[text] * 10, tokens=[], promoted=[], suppressed=[], neighbours=[], dead=False,
        )  # fmt: skip

    def __len__(self) -> int:
        return self.width

    def __iter__(self):
        return iter(range(self.width))


def beside(t: Lineages, many: int = 100_000, seed: int = 1) -> dict:  # near, events
    "Random pairs that come near, random splits."
    rng, members = np.random.default_rng(seed), t.frame().query("length > 1")
    a, b, c = (members.iloc[rng.integers(len(members), size=many)] for _ in range(3))
    pair = {f"{k}_{s}": m[k].to_numpy() for s, m in (("a", a), ("b", b)) for k in ("layer", "latent")}
    near = pd.DataFrame(pair | dict(similarity=rng.uniform(0.3, 0.9, many)))
    others = [[(p, i), (q, j)] for p, i, q, j in zip(b.layer, b.latent, c.layer, c.latent)]
    events = pd.DataFrame(
        dict(event=rng.choice(["split", "merge"], many), layer=a.layer.to_numpy(), latent=a.latent.to_numpy())
    )
    return dict(near=near, events=events.assign(others=others))


def timed(work):
    "(CPU seconds of this process, wall seconds, result)"
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return time.process_time() - cpu, time.perf_counter() - wall, found


def row(what, cpu, wall, size=None):
    "A line of the table."
    print(f"| {what} | {cpu:.3f} | {wall:.3f} | {'' if size is None else f'{size / 1000:,.0f}'} |", flush=True)


def measured(at: str) -> None:
    "What the server takes for a first view and for searches; each answer is asked for once."
    import gzip

    def ask(**state):
        query = urlencode(dict(least=2, sort="length", down=1, to=100) | state)
        return urllib.request.urlopen(f"{at}/view.json?{query}").read()

    cpu, wall, page = timed(lambda: urllib.request.urlopen(at).read())
    row("page", cpu, wall, len(page))
    cpu, wall, view = timed(ask)
    row("first view: counts and rows in sight", cpu, wall, len(view))
    name = json.loads(gzip.decompress(view))["rows"][0]["name"]
    cpu, wall, view = timed(lambda: ask(focus=name))
    row("the first lineage and its neighbours", cpu, wall, len(view))
    cpu, wall, view = timed(lambda: ask(focus=name, rate=0.021))
    row("the slider, moved", cpu, wall, len(view))
    for words in SEARCHES:
        cpu, wall, view = timed(lambda words=words: ask(focus=name, find=words))
        row(f"search “{words}”: {json.loads(gzip.decompress(view))['total']:,}", cpu, wall, len(view))


def in_browser(at: str) -> None:
    "What a person waits for."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        page = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"]).new_page()
        cpu, wall, _ = timed(lambda: (page.goto(at), page.wait_for_selector(".sx-lanes .sx-mine")))
        row("in Chromium: first view", cpu, wall)
        cpu, wall, _ = timed(lambda: page.wait_for_selector(".sx-card h3"))
        row("in Chromium: its cards, after that", cpu, wall)
        page.keyboard.press("2")
        page.wait_for_selector(".sx-table tbody td button")
        for words in SEARCHES:
            wait = "words => document.querySelector('.sx-count').dataset.shown === words"
            cpu, wall, _ = timed(lambda: (page.fill(".sx-find", words), page.wait_for_function(wait, arg=words)))
            row(f"in Chromium: search “{words}”", cpu, wall)


def opened(program: str, address: str) -> dict:
    "What a Chromium that has just been started takes to show a page: milliseconds by the wall and of its processes."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page, told = browser.new_page(viewport=dict(width=1280, height=900)), browser.new_browser_cdp_session()
        spent = lambda: sum(one["cpuTime"] for one in told.send("SystemInfo.getProcessInfo")["processInfo"])
        out, cpu, wall = {}, spent(), time.perf_counter()
        page.goto(address, wait_until="commit")
        for what, seen in (("first view", ".sx-lanes .sx-mine"), ("with cards", ".sx-card h3")):
            page.wait_for_selector(seen)
            out[what] = 1e3 * (time.perf_counter() - wall), 1e3 * (spent() - cpu)
        browser.close()
    return out


def of_a_file(runs: int) -> None:
    "The page of the embedded suite."
    from saematch.studies.lives import lineages_of
    from saematch.studies.look import explore_lineages

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        page = explore_lineages(lineages_of("smollm2-135m-resid"), Path(folder) / "explorer.html")
        found = [opened(program, page.as_uri()) for _ in range(runs)]
        print(f"{date.today()}, {page.stat().st_size / 1e6:.1f} MB, medians of {runs} cold loads (quickest)\n")
    print("| | wall, ms | CPU, ms |\n|---|---:|---:|")
    for what in found[0]:
        wall, cpu = zip(*(one[what] for one in found))
        told = (f"{statistics.median(v):.0f} ({min(v):.0f})" for v in (wall, cpu))
        print(f"| {what} | {' | '.join(told)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=26)
    parser.add_argument("--width", type=int, default=16_384)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--file", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    a = parser.parse_args()
    if a.file:
        return of_a_file(a.runs)
    t = synthetic(a.layers, a.width)
    cards = {layer: Cards(layer, a.width) for layer in t.layers}
    print(f"{date.today()}, {platform.machine()}, {a.layers} x {a.width:,} = {a.layers * a.width:,} latents\n")
    print("| | CPU, s | wall, s | kB sent |\n|---|---:|---:|---:|")
    more = beside(t)
    cpu, wall, server = timed(lambda: explorer_server(t, cards, 0, **more))
    row("before the server listens", cpu, wall)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    measured(at)
    if not a.no_browser:
        in_browser(at)
    print(f"\nPeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB.")
    print(f"Left out: {server.RequestHandlerClass.views.meta['left_out']}")


if __name__ == "__main__":
    main()
