"""Shipped cards against what SAEDashboard found for the same latents and text (see benchmarks/saedashboard.py)."""

import importlib.util
import json
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "saedashboard.py"


def test_cards_say_what_saedashboard_says():
    spec = importlib.util.spec_from_file_location("saedashboard", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = module.compare()
    assert len(rows) == 10
    for r in rows:
        assert r["active"] == r["theirs"] and abs(r["density"] - r["active"]) < 1e-5 * 92_160  # printed to 0.001 %
        assert (r["same_places"], r["promoted"], r["suppressed"]) == (5, 10, 10), r
        assert r["largest_error"] < 2**-7, "activations are stored to 7 bits"


def test_the_largest_activation_is_theirs():
    from saematch import cards

    found = cards("smollm2-135m-resid", 14)
    for theirs in json.loads(SCRIPT.with_suffix(".json").read_text())["latents"]:
        assert abs(found[theirs["latent"]].largest * theirs["norm"] / theirs["top"][0][2] - 1) < 1e-5
