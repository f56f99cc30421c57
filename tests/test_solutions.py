"""The folded solutions of exercises: their code runs after the notebook, and says what the text around it says."""

import re
from functools import lru_cache
from pathlib import Path

import matplotlib
import nbformat
import pytest

NBS = Path(__file__).parents[1] / "nbs"
FOLDED, CODE = re.compile(r"<details>(.*?)</details>", re.S), re.compile(r"```python\n(.*?)```", re.S)


def solutions(path: Path) -> list[str]:
    "The code of the folded solutions of a notebook."
    cells = nbformat.read(path, 4).cells
    return [
        c
        for cell in cells
        if cell.cell_type == "markdown"
        for f in FOLDED.findall(cell.source)
        for c in CODE.findall(f)
    ]


WITH = sorted(p.relative_to(NBS).with_suffix("").as_posix() for p in NBS.glob("*/*.ipynb") if solutions(p))


@lru_cache
def solved(name: str) -> dict:
    "The names of a notebook after its cells and its solutions."
    path = NBS / f"{name}.ipynb"
    flagged = lambda source: any(source.startswith(f"#| {k}") for k in ("lm", "gpu", "slow", "exports"))
    code = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code" and not flagged(c.source)]
    names = {}
    for source in (*code, *solutions(path)):
        exec(compile(source, str(path), "exec"), names)
    return names


@pytest.mark.parametrize("name", WITH)
def test_solutions_run(name, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir((NBS / name).parent)
    assert solved(name)


def test_first_match_says_what_its_solutions_find(monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(NBS / "tutorials")
    names = solved("tutorials/04_first_match")
    assert {"mr", "mrs", "miss"} <= set(names["card_a"][names["first"]].label.split(", "))
    assert names["pairs"].level[names["first"]] == 3
    assert names["changed"].iloc[0] < 0.5 < names["changed"].iloc[-1] and names["agree"] == 1
    assert {"not", "never", "no"} & set(names["table"].label[0].split(", ")) and len(names["trail"]) == 5
