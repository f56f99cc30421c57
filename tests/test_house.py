"""The house rules: what is generated is what notebooks say, floors import downwards, notebooks run and read well."""

import ast
import filecmp
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import notebooks
import pytest
import yaml

import saematch

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("", "lap", "saes", "matching", "model", "judging", "studies", "making", "course")  # from the ground up
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = [nb for floor in FLOORS for nb in sorted((ROOT / "nbs" / floor).glob("[0-9]*.ipynb"))]


def cells(nb, kind=None):
    return [c for c in json.loads(nb.read_text())["cells"] if kind in (None, c["cell_type"])]


def source(cell):
    return "".join(cell["source"])


def module_of(nb):
    found = [m[1] for c in cells(nb, "code") if (m := re.match(r"#\| default_exp ([\w.]+)", source(c)))]
    assert len(found) == 1, f"{nb.name} must name its module once"
    return found[0]


@pytest.mark.notebook
@pytest.mark.parametrize("nb", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_the_notebook_runs_from_top_to_bottom(nb, tmp_path):
    said = tmp_path / "said.txt"
    assert notebooks.run(nb, said) == 0, said.read_text()[-3000:]


@pytest.mark.parametrize(
    "cell, code",
    [("assert 1 == 1", 0), ("assert 1 == 2", 1), ("#| slow\nassert 1 == 2", 0), ("raise SystemExit(0)", 1)],
)
def test_a_notebook_that_fails_is_noticed(tmp_path, cell, code):
    nb, said = tmp_path / "nb.ipynb", tmp_path / "said.txt"
    nb.write_text((ROOT / "nbs" / "00_ground.ipynb").read_text())
    content = json.loads(nb.read_text())
    content["cells"] = [dict(cell_type="code", id="a", metadata={}, outputs=[], execution_count=None, source=cell)]
    nb.write_text(json.dumps(content))
    assert notebooks.run(nb, said) == code
    assert code == 0 or "Error" in said.read_text() or "SystemExit" in said.read_text()


@pytest.mark.parametrize(
    "cells, left_out",
    [
        (["#| export\na = 1", "#| test t\nb = a", "c = 1"], [1]),
        (["#| test t\nb = 1", "c = [b for _ in range(3)]"], []),  # what it leaves is read
        (["#| test t\nb = 1", "b = 2", "b"], [0]),  # not what it left
        (["#| test t\nb = 1", "#| test u\nc = b"], []),  # which fails as a test, and must not be hidden
        (["a = 1", "#| test t\nassert a == 1"], []),  # another `a` than its test has
        (["#| export\na = 1", "a = 2", "#| test t\na"], []),
        (["for a in range(3): pass", "#| test t\nwith open(0) as a:\n    a"], [1]),
        (["a = 1", "#| test t\n[a for a in range(3)]"], [1]),
        (["#| test t\nb = 1", "b += 1"], []),
        (["#| test t\nb = 1", "def f():\n    return b"], []),
        (["#| export\ndef f():\n    return g()\ndef g(): pass", "#| test t\ng = 1", "f()"], []),  # `f` would fail
        (["#| setup\nimport os", "#| test t\nimport os\nos.sep", "b = 1"], [1]),
    ],
)
def test_a_test_cell_is_left_out_of_its_notebook_where_that_makes_no_difference(cells, left_out):
    flags = [{line.split()[1] for line in c.splitlines() if line.startswith("#|")} for c in cells]
    assert notebooks.tested_elsewhere(list(zip(flags, cells))) == left_out


@pytest.mark.build
def test_what_is_generated_is_what_the_notebooks_say(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build.py", "--into", tmp_path / "house"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compared = 0
    for folder, pattern in (
        ("saematch", "**/*.py"),
        ("tests", "*.py"),
        ("nbs", "**/*.ipynb"),
        ("nbs/images", "*"),
        (".", "README.md"),
    ):
        ours, built = (
            {
                p.relative_to(base / folder).as_posix()
                for p in (base / folder).glob(pattern)
                if ".ipynb_checkpoints" not in p.parts
            }
            for base in (ROOT, tmp_path / "house")
        )
        assert ours == built, f"{folder}: only here {ours - built}, only rebuilt {built - ours}; run tools/build.py"
        for name in ours:
            assert filecmp.cmp(ROOT / folder / name, tmp_path / "house" / folder / name, shallow=False), (
                f"{folder}/{name} differs from its notebook; run tools/build.py"
            )
            compared += 1
    assert compared > 30


def imported(module, root):  # "a.b" -> names of modules of the package rooted at `root`, wherever the import stands
    "Modules of the package that a module imports, relative imports (which nbdev writes) among them."
    package, path, found = root.name, root.joinpath(*module.split(".")).with_suffix(".py"), set()
    is_module = lambda name: name and (root.joinpath(*name.split(".")).with_suffix(".py").exists())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix(f"{package}.") for a in node.names if a.name.startswith(f"{package}.")}
        if isinstance(node, ast.ImportFrom):
            assert not any(a.name == "*" for a in node.names), f"{module} star-imports"
            name = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level] if node.level <= module.count(".") else []
                base = ".".join([*above, *filter(None, [name])])
            elif name == package or name.startswith(f"{package}."):
                base = name[len(package) + 1 :]
            else:
                continue
            found |= (
                {base} if is_module(base) else {n for a in node.names if is_module(n := f"{base}.{a.name}".lstrip("."))}
            )
    return found


