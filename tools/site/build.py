"""Build the site: all notebooks as committed, the reference of all modules, the explorer of the embedded suite.

python tools/site/build.py [--out _site] [--no-explorer]

No notebook is executed. A warning is an error: a link that leads nowhere, a heading out of order, an unknown format.
"""

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTINGS = ConfigParser(delimiters=["="], interpolation=None)
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]
FLOORS = {
    "tutorials": "Tutorials",
    "course": "Course",
    "ground": "Ground",
    "lap": "The solver",
    "saes": "Autoencoders",
    "matching": "Matching",
    "model": "The language model",
    "judging": "Judging",
    "studies": "Studies",
    "making": "How the data were made",
}
PAGES = [
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "benchmarks/README.md",
    "nbs/data/README.md",
    "tests/README.md",
]


def notebooks() -> list[Path]:
    "All notebooks, relative to the root."
    found = sorted((ROOT / "nbs").rglob("*.ipynb"))
    return [p.relative_to(ROOT) for p in found if not any(part[0] in "._" for part in p.relative_to(ROOT).parts)]


def directives(source: str) -> set[str]:
    "Which nbdev directives a cell has: export, test, setup, hide, ..."
    return set(re.findall(r"^#\|\s*(\w+)", source, flags=re.M))


def is_import(code: str) -> bool:
    "Does a cell only import?"
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith((" ", ")", "#"))]
    return bool(lines) and all(line.startswith(("import ", "from ")) for line in lines)


def cells_shown(cells: list[dict]) -> list[dict]:
    "Cells as a reader of the site sees them: without directives, cells that only import folded into one."
    out = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            folded, source = directives(source), re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
            if not source or "hide" in folded:
                continue
            if is_import(source) and out and out[-1].get("imports"):
                out[-1]["source"] += "\n" + source
                continue
            if is_import(source) or "setup" in folded:
                prompt = dict(code_prompt_show="Show imports" if is_import(source) else "Show the set-up of the tests")
                cell = {**cell, "metadata": dict(tags=["hide-input"], mystnb=prompt), "imports": is_import(source)}
        out.append({**cell, "source": source})
    return [{k: v for k, v in cell.items() if k != "imports"} for cell in out]


def one_title(cells: list[dict]) -> None:
    "A page has one title: if later cells have more, all headings after the first cell move down a level."
    rest = [c for c in cells[1:] if c["cell_type"] == "markdown"]
    if any(re.search(r"^# ", c["source"], flags=re.M) for c in rest):
        for c in rest:
            c["source"] = re.sub(r"^(#+ )", r"#\1", c["source"], flags=re.M)


def place_notebook(path: Path, stage: Path) -> None:
    "A notebook on the stage."
    nb = json.loads((ROOT / path).read_text(encoding="utf-8"))
    nb["cells"] = cells_shown(nb["cells"])
    one_title(nb["cells"])
    if path.as_posix() == "nbs/index.ipynb":
        nb["cells"].append(dict(cell_type="markdown", id="contents", metadata={}, source=contents()))
    (stage / path).parent.mkdir(parents=True, exist_ok=True)
    (stage / path).write_text(json.dumps(nb), encoding="utf-8")


