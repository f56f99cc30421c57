# Written from nbs/studies/03_plan.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.plan import (
    parse_layers,
    parse_variants,
    plan,
    own_tasks,
    read_rows,
    check_options,
)


import tempfile
from dataclasses import replace
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.matching.names import NAMES
from saematch.saes.suite import load_suite
from saematch.saes.toys import random_sae
from saematch.studies.options import Options
from saematch.studies.toys import planted_folder


def test_layer_ranges():
    have = [14, 15, 16, 17, 18, 19]
    assert (
        parse_layers("14-16,19", have) == [14, 15, 16, 19]
        and parse_layers(None, have) == have
        and parse_layers([16, 14], have) == [14, 16]
    )
    with expect_fail(UsageError, "layer range '19-14' is reversed: write 14-19"):
        parse_layers("19-14", have)
    with expect_fail(UsageError, "two layers at least are needed to match, got [14]"):
        parse_layers("14", have)
    with expect_fail(UsageError, "two layers at least are needed to match, got none"):
        parse_layers([], have)
    with expect_fail(UsageError, "unknown layer '20'; there are:"):
        parse_layers("14-20", have)
    with expect_fail(UsageError, "cannot be read: write 14-19"):
        parse_layers("14..19", have)
    for wrong in (14.5, "a", float("nan")):  # no layer, and none that is rounded to one
        with expect_fail(UsageError, f"unknown layer '{wrong}'"):
            parse_layers([wrong, 15], have)


def test_every_pair_is_matched_and_adjacent_ones_in_every_way():
    tasks = plan([3, 4, 6], Options(reject=2.0))
    assert [(t.a, t.b) for t in tasks if t.name == "match"] == [(3, 4), (4, 6), (3, 6)]
    ways = {n.key for n in NAMES.values() if n.change} | {"match", "strangers"}
    assert {t.name for t in tasks if (t.a, t.b) == (3, 4)} == ways and len(tasks) == 2 * len(ways) + 1
    by_name = {t.name: t.options for t in tasks if (t.a, t.b) == (3, 4)}
    assert by_name["unfolded"] == Options(reject=2.0, fold=False, dead="keep")
    assert by_name["greedy"].reject is None, "only the exact method can leave latents out"
    assert {t.file.as_posix() for t in tasks if t.name in ("match", "identity")} == {
        "3-4/direct.safetensors",
        "4-6/direct.safetensors",
        "3-6/direct.safetensors",
        "3-4/vanilla.safetensors",
        "4-6/vanilla.safetensors",
    }
    keys = {t.name: t.key({"3": "A", "4": "B"}) for t in tasks if (t.a, t.b) == (3, 4)}
    assert keys["strangers"] == keys["match"] | dict(null="signs"), "the null is matched as the layers are"
    assert len(plan([3, 4, 6], Options(), variants=parse_variants("unfolded,vanilla"), adjacent=True)) == 2 * 5
    assert {t.name for t in plan([3, 4], Options(), variants=parse_variants("none"))} == {"match", "random", "strangers"}
    with expect_fail(UsageError, "unknown variant 'gredy'; closest: greedy"):
        parse_variants(["gredy"])
    alone = plan([3, 4], Options(weights="decoder"), blocks=("decoder",))
    assert {t.name for t in alone} == ways - {"encoder", "bias"} and {t.options.weights for t in alone} == {"decoder"}


def test_rows_of_ones_own_are_matched_beside_their_strangers():
    with tempfile.TemporaryDirectory() as folder:
        planted_folder(folder)
        suite = replace(load_suite(folder), keep=3)
        layers = [suite[layer].info["layer"] for layer in suite.layers]
    decoder = lambda sae: sae.W_dec
    tasks = own_tasks(suite, layers, Options(), {"my rows": decoder})
    assert [(t.a, t.b, t.name) for t in tasks[:2]] == [(3, 4, "my rows"), (3, 4, "my rows, strangers")]
    assert tasks[0].file.as_posix() == "3-4/rows my rows.safetensors"
    m, null = (t.match(suite[3], suite[4]) for t in tasks[:2])
    assert m.cost.mean() < null.cost.mean(), "real neighbours are closer than strangers"
    changed = own_tasks(suite, layers, Options(), {"my rows": lambda sae: 2 * sae.W_dec})
    assert changed[0].key({"3": "A", "4": "B"}) != tasks[0].key({"3": "A", "4": "B"})
    for name, of, said in (
        ("greedy", decoder, "'greedy' is a match that runs make themselves"),
        ("a/b", decoder, "a name is made of letters"),
        ("mine", 3, "must be a function of an SAE, not int"),
        (
            "mine",
            lambda sae: sae.W_dec[0],
            "layers 3 to 4: ValueError: the table that the lambda of rows= ",
        ),
        ("mine", lambda sae: 1 / 0, "layers 3 to 4: ZeroDivisionError"),
    ):
        with expect_fail(UsageError, said):
            own_tasks(suite, layers, Options(), {name: of})


def test_functions_are_read_from_a_file():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "costs.py").write_text("def half(sae):\n    return sae.W_dec / 2\n")
        (Path(folder) / "wrong.py").write_text("def half(sae)\n")
        assert read_rows([f"{folder}/costs.py:half"])["half"](random_sae(4, 6)).shape == (6, 4)
        for text, said in (
            ("costs.py", "write FILE.py:FUNCTION"),
            (f"{folder}/costs.py:halve", "'halve'; closest: half"),
            (f"{folder}/gone.py:half", "there is no file"),
            (f"{folder}/wrong.py:half", "SyntaxError"),
        ):
            with expect_fail(UsageError, said):
                read_rows([text])


def test_a_run_that_cannot_end_well_does_not_begin():
    with expect_fail(UsageError, "method must be one of"):
        check_options(Options(method="best"))
    with expect_fail(UsageError, "dead must be 'warn', 'exclude' or 'keep'"):
        check_options(Options(dead="maybe"))
