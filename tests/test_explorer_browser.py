"""The explorer in a real browser: what a person sees, clicks and copies. Skipped without Chromium and Playwright."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saematch.model.card import Context, FiresOn
from saematch.studies.page import asset, atlas, compressed, write_page
from saematch.studies.serve import atlas_server, explorer_server
from saematch.studies.toys import one_lineage, running, some_lineages, toy_card

EVIL = [
    "</script><script>document.title='evil'</script>",
    "<img src=x onerror=\"document.title='evil'\">",
    "‮right to left",
]


def lineages(n=120, seed=0):
    members, links = some_lineages((14, 15, 16, 17), n, 0.6, seed)
    members.loc[members.lineage == 0, "q"] = 0.05
    return members, links


def passing(links, members, rate):
    "Links of the lineages that pass, and how many lineages of the suite theirs stand for."
    of = members.groupby("lineage").first().loc[links.lineage]
    return float(of.get("weight", pd.Series(1.0, of.index))[of.q <= rate].sum())


def evil_card(layer, latent):
    "A card whose texts would like to be more than text."
    tokens = [" a", " b", EVIL[0], "\n", " c", EVIL[1], EVIL[2]]
    texts = [Context(tokens, np.array([0, 4.0, 1.0, 0, 2.0, 3.0, 0]), 0, 1, 1)]
    fires = [FiresOn(EVIL[0], 2, 0.5, 0.1)]
    return toy_card(layer, latent, label="", contexts=texts, tokens=fires, promoted=[(EVIL[1], 1.5)], largest=4.0)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install '.[dev]'")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium, from Debian's packages for example")
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield b
        b.close()


def toy_atlas(members, links, chance):
    "What the pages of these tests hold, but the cards."
    near = pd.DataFrame(dict(layer_a=[14], latent_a=[5], layer_b=[15], latent_b=[6], similarity=[0.5]))
    events = pd.DataFrame(dict(event=["split"], layer=[14], latent=[7], others=[[(15, 1), (15, 2)]]))
    more = dict(near=near, events=events, chance=chance, alone={14: 60})
    return atlas(members, links, title="toy", rate=0.05, **more)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    members, links = lineages()
    for k, label in enumerate(EVIL):
        members.loc[k, "label"] = label
    strange, drawn = lineages(seed=1)
    weight = np.random.default_rng(2).choice([0.5, 2.0, 3.25], strange.lineage.max() + 1)
    chance = strange.assign(weight=weight[strange.lineage]), drawn
    data = toy_atlas(members, links, chance)
    cards = {layer: [evil_card(layer, i) for i in range(120)] for layer in (14, 15)}
    return members, links, chance, write_page(data, tmp_path_factory.mktemp("page") / "toy.html", cards)


@pytest.fixture
def page(browser, toy):
    context = browser.new_context(viewport=dict(width=1280, height=900))
    page = context.new_page()
    page.trouble, page.asked = [], []
    page.on("console", lambda m: page.trouble.append(m.text))
    page.on("pageerror", lambda e: page.trouble.append(str(e)))
    page.on("request", lambda r: page.asked.append(r.url))
    page.goto(toy[-1].as_uri())
    page.wait_for_selector(".sx-card h3")
    yield page
    assert page.trouble == [] and len(page.asked) == 1, "no error on the console, no request but the file itself"
    assert page.title() == "toy", "no text of a label or a token has run"
    context.close()


def links_shown(page):
    page.wait_for_timeout(100)
    return int(re.search(r"([\d,]+) links", page.inner_text(".sx-count"))[1].replace(",", ""))


def slide(page, rate):
    page.evaluate(
        "rate => { const s = document.querySelector('.sx-rate'); s.value = rate; s.dispatchEvent(new Event('input')) }",
        str(rate),
    )
    return float(page.eval_on_selector(".sx-rate", "s => s.value"))


def test_every_view_opens_and_its_texts_stay_texts(page):
    assert page.locator(".sx-lanes .sx-mine").count() > 1 and page.locator(".sx-card").count() == 2
    marks = page.locator(".sx-card mark")
    assert marks.count() and re.fullmatch(r"activation [\d.]+", marks.first.get_attribute("title"))
    assert EVIL[0] in page.inner_text(".sx-cards") and page.locator(".sx img").count() == 0
    assert "‮" not in page.inner_text(".sx-cards"), "a character that turns the direction is shown, not obeyed"
    page.keyboard.press("2")
    page.wait_for_selector(".sx-table tbody td")
    page.keyboard.press("3")
    page.wait_for_selector(".sx-bars")
    page.keyboard.press("?")
    page.wait_for_selector(".sx-help")


def test_the_slider_counts_what_python_counts(page, toy):
    members, links, (strange, drawn), _ = toy
    assert links_shown(page) == len(links)
    for rate in (0.03, 0.01, 0):
        rate = slide(page, rate)
        assert links_shown(page) == passing(links, members, rate)
    rate = slide(page, 0.02)
    page.keyboard.press("c")
    assert links_shown(page) == round(passing(drawn, strange, rate)), "each lineage of strangers as often as it says"


def test_the_half_life_counts_those_that_are_alone_too(page, toy):
    members = toy[0]
    born = members[members.layer == 14].lineage
    last = members[members.lineage.isin(born)].groupby("lineage").layer.max() - 14
    alive = [len(born) + 60] + [int((last >= d).sum()) for d in (1, 2, 3)]
    half = alive[0] / 2
    d = next(d for d in (1, 2, 3) if alive[d] <= half)
    expected = d - 1 + (alive[d - 1] - half) / (alive[d - 1] - alive[d])
    page.keyboard.press("3")
    page.wait_for_selector(".sx-lead")
    assert f"still found after {expected:.1f} layers" in page.inner_text(".sx-lead")
    assert f"{len(members) + 60} latents" in page.inner_text(".sx-count")


def test_search_finds(page, toy):
    members = toy[0]
    page.keyboard.press("2")
    page.fill(".sx-least", "1")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("word17")
    page.wait_for_timeout(200)
    with_word = members[members.label.str.startswith("word17")].lineage.nunique()
    assert f"{with_word} lineages listed" in page.inner_text(".sx-count")
    page.fill(".sx-find", "16/33")
    page.keyboard.press("Escape")
    page.wait_for_timeout(200)
    assert "1 lineage listed" in page.inner_text(".sx-count") and page.input_value(".sx-find") == "16/33"
    page.fill(".sx-find", "nothing like it")
    page.wait_for_selector(".sx-empty")


def test_the_address_holds_the_state(page, browser):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    slide(page, 0.02)
    page.keyboard.press("p")
    page.wait_for_timeout(100)
    assert re.search(r"focus=\d+/\d+", page.url), "a latent stands in the address as people write it"
    text = page.inner_text(".sx")
    other = browser.new_page(viewport=dict(width=1280, height=900))
    other.goto(page.url)
    other.wait_for_selector(".sx-card h3")
    other.wait_for_timeout(200)
    assert other.inner_text(".sx") == text and "Pinned" in text
    other.close()
    page.go_back()
    page.wait_for_timeout(100)
    assert "Pinned" not in page.inner_text(".sx") and "view=list" in page.url
    page.go_forward()
    page.wait_for_timeout(100)
    assert page.inner_text(".sx") == text


def test_the_link_is_copied_and_the_page_says_so(page):
    "The clipboard is a stand-in: a real one belongs to whichever window of the machine has the focus."
    taken = "value => Object.defineProperty(navigator, 'clipboard', {value, configurable: true})"
    page.evaluate(f"({taken})({{writeText: async text => {{ window.taken = text }}}})")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.click("button:text-is('copy link')")
    page.locator(".sx-tabs [role=status]", has_text="is copied").wait_for(state="attached")
    assert page.evaluate("window.taken") == page.url and "view=list" in page.url
    page.keyboard.press("1")
    page.evaluate(f"({taken})(undefined)")  # as for a page of plain http
    page.evaluate("document.execCommand = () => false")
    page.keyboard.press("l")
    page.locator(".sx-tabs [role=status]", has_text="address bar").wait_for(state="attached")
    assert page.locator("textarea").count() == 0, "the field that was copied from is gone"


def test_tables_and_pictures_are_taken_along(page):
    with page.expect_download() as d:
        page.click("text=JSON")
    taken = json.loads(d.value.path().read_text())
    page.keyboard.press("2")
    page.wait_for_selector(".sx-table tbody td")
    with page.expect_download() as d:
        page.click("text=CSV")
    table = pd.read_csv(d.value.path())
    assert len(table) == len(taken["lineages"]) and (table.length >= 2).all()
    assert table.members.str.split().str.len().equals(table.length)
    page.keyboard.press("1")
    for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as d:
            page.click(f"button:text-is('{kind}')")
        assert d.value.path().read_bytes().startswith(begins)


def test_it_can_be_read_on_a_telephone_and_in_the_dark(page):
    page.set_viewport_size(dict(width=390, height=800))
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out of the page"
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.querySelector('.sx')))")
    light = lambda c: sum(int(v) for v in re.findall(r"\d+", c)[:3])
    assert light(ink) > 600 > 150 > light(paper)
    page.keyboard.press("2")
    page.wait_for_selector(".sx-table tbody td button")
    wide = page.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.sx-view-list'))")
    assert wide[0] <= wide[1], "the list loses columns and is not cut off"
    page.keyboard.press("3")
    page.wait_for_selector(".sx-bars")
    shown = "[...document.querySelectorAll('.sx-small td')].every(e => getComputedStyle(e).display !== 'none')"
    assert page.evaluate(shown), "the summary keeps all layers"


AXE = Path(__file__).parents[1] / "explorer" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (820, "dark"), (390, "light"), (390, "dark")])
def test_an_audit_of_accessibility_finds_nothing_serious(page, width, scheme):
    if not AXE.is_file():
        pytest.skip("needs axe-core in explorer/node_modules: cd explorer && npm ci")
    page.set_viewport_size(dict(width=width, height=800))
    page.emulate_media(color_scheme=scheme)
    page.evaluate(AXE.read_text())
    for keys in ("1", "2", "3", "1?", "1c"):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(200)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, f"view {keys}, {width} px, {scheme}"


def test_what_comes_near_and_what_splits_is_drawn(page):
    page.fill(".sx-find", "14/5")
    page.keyboard.press("Escape")
    page.evaluate("location.hash = 'focus=14/5'")
    page.wait_for_selector("path.sx-other")
    assert "14/5 and 15/6: similarity 0.50" in page.text_content("path.sx-other title")
    page.evaluate("location.hash = 'focus=14/7'")
    page.wait_for_selector(".sx-node[aria-pressed=true][aria-label*='latent 7,']")
    assert page.locator(".sx-glyph", has_text="≺").count() == 1 and page.locator("path.sx-other").count() == 2
    page.evaluate("location.hash = 'view=list&event=split&least=1'")
    page.wait_for_timeout(200)
    assert "1 lineage listed" in page.inner_text(".sx-count")


def test_a_damaged_page_says_so(browser, toy, tmp_path):
    text = toy[-1].read_text()
    at = text.index('id="atlas">') + 40
    broken = tmp_path / "broken.html"
    broken.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    page = browser.new_page()
    page.goto(broken.as_uri())
    page.wait_for_selector("[role=alert]")
    assert "This file is damaged" in page.inner_text("[role=alert]")
    page.close()


STATES = [
    "view=lanes",
    "view=lanes&focus=14/5",
    "view=lanes&focus=14/7&rate=0.03",
    "view=lanes&chance=1&rate=0.02",
    "view=lanes&focus=99/1",
    "view=list&least=1&sort=label&down=0",
    "view=list&least=1&sort=weakest&down=1&find=word1",
    "view=list&sort=q&down=0&find=layer 15 is",
    "view=list&least=1&event=split",
    "view=list&least=1&find=16/33&pins=14/5,99/9",
    "view=list&sort=first&down=1&event=gap&rate=0.02",
    "view=summary",
    "view=summary&rate=0.01",
]


def states_of(page, at):
    "Text and drawing of the page at each state."
    page.goto(at)
    page.wait_for_selector(".sx-card h2")
    said = []
    for state in STATES:
        page.evaluate("state => { location.hash = state }", state)
        page.wait_for_timeout(200)
        page.wait_for_selector(".sx-main[aria-busy=false]")
        page.wait_for_selector(".sx-card[aria-busy]", state="detached")
        drawn = page.inner_html(".sx-main")
        said.append((page.inner_text(".sx"), re.sub(r'<!--.*?-->| data-member="\d+"', "", drawn)))
    return said


def test_a_server_shows_what_a_file_shows(browser, toy, tmp_path):
    data = toy_atlas(*toy[:3])
    file, served = (browser.new_page(viewport=dict(width=1280, height=900)) for _ in range(2))
    with running(atlas_server(data, None, 0)) as at:
        said = [states_of(file, write_page(data, tmp_path / "toy.html").as_uri()), states_of(served, at)]
    for state, one, other in zip(STATES, *said, strict=True):
        assert one == other, state
    file.close(), served.close()


def test_a_served_page_reads_cards_when_they_are_opened(browser):
    read = {4: {i: evil_card(4, i) for i in range(2)}}
    page, asked, trouble = browser.new_page(), [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: trouble.append(str(e)))
    with running(explorer_server(one_lineage(), read, 0)) as at:
        page.goto(at)
        page.wait_for_selector(".sx-card h3")
        assert EVIL[0] in page.inner_text(".sx-cards") and page.title() == "toy"
        assert "holds no card" in page.inner_text(".sx-cards"), "layer 5 has none"
        cards = [u for u in asked if "/cards/" in u]
        assert all(u.startswith(at) for u in asked) and sorted(cards) == [
            f"{at}/cards/0/0.json",
            f"{at}/cards/1/1.json",
        ]
        assert trouble == []
    page.close()


def test_a_widget_tells_what_is_selected(browser, tmp_path):
    members, links = lineages(n=10)
    data = compressed(atlas(members, links, title="toy", rate=0.05))
    page = browser.new_page()
    (tmp_path / "empty.html").write_text("<!doctype html><title>w</title><div id=here></div>")
    page.goto((tmp_path / "empty.html").as_uri())
    page.evaluate(
        """async ([js, data]) => {
          const m = await import(URL.createObjectURL(new Blob([js], {type: 'text/javascript'})));
          window.told = {};
          const set = (k, v) => { window.told[k] = v };
          const model = {get: k => ({atlas: data, cards: {}})[k], set, save_changes() {}};
          await m.default.render({model, el: document.getElementById('here')});
        }""",
        [asset("explorer.js"), data],
    )
    page.wait_for_selector(".sx-count")
    assert page.locator("text=copy link").count() == 0, "a notebook has no address of its own"
    page.keyboard.press("Tab")
    page.click("button:text-is('List')")
    page.wait_for_selector(".sx-table td button")
    page.click(".sx-table td button")
    page.wait_for_timeout(200)
    told = page.evaluate("window.told.selected")
    assert told["latent"] in told["members"] and "#" not in page.url
    k = told["lineage"]
    at = members.sort_values(["lineage", "layer"]).groupby("lineage")
    expected = [[r.layer, r.latent] for r in list(at)[k][1].itertuples()]
    assert told["members"] == expected
    page.close()


def test_the_page_is_built_from_its_source(tmp_path):
    source = Path(__file__).parents[1] / "explorer"
    if not (source / "node_modules").is_dir() or not shutil.which("node"):
        pytest.skip("needs Node and explorer/node_modules: cd explorer && npm ci")
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=source, check=True)
    for name in ("explorer.js", "explorer.css"):
        assert (tmp_path / name).read_text() == asset(name), f"{name} is not built from its source: npm run build"
