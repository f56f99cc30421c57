"Runs killed at any moment, any number of times: what is left is taken up, and ends as a run that nobody disturbed."

import random

import pytest
from harness import LONG
from killed import after, asked, begin, differing, forks, results, toy

from saematch.studies.check import check

SEEDS = range(max(20, LONG // 20) if LONG else 1)  # each of three kills


@pytest.fixture(scope="module")
def saematch():
    "The command in processes of their own."
    with forks(painted=bool(LONG)) as call:
        yield call


@pytest.fixture(scope="module")
def undisturbed(saematch, tmp_path_factory):
    "A toy, and what a run with an evaluation and cards makes of it."
    folder = toy(tmp_path_factory.mktemp("kills"))
    assert saematch(asked(folder, "whole")) == 0
    return folder, results(folder, "whole")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(seed, saematch, undisturbed, record_property):
    folder, whole = undisturbed
    draw, told = random.Random(seed), []
    begin(folder, "out")
    for most in (0.8, 0.4, 0.2):  # of the files of a run; the later ones go on with what is there
        files, seconds = int(draw.uniform(0, most) * len(whole)), draw.uniform(0, 0.2)
        status = saematch(asked(folder, "out"), kill=after(folder / "out", files, seconds))
        assert status in (0, -9)
        told.append(f"{files} files and {seconds:.2f} s: {'ended' if status == 0 else stage(folder / 'out')}")
    record_property(f"killed with seed {seed}", ", ".join(told))
    assert saematch(asked(folder, "out")) == 0
    assert not (differ := differing(results(folder, "out"), whole)), (differ, told)
    assert (checked := check(folder / "out", progress=False, again=True)).ok and checked.unknown.empty, checked.lines()


def stage(out):
    "How far a killed run came."
    there = lambda pattern: any(out.glob(pattern))
    stages = {"manifest.json": "at the end", "figures/*": "at the report", "evidence/*.parquet": "at the tables",
              "evidence/chunks/*/*.safetensors": "at the text", "lineages.*": "at the lineages",
              "matches/*/*": "at the matches"}  # fmt: skip
    return next((name for pattern, name in stages.items() if there(pattern)), "before the matches")
