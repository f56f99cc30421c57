"Runs killed at any moment, any number of times: what is left is taken up, and ends as a run that nobody disturbed."

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from harness import same, tried
from hypothesis import event, given
from hypothesis import strategies as st

from saematch import planted, random_sae, save_sae
from saematch.ground import read_json
from saematch.matching.lineage import Lineages
from saematch.matching.match import Match
from saematch.studies.check import check
from saematch.writer import MANIFEST, read_manifest

OF_THE_CLOCK = ("seconds", "versions", "earlier_versions")  # in run.json and summary.json


@pytest.fixture(scope="module")
def saematch():
    "The command in processes of their own, quickly: (arguments, seconds until the kill) -> (exit status, seconds)."
    one = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # a fork inherits no threads
    zygote = [sys.executable, Path(__file__).with_name("zygote.py")]
    with subprocess.Popen(zygote, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one) as process:

        def call(*arguments, seconds=None):
            print(json.dumps([[str(a) for a in arguments], seconds]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield call
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(saematch, tmp_path_factory):
    "A toy suite, what `saematch run` makes of it, and how long that takes."
    folder = tmp_path_factory.mktemp("kills")
    sae = random_sae(8, 24)
    for layer in (1, 2, 3):
        save_sae(sae, folder / "suite" / f"layer_{layer}.safetensors")
        sae = planted(sae, decoder_noise=0.5, replaced=0.2, seed=layer).sae
    status, seconds = saematch("run", "--suite", folder / "suite", "--out", folder / "whole", "--jobs", 1)
    assert status == 0
    return folder, results(folder / "whole"), seconds


def results(out):
    "What a run leaves behind, less what the clock has a part in: file -> content."
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name == MANIFEST:
            listed = read_manifest(out)["files"]  # byte for byte: size and checksum
            found[name] = {file: None if file == "summary.json" else known for file, known in listed.items()}
        elif path.suffix == ".json":
            found[name] = {k: v for k, v in read_json(path).items() if k not in OF_THE_CLOCK}
        elif path.suffix == ".parquet":
            found[name] = pd.read_parquet(path)
        elif path.suffix == ".safetensors":
            found[name] = (Lineages if name == "lineages.safetensors" else Match).load(path)
        elif path.suffix == ".png":
            found[name] = path.read_bytes()
        else:
            found[name] = "</html>" in path.read_text()
    return found


@tried(2, cost=20)
@given(
    moments=st.lists(st.integers(2, 110), min_size=1, max_size=3),  # in percent of the time a run takes
    jobs=st.integers(1, 2),
)
def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(saematch, undisturbed, moments, jobs):
    folder, whole, seconds = undisturbed
    shutil.rmtree(folder / "out", ignore_errors=True)
    run = ("run", "--suite", folder / "suite", "--out", folder / "out", "--jobs", jobs)
    for moment in moments:
        status, _ = saematch(*run, seconds=moment / 100 * seconds)
        there = results_there(folder / "out")
        assert status in (0, -9)
        event("ended before the kill" if status == 0 else f"killed {there}")
    assert saematch(*run)[0] == 0
    found = results(folder / "out")
    assert list(found) == list(whole), "files are missing, or something is left over"
    assert not (differ := [name for name in whole if not same(found[name], whole[name])]), differ
    assert (checked := check(folder / "out", progress=False)).ok and checked.unknown.empty, checked.lines()


def results_there(out):
    "How far a killed run came."
    matches, figures = (len(list(out.glob(p))) for p in ("matches/*/*.safetensors", "figures/*.png"))
    return "before the matches" if not matches else "at the matches" if not figures else "at the report"
