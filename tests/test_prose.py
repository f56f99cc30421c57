"""How lessons read: what each says at its start, how long sentences are, which words come before they are explained."""

import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).parents[1] / "nbs"
TUTORIALS, UNITS = sorted(NBS.glob("tutorials/*.ipynb")), sorted(NBS.glob("course/unit_*.ipynb"))
LESSONS = [*TUTORIALS, *UNITS]
WORDS = 30  # of a sentence; more are reported


def markdown(nb: Path) -> list[str]:
    "The cells of text of a notebook."
    return ["".join(c["source"]) for c in json.loads(nb.read_text())["cells"] if c["cell_type"] == "markdown"]


def prose(cell: str) -> str:
    "A cell without code, formulas in lines of their own, tags, headings and tables; links as their text."
    cell = re.sub(r"```.*?```|\$\$.*?\$\$|<[^>]+>", " ", cell, flags=re.S)
    cell = "\n".join(line for line in cell.splitlines() if not line.startswith(("|", "#")))
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell)


def sentences(text: str) -> list[str]:
    "The sentences of a text; what stands beside a colon or a semicolon counts for itself, a formula as a word."
    text = re.sub(r"\$[^$]*\$|`[^`]*`", "x", text)
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n|\n\s*(?:[-*>]|\d+\.)\s", text))
    return [s for block in blocks for s in re.split(r"(?<=[.!?])[*)]*\s+(?=[A-Z*\"(x])|(?<=[;:])\s", block) if s]


def length(sentence: str) -> int:
    return len(re.findall(r"[\w'’-]+", sentence))


def defined() -> list[str]:
    "The words that the glossary explains."
    first = [line.split("|")[1] for line in "\n".join(markdown(NBS / "glossary.ipynb")).splitlines() if "| **" in line]
    return [word for cell in first for word in re.findall(r"\*\*([^*]+)\*\*", cell)]


def test_sentences_are_counted():
    assert sentences("One two. Three: four *five*. (Six.)\n\n- seven\n- eight $a + b$ nine") == [
        "One two.",
        "Three:",
        "four *five*.",
        "(Six.)",
        "- seven",
        "eight x nine",
    ]
    assert length("It is the model's own loss, x nats.") == 8


@pytest.mark.parametrize("nb", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_says_what_it_gives_and_takes_and_explains_its_words(nb):
    first = markdown(nb)[0]
    time = r"\*\*Time:\*\* about \d+ min" if nb in UNITS else r"\*\*It takes\*\* (about )?\w+ minutes"
    for what in (r"\*\*You will", r"\*\*You need\*\*", time, r"\*\*Next:\*\* ", r"\]\(\.\./glossary\.ipynb\)"):
        assert re.search(what, first), f"{nb.stem} does not say {what}"


def test_long_sentences_are_few(record_property):
    counted = [(length(s), nb.stem, s) for nb in LESSONS for c in markdown(nb) for s in sentences(prose(c))]
    most, where, longest = max(counted)
    long = sum(n > WORDS for n, *_ in counted)
    record_property(f"sentences of lessons with more than {WORDS} words", f"{long} of {len(counted):,}")
    record_property("the longest of them", f"{most} words, {where}: {longest[:60]} ...")


def test_words_before_they_are_explained(record_property):
    "A word is explained where it stands in bold or italics for the first time; before, the glossary has to help."
    early, seen = [], {}
    for nb in TUTORIALS:
        text = "\n".join(map(prose, markdown(nb)))
        for word in set(defined()) - set(seen):
            plain = re.search(rf"\b{re.escape(word)}s?\b", text)
            if plain:
                marked = re.search(rf"\*{re.escape(word)}s?\*", text)
                seen[word] = nb.stem
                if not marked or marked.start() > plain.start():
                    early.append(f"{word} ({nb.stem[:2]})")
    assert len(seen) > 20, "the glossary has words that lessons use"
    record_property("words of the glossary first used in a lesson without emphasis", ", ".join(sorted(early)))
