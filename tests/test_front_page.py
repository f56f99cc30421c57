"""What the first page promises: its commands are commands, its lines of Python run, its pages' code is Python."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import torch

import saematch
from saematch.studies.cli import COMMANDS, main, parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "nbs").rglob("*.ipynb"))]
PAGES = [p for p in PAGES if ".ipynb_checkpoints" not in p.parts]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def text(page: Path) -> str:
    "The text of a page, without its cells of code."
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def commands(page: Path) -> list[str]:
    "Commands of saematch in blocks of a page, and between back quotes where something follows the name of one."
    shell = [block for kind, block in BLOCK.findall(text(page)) if kind != "python"]
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    quoted = re.findall(r"`(saematch [^`\n]+)`", BLOCK.sub("", text(page)))
    found = [m[1] for line in lines if (m := re.search(r"(?:^|[ /])(saematch [a-z-].*)", line))]
    return [c.split(" #")[0].split(" > ")[0].strip() for c in (*found, *quoted)]


ALL = sorted({c for page in PAGES for c in commands(page) if "..." not in c and "…" not in c})


def test_commands_are_found():
    assert len(ALL) > 30 and {c.split()[1] for c in ALL} >= set(COMMANDS) - {"check"}


@pytest.mark.parametrize("command", ALL)
def test_a_command_that_is_shown_exists(command, capsys):
    name, *words = shlex.split(command)[1:]
    if name.startswith("-"):
        words, name = [name], None
    try:
        parser().parse_args(([] if name is None else [name]) + words)
    except SystemExit as e:
        said = capsys.readouterr().err
        only_named = "required" in said or "expected one argument" in said  # `saematch match` in a sentence
        assert e.code == 0 or only_named, said


def blocks() -> list:
    "Blocks of Python outside of cells."
    return [
        pytest.param(block, id=f"{page.stem}-{k}")
        for page in PAGES
        for k, (kind, block) in enumerate(BLOCK.findall(text(page)))
        if kind == "python"
    ]


@pytest.mark.parametrize("block", blocks())
def test_python_that_is_shown_is_python(block):
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saematch"):
            module = __import__(node.module, fromlist=["x"])
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def table() -> list[tuple[str, str]]:
    "(what you want, one line) of the table of the first page."
    part = text(ROOT / "README.md").split("## What do you want to do?")[1].split("\n## ")[0]
    rows = [[c.strip() for c in line.strip("| \n").split(" | ")] for line in part.splitlines() if line.startswith("| ")]
    return [(row[0], code) for row in rows[2:] for code in re.findall(r"`([^`]+)`", row[1])]


@pytest.fixture(scope="module")
def at_hand():
    "What a reader of the table has: two layers, their match, hidden states."
    from saematch.ground import notebook_data

    suite = saematch.load_suite("smollm2-135m-resid")
    a, b = (suite[layer].select(torch.arange(200)) for layer in (14, 15))
    m = saematch.match(suite[14], suite[15])
    x = torch.randn(40, a.d_model, generator=torch.Generator().manual_seed(0))
    kept = saematch.Lineages.load(notebook_data("lineages.safetensors"))
    return dict(suite=suite, a=a, b=b, m=m, x=x, y=x, kept=kept)


@pytest.mark.parametrize("want, code", [(w, c) for w, c in table() if not c.startswith(("saematch ", "--"))])
def test_a_line_of_the_table_is_python_of_names_that_are_there(want, code, at_hand):
    names = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)} - {"lm", "tokens", "sae", "fn", "pd"}
    for name in names - set(at_hand):
        assert hasattr(saematch, name), f"{want}: `from saematch import {name}` fails"


@pytest.mark.parametrize(
    "code",
    ["card(suite, 14, 1091)", "m.show(1091)", "lineages(suite).of(14, 1091)", "match(a, b, rows=fn)"]
    + ['compare({"mine": m}, a, b, x, y)', "calibrate(a, b)"],
)
def test_a_line_of_the_table_runs(code, at_hand):
    assert any(code in line for _, line in table())
    given = at_hand | dict(fn=lambda sae: sae.W_dec, lineages=lambda suite: at_hand["kept"])  # made beforehand
    if "compare" in code:
        given["m"] = saematch.match(given["a"], given["b"])
    found = eval(code, {k: getattr(saematch, k) for k in ("card", "match", "compare", "calibrate")} | given)
    assert found is not None


@pytest.mark.parametrize(
    "command", [c for c in commands(ROOT / "README.md") if c.split()[1] in ("show", "find", "trace")]
)
def test_a_command_of_the_first_page_runs(command, capsys):
    assert main(shlex.split(command)[1:]) == 0
    assert "is, be, was" in capsys.readouterr().out