def climbing(order, root):
    "(module, what it imports although that is not below it) for each import that climbs."
    return [
        (name, used) for k, name in enumerate(order) for used in sorted(imported(name, root)) if used not in order[:k]
    ]


def test_a_module_imports_only_lower_ones():
    order = [module_of(nb) for nb in MODULES]
    assert sum(len(imported(name, ROOT / "saematch")) for name in order) > 60, "relative imports are not seen"
    assert not (wrong := climbing(order, ROOT / "saematch")), f"{wrong}: imported, but not below"


def test_newcomers_read_of_each_floor():
    table = re.findall(r"^\| `(\w+)` \| .*\?", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert table == ["ground", *FLOORS[1:], "tutorials"]
    assert {p.parent.name for p in NOTEBOOKS} <= {*FLOORS, "nbs", "tutorials"}


@pytest.mark.parametrize(
    "line",
    [
        "from ..studies.run import run",
        "from ..studies import run",
        "from saematch.studies.run import run",
        "import saematch.studies.run",
        "def f():\n    from ..studies.run import run",
    ],
)
def test_a_climbing_import_is_caught(tmp_path, line):
    root = tmp_path / "saematch"
    shutil.copytree(ROOT / "saematch", root, ignore=shutil.ignore_patterns("suites", "text", "__pycache__"))
    with open(root / "saes" / "sae.py", "a") as f:
        f.write(f"\n{line}\n")
    assert climbing([module_of(nb) for nb in MODULES], root) == [("saes.sae", "studies.run")]


def test_the_public_surface():
    assert set(saematch.__all__) <= set(dir(saematch)) and len(saematch.__all__) <= 20
    for name in saematch.__all__:
        value = getattr(saematch, name)
        assert callable(value) and value.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'matches'"):
        saematch.matches


def test_a_public_name_is_complete_whatever_else_is_imported():
    code = "from saematch import SAE, card; SAE.from_saelens, SAE.permute, SAE.rescale, SAE.select; "
    code += "from saematch.model.card import Card; Card.text, Card.iframe"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_solver_stands_alone():
    rooms = [module_of(nb) for nb in MODULES if nb.parent.name == "lap"]
    assert rooms and all(
        used == "ground" or used in rooms for name in rooms for used in imported(name, ROOT / "saematch")
    )


def test_every_notebook_has_a_number_of_its_own():
    numbers = [(nb.parent.name, nb.name[:2]) for nb in NOTEBOOKS if nb.name[0].isdigit()]
    unnumbered = [nb.name for nb in NOTEBOOKS if not nb.name[0].isdigit() and nb.parent.name != "course"]
    assert set(unnumbered) <= {"index.ipynb", "glossary.ipynb"}, "units of the course have names, all else has numbers"
    assert not (twice := [n for n, times in Counter(numbers).items() if times > 1]), f"{twice}: two notebooks each"


def test_every_module_is_on_a_floor():
    order = [module_of(nb) for nb in MODULES]
    for nb, name in zip(MODULES, order):
        assert nb.parent.name == "nbs" or name.startswith(f"{nb.parent.name}."), (
            f"{nb.parent.name}/{nb.name} exports {name}"
        )
    written = {
        p.relative_to(ROOT / "saematch").with_suffix("").as_posix().replace("/", ".")
        for p in (ROOT / "saematch").rglob("*.py")
    }
    assert written - set(order) == {
        "__init__",
        "__main__",
        "_modidx",
        *(f"{floor}.__init__" for floor in FLOORS if floor),
    }


def test_modules_have_other_names_than_functions():
    code = """
import saematch, saematch.lap.assign, saematch.matching.match, saematch.saes.gauge
from saematch import fold, match
from saematch.matching.match import Match

for f in (saematch.match, saematch.fold, saematch.assign, match, fold):
    assert callable(f) and not hasattr(f, "__path__") and type(f).__name__ == "function"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("nb", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_notebooks_are_kept_for_readers(nb):
    content = json.loads(nb.read_text())
    assert (
        content["metadata"]["kernelspec"]["name"] == "python3"
        and content["metadata"]["kernelspec"].get("language", "python") == "python"
    )
    first = source(content["cells"][0])
    assert content["cells"][0]["cell_type"] == "markdown" and re.match(r"# .+\n\n> .+", first), (
        "title and one-line subtitle first"
    )
    shown = 0
    for c in cells(nb, "code"):
        for out in c["outputs"]:
            assert out["output_type"] != "error", f"{nb.name} is committed with an error"
            shown += 1
        assert not re.search(
            r"(?<![\w.])/(root|home|tmp|work|Users)/",
            source(c) + json.dumps([o.get("text", o.get("data", {}).get("text/plain", "")) for o in c["outputs"]]),
        ), f"{nb.name} shows a path of a machine"
        if "#| export" in source(c):
            assert len(source(c).splitlines()) <= 40, f"{nb.name}: a cell too long to teach\n{source(c)[:80]}"
    assert shown > 2 and nb.stat().st_size < 300_000 and len(content["cells"]) <= 60


@pytest.mark.parametrize("nb", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_cells_have_ids_of_their_own_and_images_are_small(nb):
    content = json.loads(nb.read_text())
    ids = [c["id"] for c in content["cells"]]
    assert len(ids) == len(set(ids)), f"{nb.name}: {sorted(i for i in set(ids) if ids.count(i) > 1)} stand twice"
    for c in cells(nb, "code"):
        for kind, data in ((k, v) for out in c["outputs"] for k, v in out.get("data", {}).items()):
            if kind.startswith("image/"):
                size = len("".join(data))
                assert size <= 150_000, f"{nb.name}, cell {c['id']}: an image of {size:,} characters, draw it smaller"


def test_no_room_is_too_large(record_property):
    "Lines of a module after its generated head. Too long means a second room, not denser lines."
    lines = {}
    for module in map(module_of, MODULES):
        text = (ROOT / "saematch").joinpath(*module.split(".")).with_suffix(".py").read_text()
        lines[module] = len(text.split("\n# %% ", 2)[-1].splitlines())
    longest = max(lines, key=lines.get)
    record_property("lines of the longest module", f"{lines[longest]} ({longest})")
    too_long = {module: n for module, n in lines.items() if n > 350}
    assert not too_long, f"{too_long} lines: more than 350; make it two rooms"


@pytest.mark.parametrize("command", (["format", "--diff"], ["check"]), ids=lambda c: c[0])
def test_ruff_has_nothing_to_say(command):
    places = ["nbs", "tests", "tools", "benchmarks", "saematch", "setup.py"]
    done = subprocess.run([sys.executable, "-m", "ruff", *command, *places], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"ruff {command[0]}:\n{done.stdout[-5000:]}{done.stderr[-2000:]}"


def test_hooks_fetch_nothing_and_ask_for_what_the_tests_ask():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = repos[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    called = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    assert called == [
        "ruff format --force-exclude",
        "ruff check --force-exclude",
        "nbdev_clean",
        "python tools/build.py",
    ]


UNTYPED, UNDOCUMENTED = 32, 0  # parameters without an annotation, names without a docstring: they only go down


def public_functions(module):
    "(definition, is it in `__all__`) for each function of a module that has a public name, patched methods among them."
    tree = ast.parse((ROOT / "saematch").joinpath(*module.split(".")).with_suffix(".py").read_text())
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node, node.name in names


def untyped(function):
    "Parameters without an annotation; `self` needs none."
    a = function.args
    return [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg != "self" and p.annotation is None]


def test_public_functions_are_typed_and_have_docstrings(record_property):
    bare, silent = {}, []
    for module in map(module_of, MODULES):
        for node, listed in public_functions(module):
            if listed and not ast.get_docstring(node):
                silent.append(f"{module}.{node.name}")
            if isinstance(node, ast.FunctionDef) and untyped(node):
                bare[f"{module}.{node.name}"] = untyped(node)
    count = sum(map(len, bare.values()))
    record_property("parameters of public functions without an annotation", f"{count} (at most {UNTYPED})")
    record_property("public names without a docstring", f"{len(silent)} (at most {UNDOCUMENTED})")
    assert count <= UNTYPED, f"{count} parameters without an annotation, at most {UNTYPED} are allowed: {bare}"
    assert len(silent) <= UNDOCUMENTED, f"no docstring: {silent}; at most {UNDOCUMENTED} are allowed"


def test_links_lead_somewhere():
    ours = [p for p in ROOT.rglob("README.md") if not {".venv", "node_modules"} & set(p.parts)]
    pages = [(p, p.read_text()) for p in (ROOT / "CONTRIBUTING.md", *ours)]
    pages += [(nb, "\n".join(source(c) for c in cells(nb, "markdown"))) for nb in NOTEBOOKS]
    for page, text in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not re.match(r"https?:|attachment:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_one_version_everywhere():
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini")
    version = ini["DEFAULT"]["version"]
    assert (
        version == saematch.__version__
        and f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
        and f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    )


def test_the_embedded_suite_is_small_enough_to_ship():
    assert sum(p.stat().st_size for p in (ROOT / "saematch" / "suites").rglob("*") if p.is_file()) <= 35 * 2**20
