# Written from nbs/studies/16_lives.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.lives import (
    deciding,
    lineages_in,
    lineages_of,
    cards_of,
    name_of,
    lived,
    traced,
    lives_page,
)


import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.judging.depth import lineages
from saematch.matching.lineage import Lineages
from saematch.saes.suite import fingerprint, load_suite
from saematch.saes.toys import planted_suite, random_sae


def test_lineages_are_found_once():
    toy = planted_suite(random_sae(24, 120, seed=1), layers=3, width=60, noise=0.3, seed=2).suite
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        path, layers = Path(folder) / "lineages.safetensors", list(toy)
        t = lineages_in(path, toy, layers)
        written = path.stat().st_mtime_ns
        again = lineages_in(path, toy, layers)
        assert path.stat().st_mtime_ns == written and again.members.equal(t.members) and not said, "used again"
        assert lineages_in(path, toy, layers, q=0.2).info["options"]["q"] == 0.2
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        assert lineages_in(path, toy, layers, q=0.2).objective > 0
        assert lineages_in(path, toy, layers[:2], q=0.2).layers == (0, 1)
        replace(t, info={**t.info, "code": "another"}).save(path)
        assert lineages_in(path, toy, layers).info["code"] == deciding()
        lineages(toy, loose=0.2).save(path)
        lineages_in(path, toy, layers)
        whys = [str(w.message).partition(".safetensors ")[2] for w in said]
    print("\n".join(whys))
    assert [w.partition(";")[0] for w in whys] == [
        "was made with other options (q)",
        "is damaged",
        "is of other weights",
        "was made by another version of the code",
        "was made with other options (loose)",
    ]


def test_lineages_come_from_a_run_a_file_or_a_suite():
    toy = planted_suite(random_sae(24, 120, seed=1), layers=3, width=60, noise=0.3, seed=2).suite
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "my-run"
        run.mkdir(), (run / "run.json").write_text("{}")
        with expect_fail(UsageError, "has no lineages; make them with: saematch run --out"):
            lineages_of(run)
        t = lineages_in(run / "lineages.safetensors", toy, list(toy))
        assert lineages_of(run).members.equal(t.members) and lineages_of(run / "lineages.safetensors").gain.equal(t.gain)
        file = run / "lineages.safetensors"
        raw = bytearray(file.read_bytes())
        raw[-9] ^= 1
        file.write_bytes(raw)
        with expect_fail(ValueError, "make them with: saematch run --out"):
            lineages_of(run)
        with expect_fail(UsageError, "no-such-suite"):
            lineages_of("no-such-suite")


def test_a_name_needs_more_than_half_of_the_labels():
    assert name_of(["is, be, was", "be, is", "unclear"]) == "is, be"
    assert name_of(["is, be", "not", "unclear", ""]) == "unclear" and name_of([]) == "unclear"
    assert name_of(["a, b, c, d"], 2) == "a, b"


def test_the_sentence_follows_the_lineages():
    toy = planted_suite(random_sae(24, 120, seed=1), layers=3, width=60, noise=0.3, seed=2).suite
    t = lineages(toy)
    said = lived(t)[0]
    inside = t.frame().query("length > 1")
    assert f"{len(inside)} of 180 latents" in said and f"{inside.lineage.nunique()} lineages of two layers or more" in said
    assert f"{(t.lengths == 3).sum()} go through all 3 layers (strangers:" in said
    assert "(strangers:" in lived(t)[1] and "split into two of the next layer" in lived(t)[2]
    print("\n".join(lived(t)))


def test_a_trace_names_members_links_and_chance():
    toy = planted_suite(random_sae(24, 120, seed=1), layers=3, width=60, noise=0.3, seed=2).suite
    t = lineages(toy)
    links = t.links()
    first = links.iloc[0]
    text = traced(t, int(first.layer_a), int(first.latent_a))
    members = t.frame().query("lineage == @first.lineage")
    assert all(f"{m.layer:6} {m.latent:7}" in text for m in members.itertuples()) and f"{first.similarity:.2f}" in text
    assert "strangers have" in text and f"{len(members)} of 3 layers" in text
    alone = t.frame().query("length == 1").iloc[0]
    assert "is alone" in traced(t, int(alone.layer), int(alone.latent))
    with expect_fail(KeyError, "layer 1 has no latent"):
        traced(t, 1, 60)
    print(text)


def test_cards_and_lineages_must_agree():
    toy = planted_suite(random_sae(24, 120, seed=1), layers=3, width=60, noise=0.3, seed=2).suite
    t = lineages(toy)
    with expect_fail(UsageError, "no cards of SAEs; make them with: saematch cards SAEs"):
        cards_of(t)
    other = Lineages(
        t.members, (14, 15, 16), t.widths, t.gain, t.link, t.p_link, t.p, {**t.info, "name": "smollm2-135m-resid"}
    )
    with expect_fail(UsageError, "layer 14, were made from other weights than its lineages"):
        cards_of(other)
    page = lives_page(t, {}, "no cards")
    assert page["why"] == "no cards" and len(page["best"]) == 5 and "<svg" in page["best"][0]["drawing"]
