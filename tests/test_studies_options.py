# Written from nbs/studies/02_options.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.options import (
    Options,
    Trial,
    offered,
    add_options,
)


import argparse
import inspect
from dataclasses import asdict, fields, replace

from fastcore.test import expect_fail


def test_the_options_are_those_of_match():
    from saematch.matching.match import match

    of_match = inspect.signature(match).parameters
    for f in fields(Options()):
        assert of_match[f.name].default == f.default, f.name
    assert {f.name for f in fields(Options())} == set(of_match) - {"a", "b", "rows", "time_limit", "device", "progress"}
    {f.name: f.default for f in fields(Options())}


def test_options_are_frozen_dataclasses():
    few = Options(seed=3)
    assert few == Options(seed=3) != Options() and hash(few) == hash(Options(seed=3))
    assert replace(few, fold=False) == Options(seed=3, fold=False) and asdict(few)["method"] == Options().method == "exact"
    with expect_fail(AttributeError, "cannot assign to field 'seed'"):
        few.seed = 4
    with expect_fail(TypeError, "unexpected keyword argument 'speed'"):
        Options(speed=3)
    few


def test_the_command_line_follows_the_fields():
    parser = argparse.ArgumentParser(prog="saematch", exit_on_error=False)
    add_options(parser, Options), add_options(parser, Trial, unset=True)
    asked = vars(parser.parse_args(["--reject", "1.5", "--seed", "3", "--fold", "none", "--loss-documents", "7"]))
    assert (asked["reject"], asked["seed"], asked["fold"], asked["loss_documents"]) == (1.5, 3, "none", 7)
    assert parser.parse_args(["--no-fold"]).fold is False and parser.parse_args(["--cards"]).cards and not asked["cards"]
    assert asked["weights"] == "all" and asked["documents"] is None and "quantiles" not in asked
    assert Options(**{f.name: asked[f.name] for f in offered(Options)}) == Options(reject=1.5, seed=3, fold="none")
    assert "documents of each text (default: 100)" in parser.format_help()
    with expect_fail(argparse.ArgumentError, "invalid choice: 'best'"):
        parser.parse_args(["--method", "best"])
    print(parser.format_usage())


def test_help_waits_for_nothing():
    import subprocess
    import sys
    from pathlib import Path

    import saematch

    look = "import sys, saematch.studies.cli as c; c.parser().format_help(); print(*sys.modules)"
    root = Path(saematch.__file__).parent.parent
    loaded = subprocess.run([sys.executable, "-S", "-c", look], capture_output=True, text=True, cwd=root).stdout.split()
    assert "saematch.studies.options" in loaded and "argparse" in loaded
    assert not {"torch", "numpy", "dataclasses", "inspect", "traceback"} & set(loaded)


def test_a_trial_takes_one_text_or_several():
    from pathlib import Path

    from saematch.model.text import TEXTS

    assert Trial().text == TEXTS and Trial(text="prose", feature_text="x").feature_text == ("x",)
    assert Trial(text=(Path("a.jsonl"), "code"), model=Path("lm")) == Trial(text=("a.jsonl", "code"), model="lm")
