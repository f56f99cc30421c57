# Written from nbs/saes/00_layers.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.layers import (
    files_below,
    NoSAE,
    not_one,
    place_of,
    digits_in,
    by_layer,
    closest_to,
)


import tempfile
from pathlib import Path
from unittest import mock

import pytest
from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.hub import hub_name


def test_an_sae_in_a_pickle_is_not_fetched():
    files = lambda source: (hub_name(source), ["ae.pt", "config.json"])
    with mock.patch.dict(place_of.__globals__, hub_files=files), pytest.raises(NoSAE, match="in a pickle, ae.pt, which is"):
        place_of("hf://user/repo/trainer_0")


def test_what_is_not_one_sae_is_listed():
    names = [f"layer_{k}/{name}" for k in range(8) for name in ("cfg.json", "sae_weights.safetensors")]
    said = str(not_one("here", map(Path, names)))
    assert "give one of layer_0, layer_1, layer_2, layer_3, layer_4, layer_5 and 2 more; for a folder of several" in said
    assert str(not_one("here", [Path("a/b.txt"), Path("a/c.txt")])).endswith("so it is not one SAE; it holds a")
    assert str(not_one("here", [])).endswith("it holds nothing") and place_of("a/b") == Path("a/b")
    print(said)


def test_a_loop_of_links_ends():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "layer_3").mkdir()
        (Path(folder) / "layer_3" / "cfg.json").touch()
        (Path(folder) / "again").symlink_to(folder)
        (Path(folder) / "layer_3" / "up").symlink_to(folder)
        found = files_below(Path(folder))
    assert found.count(Path("layer_3/cfg.json")) == 1
    found


def test_a_pattern_of_many_stars_is_read_at_once():
    assert digits_in("layer_{layer}/*a" + "*a" * 60, "layer_14/" + "a" * 61) == "14"
    assert digits_in("layer_{layer}/*a" + "*a" * 60, "layer_14/" + "a" * 60) is None
    assert digits_in("layer_{layer}/*", "layer_14/width_16k/canonical") is None, "a star is no slash"


def test_several_saes_of_a_layer_need_a_pattern():
    names = ["layer_3/l0_10", "layer_3/l0_30", "layer_4/l0_10", "layer_4/l0_30"]
    assert by_layer(names, "layer_{layer}/*_30", "a folder") == {3: "layer_3/l0_30", 4: "layer_4/l0_30"}
    with expect_fail(UsageError, "must contain {layer}"):
        by_layer(names, "layer_3", "a folder")
    with expect_fail(UsageError, "has several SAEs for layer 3; choose with pattern=, one of: layer_{layer}/l0_10, layer_"):
        by_layer(names, None, "a folder")
    by_layer(names, "layer_{layer}/*_10", "a folder")


def test_of_each_layer_the_sae_closest_in_sparsity():
    names = [f"layer_{k}/width_16k/average_l0_{n}" for k, n in ((0, 13), (0, 46), (0, 105), (1, 10), (1, 60), (1, 102))]
    assert closest_to(71)(names, None, "it") == {0: names[1], 1: names[4]}
    assert closest_to(56)([*names[:1], "layer_0/width_16k/average_l0_99"], None, "it") == {0: names[0]}, "the sparser one"
    with expect_fail(
        UsageError, "several kinds; choose with pattern=, one of: layer_{layer}/width_16k/*, layer_{layer}/width_65k"
    ):
        closest_to(71)([*names, "layer_0/width_65k/average_l0_73"], None, "it")
    assert closest_to(71)([*names, "layer_0/width_65k/average_l0_73"], "layer_{layer}/width_65k/*", "it")
    with expect_fail(UsageError, "does not say how sparse its SAEs of layer 2 are"):
        closest_to(71)([*names, "layer_2/width_16k/canonical"], None, "it")
    with expect_fail(UsageError, "a number of active latents a token, above 0, not -3"):
        closest_to(-3)
    closest_to(100)(names, None, "it")
