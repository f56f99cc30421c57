"""tools/build.py on small houses: what becomes a test, what is deleted, what is refused."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("build", ROOT / "tools" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def write(path, *sources):
    cells = [
        dict(cell_type="code", id=str(k), metadata={}, outputs=[], execution_count=None, source=s)
        for k, s in enumerate(sources)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))


@pytest.fixture
def house(tmp_path):
    "A house with one room, `lap/01_sums`, and its module."
    (tmp_path / "tests").mkdir()
    (tmp_path / "saematch" / "lap").mkdir(parents=True)
    (tmp_path / "saematch" / "lap" / "sums.py").write_text(
        '__all__ = ["add", "unused"]\n\n\ndef add(a, b): return a + b\n'
    )
    write(
        tmp_path / "nbs" / "lap" / "01_sums.ipynb",
        "#| default_exp lap.sums",
        "#| export\ndef add(a, b): return a + b",
        "#| setup\nthree = 3",
        "#| test sums\nassert add(1, 2) == three",
        "#| test on_a_gpu\n#| gpu\nassert add(1, 2) == three",
        "assert False  # not a test",
    )
    return tmp_path


def names(house):
    return sorted(p.name for p in (house / "tests").iterdir())


def test_test_cells_become_functions_that_pass(house):
    build.export_tests(house)
    text = (house / "tests" / "test_lap_sums.py").read_text()
    assert "Written from nbs/lap/01_sums.ipynb" in text and "assert False" not in text
    assert "from saematch.lap.sums import (\n    add,\n)" in text and "unused" not in text
    assert re.search(r"@pytest\.mark\.gpu\ndef test_on_a_gpu\(\):", text) and text.count("@pytest.mark") == 1
    scope = {}
    exec(text.replace("from saematch.lap.sums import (\n    add,\n)", "add = lambda a, b: a + b"), scope)
    scope["test_sums"](), scope["test_on_a_gpu"]()
    scope["three"] = 4
    with pytest.raises(AssertionError):
        scope["test_sums"]()


def test_tests_of_a_removed_notebook_go_and_those_by_hand_stay(house):
    by_hand = house / "tests" / "test_oracle.py"
    by_hand.write_text("def test_oracle(): pass\n")
    build.export_tests(house)
    build.export_tests(house)  # again, over what is there
    assert names(house) == ["test_lap_sums.py", "test_oracle.py"]
    (house / "nbs" / "lap" / "01_sums.ipynb").unlink()
    build.export_tests(house)
    assert names(house) == ["test_oracle.py"] and by_hand.read_text() == "def test_oracle(): pass\n"


def test_a_test_by_hand_is_never_overwritten(house):
    (house / "tests" / "test_lap_sums.py").write_text("def test_mine(): pass\n")
    with pytest.raises(FileExistsError, match=r"tests/test_lap_sums\.py is written by hand"):
        build.export_tests(house)
    assert (house / "tests" / "test_lap_sums.py").read_text() == "def test_mine(): pass\n"


@pytest.mark.parametrize("where", [".ipynb_checkpoints/01_old-checkpoint.ipynb", "_drafts/01_old.ipynb", "_old.ipynb"])
def test_checkpoints_and_drafts_are_no_notebooks(house, where):
    (house / "saematch" / "old.py").write_text('__all__ = ["old"]\n')
    write(house / "nbs" / "lap" / where, "#| default_exp old", "#| test old\nassert True")
    build.export_tests(house)
    assert names(house) == ["test_lap_sums.py"]


@pytest.mark.parametrize(
    "cells, message",
    [
        (["#| default_exp lap.sums", "#| test twice\nassert 1", "#| test twice\nassert 2"], "twice stands twice"),
        (["#| test homeless\nassert 1"], "test cells need a module"),
        (["#| default_exp lap.sums", "#| test two words\nassert 1"], "not a name for a function"),
        (["#| default_exp lap.sums", "#| test\nassert 1"], "not a name for a function"),
        (["#| default_exp lap.sums", '#| test long\nassert """a\nb"""'], "a string over several lines"),
    ],
)
def test_what_would_be_lost_is_refused(house, cells, message):
    write(house / "nbs" / "lap" / "02_more.ipynb", *cells)
    with pytest.raises(ValueError, match=message):
        build.derived_tests(house / "nbs" / "lap" / "02_more.ipynb", house)


def test_a_notebook_without_test_cells_has_no_tests(house):
    write(house / "nbs" / "tutorials" / "01_read.ipynb", "1 + 1")
    assert build.derived_tests(house / "nbs" / "tutorials" / "01_read.ipynb", house) is None


def test_help_shows_the_notes_that_stand_beside_parameters():
    import saematch

    told = saematch.match.__doc__
    assert "Parameters\n----------\n" in told and "reject\n    cost at which a latent rather stays unmatched" in told
    assert saematch.match is saematch.match and told == saematch.match.__doc__, "once"
