# Written from nbs/02_hub.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.hub import (
    hub_name,
    fetch_folder,
)


import tempfile
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError


def test_a_name_on_the_hub_has_a_user_a_repository_and_perhaps_a_revision():
    assert hub_name("hf://user/repo") == hub_name("user/repo") == ("user/repo", None)
    for name in ("hf://repo", "hf://user/repo@", "hf://a/b/c", "hf://user/../x"):
        with expect_fail(UsageError, "is no name on the hub: write hf://user/repo"):
            hub_name(name)
    hub_name("hf://user/repo@v1.0")


def test_what_is_in_the_cache_needs_no_network():
    with tempfile.TemporaryDirectory() as cache:
        place, sha = Path(cache) / "models--user--results", "0" * 40
        (place / "refs").mkdir(parents=True), (place / "refs" / "main").write_text(sha)
        (place / "snapshots" / sha).mkdir(parents=True), (place / "snapshots" / sha / "run.json").write_text("{}")
        how = dict(cache_dir=cache, local_files_only=True)
        found = fetch_folder("hf://user/results", **how)
        assert found == fetch_folder(f"user/results@{sha}", **how) and (found / "run.json").read_text() == "{}"
        with expect_fail(OSError, "hf://user/other is not in the cache, and the hub cannot be reached"):
            fetch_folder("hf://user/other", **how)
    found.relative_to(cache).as_posix()
