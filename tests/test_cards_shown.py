"""Cards as people meet them: on the command line, by methods of matches and SAEs, and in a real browser."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import saematch
from saematch.ground import MARK
from saematch.model.card import Card, Context, FiresOn
from saematch.studies.cli import main

SUITE = "smollm2-135m-resid"


def said(capsys, *argv):
    code = main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def test_show_and_find(capsys):
    code, out, _ = said(capsys, "show", f"{SUITE}/14/1091")
    assert code == 0 and out.startswith(f"{SUITE}/14/1091") and "[[" in out and "promotes" in out
    code, out, _ = said(capsys, "show", f"{SUITE}/14/1091", "--with", "15/3")
    assert code == 0 and "active together" in out and " 15/3 " in out
    code, out, _ = said(capsys, "find", SUITE, "is be was", "--top", "6")
    assert code == 0 and "1091" in out and len(out.splitlines()) == 1 + 6 * 6


@pytest.mark.parametrize(
    "argv, message",
    [
        (["show", f"{SUITE}/14/2048"], "its latents are 0 to 2047"),
        (["show", f"{SUITE}/3/1"], "there are cards of [14, 15, 16, 17, 18, 19]"),
        (["show", "1091"], "names no latent"),
        (["show", f"{SUITE}/14/1", "--with", "nowhere"], "names no latent"),
        (["show", "no-such-suite/14/1"], "make them with: saematch cards no-such-suite"),
        (["find", SUITE, "zyzzyva"], "no latent of"),
        (["find", SUITE, " "], "nothing to find"),
    ],
)
def test_what_cannot_be_shown_is_said(capsys, argv, message):
    code, _, err = said(capsys, *argv)
    assert code == 2 and message in err


def test_methods_that_the_face_fills():
    suite = saematch.load_suite(SUITE)
    card = suite[14].card(1091)
    assert (card.layer, card.latent) == (14, 1091) and card.active > 100
    m = saematch.match(suite[14], suite[15], method="identity")
    pair = m.show(1091)
    assert [c.latent for c in pair.cards] == [1091, 1091] and "cosine of decoder rows" in pair.facts
    for a, b in pair.rows:
        assert a.tokens == b.tokens and (a.document, a.position) == (b.document, b.position)


def test_the_cards_of_the_package_are_small_and_of_its_weights():
    folder = saematch.model.cards.cards_folder(SUITE)
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 6e6
    assert all(MARK in p.read_bytes() for p in folder.glob("*.parquet")), "a file without a checksum"
    suite = saematch.load_suite(SUITE)
    for layer in suite:
        assert saematch.cards(suite, layer).header["weights"] == saematch.saes.suite.fingerprint(suite[layer])


def test_no_script_of_a_token_runs_in_a_browser(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
    act = "document.body.id='taken'"
    bad = [f"<script>{act}</script>", f'"><img src=x onerror="{act}">', "\u202eabc", "\x1b[31m", "</mark></bdi>", "🎉"]
    values = np.full(len(bad), 1.0, dtype=np.float32)
    card = replace(
        saematch.card(SUITE, 14, 1091),
        label=bad[0],
        suite=bad[1],
        contexts=[Context(bad, values, 0, 1, 0)],
        tokens=[FiresOn(t, 1, 0.5, 0.5) for t in bad],
        promoted=[(t, 1.0) for t in bad],
    )
    assert isinstance(card, Card)
    page = tmp_path / "card.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><title>card</title><body>{card._repr_html_()}</body>")
    how = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    seen = subprocess.run([browser, *how, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    assert seen.count("<mark") == len(bad) and "<title>card</title>" in seen
    assert 'id="taken"' not in seen and "<img" not in seen and "<script" not in seen


def test_a_card_draws_itself_as_soon_as_it_is_there():
    "In a process of its own: nothing but the public name has been imported."
    code = "from saematch import card; c = card('smollm2-135m-resid', 14, 1091); "
    code += "shown = c.text, c._repr_html_; print(*(show() for show in shown))"  # both before anything is shown
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.count("is, be, was") > 1 and "active on" in out and "<" in out


def test_a_pair_is_shown_with_its_p_value():
    from saematch.judging.calibrate import calibrate

    a, b = (saematch.load_suite(SUITE)[layer] for layer in (14, 15))
    c = calibrate(a, b, saematch.match(a, b, method="identity"), null=("pairs", "halves"))
    p = max(float(c.p("pairs")[1091]), float(c.p("halves")[1091]))
    assert c.show(1091).facts["p-value"] == f"{p:.3g}" and "p-value" not in c.given.show(1091).facts
    with pytest.raises(saematch.ground.UsageError, match="A has latents 0 to 2047"):
        c.show(4000)