def tree(caption: str, entries: list[str]) -> str:
    "A part of the table of contents."
    lines = "\n".join(entries)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: 1\n\n{lines}\n```\n"


def contents() -> str:
    "The table of contents, by floors."
    floors = {}
    rooms_last = lambda p: (p.parts[:-1], p.parts[1] == "course" and p.name[0].isdigit(), p.name)
    for path in sorted(notebooks(), key=rooms_last):  # units of the course before the rooms that check them
        if path.name != "index.ipynb":
            floor = path.parts[1] if len(path.parts) > 2 else "tutorials" if path.stem == "glossary" else "ground"
            floors.setdefault(floor, []).append("/" + path.with_suffix("").as_posix())
    out = [tree(FLOORS[floor], floors[floor]) for floor in FLOORS if floor in floors]
    out.append(tree("Reference", ["/api/index"]))
    pages = [p.removesuffix(".md") for p in PAGES if p.endswith(".md")] + suites()
    return "\n".join([*out, tree("More", [f"/{p}" for p in pages])])


def suites() -> list[str]:
    "The model cards of the embedded suites."
    return [
        p.relative_to(ROOT).with_suffix("").as_posix() for p in sorted((ROOT / "saematch/suites").glob("*/README.md"))
    ]


def annotation(kind) -> str:
    "A type as it is written."
    if kind in (inspect.Parameter.empty, None):
        return ""
    text = kind.__name__ if isinstance(kind, type) and hasattr(kind, "__name__") else str(kind)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text).replace("jaxFloat", "Float")


def without_places(text: str) -> str:
    "A text without places in memory, which are other ones each time."
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def cell_of(text) -> str:
    "A text in a cell of a table."
    return " ".join(without_places(str(text or "")).split()).replace("|", "\\|").replace("<", "&lt;")


def notes_of(thing) -> dict:
    "The parameters of a function, or the fields of a class, with their types, defaults and notes."
    from dataclasses import is_dataclass

    from fastcore.docments import docments

    call = thing if is_dataclass(thing) or not inspect.isclass(thing) else thing.__init__
    try:
        return {k: v for k, v in docments(call, full=True).items() if k not in ("self", "args", "kwargs")}
    except Exception:  # no source: a constant, or made at run time
        return {}


def methods_of(thing: type) -> list[str]:
    "Rows of a table: the public methods of a class, also those that other notebooks add, and what they do."
    known = {k: v for k, v in vars(thing).items() if k[0] != "_" and callable(getattr(v, "__func__", v))}
    said = {k: (inspect.getdoc(v) or "").partition("\n\n")[0] for k, v in known.items() if not inspect.isclass(v)}
    given = lambda k: ", ".join(p for p in inspect.signature(getattr(thing, k)).parameters if p != "self")
    return [f"| `{k}({given(k)})` | {cell_of(doc)} |" for k, doc in said.items()]


def entry(name: str, thing) -> str:
    "One public name: signature, docstring, and a table of its parameters with the notes that stand beside them."
    lines = [f"## {name}", ""]
    if not callable(thing):
        return "\n".join([*lines, f"```python\n{name} = {without_places(str(thing))[:400]}\n```"]) + "\n"
    notes, kind = notes_of(thing), "class" if inspect.isclass(thing) else "def"
    parameters = ", ".join(k for k in notes if k != "return")
    lines += [f"```python\n{kind} {name}({parameters})\n```", "", f"```text\n{inspect.getdoc(thing) or ''}\n```", ""]
    default = lambda v: "" if v.default is inspect.Parameter.empty else repr(v.default)
    rows = [
        f"| `{k}` | " + " | ".join(map(cell_of, (annotation(v.anno), default(v), v.docment))) + " |"
        for k, v in notes.items()
        if v.docment or k != "return"
    ]
    if rows:
        lines += ["| parameter | type | default | what it is |", "| --- | --- | --- | --- |", *rows, ""]
    if inspect.isclass(thing) and (methods := methods_of(thing)):
        lines += ["| method | what it does |", "| --- | --- |", *methods, ""]
    return "\n".join(lines)


def module_page(path: Path) -> tuple[str, str] | None:
    "(module, page) of a notebook that exports one."
    nb = json.loads((ROOT / path).read_text(encoding="utf-8"))
    sources = ["".join(c["source"]) for c in nb["cells"]]
    found = re.search(r"^#\| default_exp (\S+)", "\n".join(sources), flags=re.M)
    if not found:
        return None
    module = importlib.import_module(f"saematch.{found[1]}")
    title, subtitle = re.match(r"# (.+)\n+> (.+)", sources[0]).groups()
    names = [entry(name, getattr(module, name)) for name in module.__all__ if hasattr(module, name)]
    head = f"# saematch.{found[1]}\n\n{subtitle}. Explained in [{title}](/{path.as_posix()}).\n"
    return found[1], "\n".join([head, *names])


def reference(stage: Path) -> None:
    "A page for each module, and one that lists them."
    pages = dict(p for p in map(module_page, notebooks()) if p)
    (stage / "api").mkdir()
    for module, text in pages.items():
        (stage / "api" / f"{module}.md").write_text(text, encoding="utf-8")
    listed = "\n".join(f"- [`saematch.{m}`]({m}.md)" for m in pages)
    inner = "```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"
    head = "# Reference\n\nEvery public name of every module, with the notes that stand beside its parameters.\n\n"
    (stage / "api" / "index.md").write_text(head + listed + "\n\n" + inner, encoding="utf-8")


def links_out(text: str, page: Path, stage: Path) -> str:
    "Links of a page to files that the site does not hold lead to the repository."

    def target(m: re.Match) -> str:
        path = (ROOT / page.parent / m[1]).resolve()
        if not path.exists() or (stage / path.relative_to(ROOT)).is_file():
            return m[0]
        return f"]({SETTINGS['git_url']}/blob/{SETTINGS['branch']}/{path.relative_to(ROOT).as_posix()})"

    return re.sub(r"\]\((?!https?:|#)([^)#\s]+)\)", target, text)


def place(stage: Path) -> None:
    "Everything that Sphinx reads."
    for path in notebooks():
        place_notebook(path, stage)
    for page in [
        *PAGES,
        *(f"{p}.md" for p in suites()),
        *(str(p.relative_to(ROOT)) for p in (ROOT / "nbs").rglob("*.py")),
    ]:
        (stage / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, stage / page)
    for page in stage.rglob("*.md"):
        page.write_text(links_out(page.read_text(encoding="utf-8"), page.relative_to(stage), stage), encoding="utf-8")
    reference(stage)


def explorer(out: Path) -> None:
    "The explorer of the embedded suite, as a page of the site."
    from saematch import cards, lineages, load_suite
    from saematch.studies.explorer import explore

    suite = load_suite("smollm2-135m-resid")
    explore(lineages(suite), out / "explorer.html", {layer: cards(suite, layer) for layer in suite})


def build(out: Path, with_explorer: bool = True) -> int:
    "The site in the folder `out`; the number of Sphinx's status."
    from sphinx.cmd.build import main as sphinx

    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        place(stage)
        shutil.rmtree(out, ignore_errors=True)
        options = [
            "-b",
            "html",
            "-c",
            str(Path(__file__).parent),
            "-W",
            "--keep-going",
            "-q",
            "-j",
            str(min(4, os.cpu_count() or 1)),
            "-d",
            str(stage / "_doctrees"),
        ]
        status = sphinx([*options, str(stage), str(out)])
    (out / "index.html").write_text('<!doctype html><meta http-equiv="refresh" content="0; url=nbs/index.html">\n')
    if with_explorer and status == 0:
        explorer(out)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_site", help="folder, replaced (default: _site)")
    parser.add_argument("--no-explorer", action="store_true", help="without the explorer page")
    args = parser.parse_args()
    return build(args.out, not args.no_explorer)


if __name__ == "__main__":
    sys.exit(main())
