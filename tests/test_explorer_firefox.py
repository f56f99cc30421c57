"""The explorer in Firefox, over WebDriver BiDi: it opens, searches, follows the slider. Skipped without Firefox."""

import itertools
import json
import re
import shutil
import subprocess
import time

import pytest
from test_explorer_browser import lineages, passing

from saematch.studies.page import atlas, write_page

websocket = pytest.importorskip("websocket", reason="needs websocket-client, which comes with Jupyter")


class Firefox:
    "A headless Firefox that is told what to do, as WebDriver BiDi says it."

    def __init__(self, program, profile):
        command = [program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.number, self.said = itertools.count(), []
        at = next((m[1] for line in self.process.stderr if (m := re.search(r"listening on (ws://\S+)", line))), None)
        assert at, "Firefox ended before it listened"
        self.socket = websocket.create_connection(f"{at}/session", timeout=60, suppress_origin=True)
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self.page = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method, **params):
        "One command and its result; what happens meanwhile is kept in `said`."
        number = next(self.number)
        self.socket.send(json.dumps(dict(id=number, method=method, params=params)))
        while (answer := json.loads(self.socket.recv())).get("id") != number:
            self.said.append(answer)
        assert answer["type"] == "success", answer
        return answer["result"]

    def evaluate(self, script):
        "The value of an expression on the page."
        target = dict(context=self.page)
        found = self.ask("script.evaluate", expression=script, target=target, awaitPromise=True)
        assert found["type"] == "success", found
        return found["result"].get("value")

    def until(self, script, seconds=30):
        "Wait for an expression to be true."
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.1)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    program = shutil.which("firefox") or shutil.which("firefox-esr")
    if not program:
        pytest.skip("needs Firefox, Debian's firefox-esr for example")
    f = Firefox(program, tmp_path_factory.mktemp("profile"))
    yield f
    f.close()


def test_it_opens_searches_and_follows_the_slider(firefox, tmp_path):
    members, links = lineages()
    page = write_page(atlas(members, links, title="toy", rate=0.05), tmp_path / "toy.html")
    firefox.ask("browsingContext.navigate", context=firefox.page, url=page.as_uri(), wait="complete")
    firefox.until("document.querySelector('.sx-lanes .sx-mine')")
    links_shown = "Number(document.querySelector('.sx-count').innerText.match(/([\\d,]+) links/)[1].replace(',', ''))"
    assert firefox.evaluate(links_shown) == len(links)
    rate = firefox.evaluate(
        "(s => { s.value = 0.02; s.dispatchEvent(new Event('input')); return s.value })"
        "(document.querySelector('.sx-rate'))"
    )
    firefox.until(f"{links_shown} === {int(passing(links, members, float(rate)))}")
    firefox.evaluate("location.hash = 'view=list&find=16/33&least=1'")
    firefox.until("document.querySelector('.sx-count').innerText.includes('1 lineage listed')")
    firefox.until("document.querySelectorAll('.sx-table tbody td.sx-label').length === 1")
    firefox.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', { key: '3' }))")
    firefox.until("document.querySelector('.sx-bars') && location.hash.includes('view=summary')")
    trouble = [e["params"]["text"] for e in firefox.said if e.get("method") == "log.entryAdded"]
    asked = {e["params"]["request"]["url"] for e in firefox.said if e.get("method") == "network.beforeRequestSent"}
    assert trouble == [] and asked <= {page.as_uri()}, "no error on the console, no request but the file itself"
