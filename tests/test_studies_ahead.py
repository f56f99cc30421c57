# Written from nbs/studies/37_ahead.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.ahead import (
    lasts,
    plan_run,
    cost,
)


from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from saematch.ground import UsageError
from saematch.saes.files import save_sae
from saematch.saes.suite import load_suite
from saematch.saes.toys import random_sae
from saematch.studies.cost import Machine


def test_a_plan_needs_no_weights_and_knows_what_is_done():
    from saematch.studies.run import run

    with TemporaryDirectory() as folder:
        for layer in (2, 3, 5):
            save_sae(random_sae(8, 24, seed=layer), Path(folder) / "suite" / f"layer_{layer}.safetensors")
        suite = load_suite(f"{folder}/suite")
        p = plan_run(suite, out=f"{folder}/out")
        assert not suite._loaded, "no weight is read"
        assert p.left == len(p) and p.frame().query("kind == 'match'").tasks.item() == 3
        run(suite, out=f"{folder}/out", jobs=1, dead="keep", lineages=False)
        again = plan_run(suite, out=f"{folder}/out", dead="keep", lineages=False)
        assert again.left == 1, "every call writes the report anew"
        assert again.frame().query("core_seconds > 0").kind.tolist() == ["report"]
        other = plan_run(suite, out=f"{folder}/out", dead="keep", lineages=False, fold=False)
        assert other.left == len(other), "of another run nothing is done"
        mine = dict(out=f"{folder}/out", dead="keep", lineages=False, rows={"written": lambda sae: sae.W_dec})
        left = lambda **asked: plan_run(suite, **mine | asked).left - 1  # beside the report
        assert left() == 4, "two pairs of neighbours, and strangers of each"
        run(suite, jobs=1, **mine)
        assert left() == 0
        assert left(rows={"written": lambda sae: sae.W_enc.T}) == 4, "by another function"
        (Path(folder) / "out" / "matches" / "2-3" / "greedy.safetensors").write_bytes(b"damaged")
        assert left() == 1, "it will be made again"
        save_sae(random_sae(8, 24, seed=9), Path(folder) / "suite" / "layer_5.safetensors")
        weights = plan_run(load_suite(f"{folder}/suite"), **mine)
        assert weights.left == len(weights), "a run of other weights is another run"
    with pytest.raises(UsageError, match="two layers and one latent"):
        cost(1, 10, 10)
    len(again), again.left, other.left


def test_money_and_machines():
    small = Machine("a machine", 2, 2**33, 3e10, price=0.5)
    one, eight = (cost(6, 2048, 576, replace(small, nodes=k)).total() for k in (1, 8))
    assert eight["seconds"] < one["seconds"] and eight["core_seconds"] == one["core_seconds"]
    assert abs(one["money"] - one["seconds"] / 3600 * 0.5) < 1e-9
    assert lasts(30) == "30 s" and lasts(7200) == "2.0 h" and lasts(float("nan")) == "not measured"
    one, eight
