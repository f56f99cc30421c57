# Written from nbs/02_hub.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.hub import (
    hub_name,
    hub_files,
    fetch,
    here,
    address_of,
)


import tempfile
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UnknownName, UsageError


def test_a_name_on_the_hub_has_a_user_and_a_repository_and_perhaps_a_revision_and_a_path():
    assert hub_name("hf://user/repo") == hub_name("user/repo") == ("user/repo", None, "")
    for name in ("hf://repo", "hf://user/repo@", "hf://user/../x", "hf://user/repo/../x", "hf://user/repo//x"):
        with expect_fail(UsageError, "is no name on the hub: write hf://user/repo"):
            hub_name(name)
    with expect_fail(UsageError, "is a dataset or a space"):
        hub_name("hf://datasets/user/repo")
    assert hub_name("hf://user/repo/layer_4/") == ("user/repo", None, "layer_4")
    assert hub_name("hf://user/repo@refs/pr/3/x.npz") == hub_name("hf://user/repo@refs%2Fpr%2F3/x.npz")
    assert str(hub_name("user/repo@a%2Fb/c")) == "hf://user/repo@a%2Fb/c"
    hub_name("hf://user/repo@v1.0/layer_4/params.npz")


def test_what_is_in_the_cache_needs_no_network():
    with tempfile.TemporaryDirectory() as cache:
        place, sha = Path(cache) / "models--user--results", "0" * 40
        (place / "refs").mkdir(parents=True), (place / "refs" / "main").write_text(sha)
        (place / "snapshots" / sha / "a").mkdir(parents=True), (place / "snapshots" / sha / "a/run.json").write_text("{}")
        how = dict(cache_dir=cache, local_files_only=True)
        found = fetch("hf://user/results", **how)
        assert found == fetch(f"user/results@{sha}", **how) and (found / "a/run.json").read_text() == "{}"
        assert fetch("hf://user/results/a", **how) == found / "a" == here("hf://user/results/a", **how)
        assert here("hf://user/results/a", "run.json", **how) == found / "a/run.json" == here(found / "a", "run.json")
        assert hub_files("hf://user/results/a", **how) == (("user/results", sha, "a"), ["run.json"])
        with expect_fail(UnknownName, "unknown place in hf://user/results 'b'; there are: a/run.json"):
            fetch("hf://user/results/b", **how)
        assert address_of(found / "a") == ("user/results", sha, "a") and address_of(Path("a")) is None
        with expect_fail(OSError, "hf://user/other is not in the cache, and the hub cannot be reached"):
            fetch("hf://user/other", **how)
    found.relative_to(cache).as_posix()
