"""Lineages on a terminal and as a page: `saematch trace`, `saematch explore`, `Lineages.explore`, the report."""

import re

import pytest
import torch

import saematch
from saematch import load_suite
from saematch.matching.lineage import Lineages
from saematch.saes.suite import fingerprint
from saematch.studies.cli import main
from saematch.studies.lives import best_lineages, cards_of, lived, lives_page, name_of, steps_of, summarised

SUITE = "smollm2-135m-resid"
LAYERS = (14, 15, 16)


@pytest.fixture(scope="module")
def t():
    "Lineages of three layers by mutual nearest neighbours: quick, and good enough to be shown."
    suite = load_suite(SUITE)
    rows = [torch.nn.functional.normalize(suite[l].W_dec, dim=1) for l in LAYERS]
    n, members, link = len(rows[0]), [], []
    steps = [(x @ y.T).max(1) for x, y in zip(rows, rows[1:])]
    back = [(y @ x.T).max(1).indices for x, y in zip(rows, rows[1:])]
    takes = [
        torch.where((b[s.indices] == torch.arange(n)) & (s.values > 0.7), s.indices, -1) for s, b in zip(steps, back)
    ]
    taken = [set(), set(takes[0][takes[0] >= 0].tolist()), set(takes[1][takes[1] >= 0].tolist())]
    for x in range(3):
        for i in range(n):
            if i not in taken[x]:
                row, at = [-1] * 3, i
                for y in range(x, 3):
                    row[y] = at
                    at = int(takes[y][at]) if y < 2 else -1
                    if at < 0:
                        break
                members.append(row)
    members = torch.tensor(members)
    link = torch.full(members.shape, float("nan"), dtype=torch.float64)
    for x in range(2):
        both = (members[:, x] >= 0) & (members[:, x + 1] >= 0)
        link[both, x] = steps[x].values[members[both, x]].double()
    several = (members >= 0).sum(1) > 1
    p = torch.where(several, 1e-3, float("nan")).double()
    p_link = torch.where(link.isnan(), float("nan"), 1e-3).double()
    info = dict(
        name=SUITE,
        objective=1.0,
        bound=2.0,
        thresholds={"1": 0.5},
        options=dict(q=0.05),
        fingerprints=[fingerprint(suite[l]) for l in LAYERS],
        nulls=dict(lineages={"2": float(((members >= 0).sum(1) == 2).sum()), "3": 7.0}, parts={"2": 3.0, "3": 0.0}),
    )
    return Lineages(members, LAYERS, (n,) * 3, link.nansum(1), link, p_link, p, info, {}, 10 * p_link, 10 * p)


@pytest.fixture
def run(t, tmp_path):
    "The folder of a run, as far as lineages go."
    folder = tmp_path / "my-run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    t.save(folder / "lineages.safetensors")
    return folder


def test_a_trace_on_the_terminal(run, t, capsys):
    first = steps_of(t, best_lineages(t)[0])
    assert main(["trace", f"{run}/14/{first[14]}"]) == 0
    said = capsys.readouterr().out
    card = saematch.card(SUITE, 14, first[14])
    assert f"{run}" not in said and f"{SUITE}/14/{first[14]}" in said and "p = 0.001" in said
    assert all(re.search(rf"^ *{l} +{i} ", said, re.M) for l, i in first.items())
    assert card.label in said and f"{card.frequency:.2%}" in said
    assert "Lineages of 3 layers:" in said and "strangers have 0" in said


@pytest.mark.parametrize(
    "latent, complaint",
    [
        ("14/99999", "has no latent 99999"),
        ("20/3", "unknown layer of these lineages"),
        ("14", "names no latent"),
        ("14/x", "names no latent"),
    ],
)
def test_a_trace_of_nothing(run, latent, complaint, capsys):
    assert main(["trace", f"{run}/{latent}"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_run_without_lineages_or_with_damaged_ones(run, capsys):
    file = run / "lineages.safetensors"
    raw = file.read_bytes()
    file.write_bytes(raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:])
    assert main(["trace", f"{run}/14/3"]) == 1
    said = capsys.readouterr().err
    assert "damaged" in said and "saematch run --out" in said
    file.unlink()
    assert main(["explore", f"{run}"]) == 2
    assert "has no lineages; make them with: saematch run --out" in capsys.readouterr().err
    assert main(["explore", f"{run}-not"]) == 2
    assert "my-run-not" in capsys.readouterr().err


def test_the_page_lies_in_the_run_and_holds_cards(run, t, capsys, monkeypatch):
    assert main(["explore", f"{run}"]) == 0
    page = (run / "explorer.html").read_text()
    said = capsys.readouterr().out
    assert all(f'id="cards-{x}"' in page for x in range(3)) and str(run / "explorer.html") in said
    assert "latents that are alone are counted in the flows and not shown" in said, "what the page leaves out"
    monkeypatch.chdir(run.parent)
    run.rename(run.parent / "saematch-out")
    assert main(["explore", "--out", "mine.html"]) == 0, "saematch-out is what is meant if nothing is said"
    assert (run.parent / "mine.html").read_text() == page
    assert main(["explore", "--out", "mine.txt"]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert saematch.Lineages is Lineages and t.explore("method.html").read_text() == page


def test_a_server_says_what_it_leaves_out(run, t, capsys, monkeypatch):
    monkeypatch.setattr("saematch.studies.serve.serve", lambda server: server.server_close())
    assert main(["explore", f"{run}", "--serve", "--port", "0"]) == 0
    said, alone = capsys.readouterr().out, int((t.lengths == 1).sum())
    left = int(re.search(r"^([\d,]+) latents that are alone", said, re.M)[1].replace(",", ""))
    assert f"{len(t.links()):,} links" in said and 0 < left <= alone


def test_cards_that_are_not_there(t, run, capsys, tmp_path):
    named = {**t.info, "name": str(tmp_path / "no-suite")}
    other = Lineages(t.members, t.layers, t.widths, t.gain, t.link, t.p_link, t.p, named, {}, t.q_link, t.q)
    other.save(run / "lineages.safetensors")
    assert main(["explore", f"{run}"]) == 2
    assert "make them with: saematch cards" in capsys.readouterr().err
    assert main(["trace", f"{run}/14/3"]) == 0
    assert "Without labels: no cards of" in capsys.readouterr().out


def test_the_report_marks_tokens_and_names_lineages(t):
    cards = cards_of(t)
    page = lives_page(t, cards)
    assert len(page["best"]) == 5 and page["through"] and page["why"] == ""
    for one, k in zip(page["best"], best_lineages(t)):
        steps = steps_of(t, k)
        assert one["name"] == name_of([cards[l][i].label for l, i in steps.items()])
        assert len(one["cards"]) == 3 and all(re.search(r'<mark[^>]* title="[\d.e+-]+"', c) for c in one["cards"])
        assert one["drawing"].startswith("<svg") and " → ".join(f"{l}/{i}" for l, i in steps.items()) in one["title"]
    best = [t.gain[k] for k in best_lineages(t)]
    assert best == sorted(best, reverse=True), "p-values are all the same here"
    short = summarised(t, cards)
    assert [b["name"] for b in short["best"]] == [one["name"] for one in page["best"]]
    inside = t.frame().query("length > 1")
    assert f"{len(inside):,} of {len(t.frame()):,} latents" in lived(t)[0] and "(strangers: 3)" in lived(t)[0]
