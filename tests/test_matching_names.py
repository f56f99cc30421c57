# Written from nbs/matching/01_names.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.names import (
    GROUPS,
    NAMES,
    PALETTE,
    shown,
    style,
    group,
)


from collections import Counter


def test_every_spelling_leads_to_one_row():
    for spellings in (("match", "direct", "folded", "exact"), ("identity", "vanilla")):
        assert len({shown(s) for s in spellings}) == len({PALETTE[s] for s in spellings}) == 1
        assert len({str(style(s)) for s in spellings}) == 1
    assert shown("quantile 0.1") == "nearest 10% matched" and shown("layer 14") == "layer 14" and style("layer 14") == {}


def test_no_two_rows_are_confused():
    spelled = Counter(s for n in NAMES.values() for s in {n.key, n.file, n.method})
    assert max(spelled.values()) == 1, "a spelling belongs to two rows"
    assert len({n.shown for n in NAMES.values()}) == len(NAMES)
    assert all(set(n.groups) <= set(GROUPS) and n.groups for n in NAMES.values())
    assert all(group(g) for g in GROUPS)
    for among in ("weights", "hidden", "blind", "benchmark"):
        looks = [(NAMES[key].colour, NAMES[key].line) for key in group(among) if key != "chosen"]
        assert len(set(looks)) == len(looks), f"two of {among} look the same"
    try:
        group("unknown")
        raise AssertionError("a group that does not exist was found")
    except KeyError as e:
        assert "weights" in str(e)
