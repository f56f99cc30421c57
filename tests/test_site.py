"""The site is built without a warning and opens in a browser: title, search, a figure, light and dark, a telephone."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the site, built by its one command, without the explorer (that has tests of its own)."
    pytest.importorskip("myst_nb", reason="the site needs the extra docs")
    out = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "tools/site/build.py", "--no-explorer", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def address(site):
    "Where it is served, on this machine alone."
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    found = [
        p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome") if Path(p).exists()
    ]
    if not found:
        pytest.skip("no Chromium: install it with apt-get install chromium")
    with sync.sync_playwright() as p:
        one = p.chromium.launch(executable_path=found[0], args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield one
        one.close()


def test_every_notebook_and_every_module_has_a_page(site):
    for notebook in (ROOT / "nbs").rglob("*.ipynb"):
        if ".ipynb_checkpoints" not in notebook.parts:
            assert (site / notebook.relative_to(ROOT).with_suffix(".html")).is_file(), notebook.name
    for module in ("lap.assign", "matching.match", "model.cards", "ground"):
        assert (site / "api" / f"{module}.html").is_file()
    page = (site / "api" / "matching.match.html").read_text()
    assert "cost at which a latent rather stays unmatched" in page, "notes beside parameters are shown"


def test_nothing_is_fetched_and_formulas_need_no_script(site, address, browser):
    page, elsewhere, said = browser.new_page(), [], []
    page.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((address, "data:")) else None)
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.goto(f"{address}/nbs/tutorials/01_the_idea.html")
    assert page.title().startswith("The idea") and (elsewhere, said) == ([], [])
    assert page.locator("math").count() > 5
    figure = page.locator(".cell_output img").first
    assert figure.evaluate("e => e.complete && e.naturalWidth > 100")


@pytest.mark.parametrize("width", (1280, 390), ids=("wide", "telephone"))
def test_it_fits_the_screen_and_follows_its_theme(address, browser, width):
    seen = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme)
        page.goto(f"{address}/nbs/matching/04_match.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        seen[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert seen["light"] != seen["dark"]


def test_search_finds_a_page(address, browser):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=superposition")
    page.wait_for_selector("#search-results a[href*='01_the_idea']", timeout=60_000)
