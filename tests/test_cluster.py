"""A run on a real Ray cluster of three nodes, of which one dies: the numbers are those of one process."""

import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
import torch

from saematch.ground import UsageError, read_json, read_safetensors
from saematch.matching.lineage import Lineages
from saematch.studies.many_machines import OnRay
from saematch.studies.options import Trial
from saematch.studies.run import run
from saematch.tasks import Job

pytest.importorskip("sae_lens")
from test_paper_cli import place  # noqa: E402, F401

ray_pickle = pytest.importorskip("ray.cloudpickle")

ray_pickle.register_pickle_by_value(sys.modules[__name__])  # nodes cannot import a test


def waits(folder: Path, k: int) -> int:
    "Say that it has begun, and end when it may."
    (folder / f"begun-{k}-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    return k * k


def until(there, seconds=60):
    "Wait for something to be so."
    end = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return found


@pytest.fixture
def cluster(monkeypatch):
    "Three nodes of one core each."
    for name, value in dict(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0").items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    small = dict(num_cpus=1, object_store_memory=80 * 2**20, memory=2**31)
    small |= dict(include_dashboard=False, include_log_monitor=False, no_monitor=True)
    for left in (2, 1, 0):  # Ray gives a node 30 seconds to begin, which a busy machine may exceed
        made = Cluster()
        try:
            made.add_node(**small)
            break
        except Exception:
            made.shutdown()
            if not left:
                raise
    made.extra = [made.add_node(wait=False, **small) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    made.shutdown()


def same_files(a: Path, b: Path) -> int:
    "How many matches two runs have; they are the same."
    names = sorted(p.relative_to(a) for p in (a / "matches").rglob("*.safetensors"))
    assert names == sorted(p.relative_to(b) for p in (b / "matches").rglob("*.safetensors"))
    for name in names:
        (x, of_x), (y, of_y) = read_safetensors(a / name), read_safetensors(b / name)
        assert (
            of_x == of_y and x.keys() == y.keys() and all(torch.equal(x[k].nan_to_num(), y[k].nan_to_num()) for k in x)
        )
    return len(names)


@pytest.mark.lm
def test_a_node_and_a_worker_die_and_the_numbers_are_the_same(place, cluster, tmp_path):  # noqa: F811
    trial = Trial(model=str(place / "lm"), text=(str(place / "text.jsonl"),), documents=6, loss_documents=0,
                  fit_documents=4, length=32, features=0)  # fmt: skip
    how = dict(trial=trial, dead="keep", progress=False)
    with OnRay(cluster.address) as executor:
        with pytest.raises(ZeroDivisionError):
            executor.do([Job("a wrong one", divmod, (1, 0))], "dividing", "number", False)
        (folder := tmp_path / "waiting").mkdir()
        too_large = Job("a large one", waits, (folder, 0), "match", dict(latents=2**22, d_model=4096))
        with pytest.raises(UsageError, match="and .* GiB; no node of the cluster has them"):
            executor.do([too_large], "waiting", "job", False)
        lost = subprocess.Popen([sys.executable, "-c", KILLER, str(folder)])
        jobs = [Job(f"job {k}", waits, (folder, k), place=folder) for k in range(3)]
        assert executor.do(jobs, "waiting", "job", False) == [0, 1, 4]
        assert lost.wait() == 0 and len({p.name.split("-")[1] for p in folder.glob("begun-*")}) == 3
        assert len(list(folder.glob("begun-*"))) > 3, "the job of the killed worker was begun again"
        removing = remove(cluster, place / "ray")
        by_ray = run(place / "suite", out=place / "ray", executor=executor, **how)
    here = run(place / "suite", out=place / "here", jobs=1, **how)
    removing.join()
    assert len(cluster.list_all_nodes()) == 2 and same_files(place / "ray", place / "here") > 20
    for told in ("findings", "mse", "agreement", "growth"):
        assert [s for s in by_ray[told] if "Time:" not in s] == [s for s in here[told] if "Time:" not in s]
    a, b = (Lineages.load(place / out / "lineages.safetensors") for out in ("ray", "here"))
    assert torch.equal(a.members, b.members) and a.info["nulls"] == b.info["nulls"]
    a, b = (pd.read_parquet(place / out / "evidence" / "scores.parquet") for out in ("ray", "here"))
    pd.testing.assert_frame_equal(a, b)
    assert read_json(place / "ray" / "run.json")["weights_sha256"] == here["weights_sha256"]


KILLER = """
import os, signal, sys, time
from pathlib import Path
folder, end = Path(sys.argv[1]), time.monotonic() + 100
while len(begun := sorted(folder.glob("begun-*"))) < 3:
    assert time.monotonic() < end
    time.sleep(0.05)
os.kill(int(begun[0].name.split("-")[2]), signal.SIGKILL)
(folder / "go").touch()
"""


def remove(cluster, out: Path) -> Thread:
    "Kill a node, in a thread of its own, when three matches are there."

    def wait_and_kill():
        until(lambda: len(list(out.glob("matches/*/*.safetensors"))) >= 3)
        cluster.remove_node(cluster.extra.pop(), allow_graceful=False)

    (thread := Thread(target=wait_and_kill, daemon=True)).start()
    return thread
