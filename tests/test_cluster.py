"""A run on a real Ray cluster of three nodes, of which what can die does: it ends as a run in one process."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from killed import FEW, after, asked, begin, differing, forks, results, toy

from saematch.ground import UsageError
from saematch.studies.many_machines import OnRay
from saematch.studies.options import Trial
from saematch.studies.run import run
from saematch.tasks import Job
from saematch.writer import LOCK

pytest.importorskip("transformer_lens")
ray_pickle = pytest.importorskip("ray.cloudpickle")

ray_pickle.register_pickle_by_value(sys.modules[__name__])  # nodes cannot import a test
LONG = bool(os.environ.get("SAEMATCH_FUZZ"))


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


SMALL = dict(num_cpus=1, object_store_memory=80 * 2**20, memory=2**31, include_dashboard=False,
             include_log_monitor=False, no_monitor=True)  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    "Three nodes of one core each."
    with pytest.MonkeyPatch.context() as patched:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
            patched.setenv(name, "0")
        from ray.cluster_utils import Cluster

        for left in (2, 1, 0):  # Ray gives a node 30 seconds to begin, which a busy machine may exceed
            made = Cluster()
            try:
                made.add_node(**SMALL)
                break
            except Exception:
                made.shutdown()
                if not left:
                    raise
        made.extra = [made.add_node(wait=False, **SMALL) for _ in range(2)]
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def saematch():
    "The command in processes of their own."
    with forks() as call:
        yield call


@pytest.fixture(scope="module")
def undisturbed(saematch, cluster, tmp_path_factory):
    "A toy, and what one process makes of it; the cluster begins meanwhile."
    folder = toy(tmp_path_factory.mktemp("cluster"))
    assert saematch(asked(folder, "whole")) == 0
    cluster.wait_for_nodes()
    return folder, results(folder, "whole")


@pytest.mark.lm
@pytest.mark.usefixtures("unpainted")
def test_whatever_dies_the_run_is_that_of_one_process(saematch, cluster, undisturbed, tmp_path):
    folder, whole = undisturbed
    begin(folder, out := "out")
    by_ray = asked(folder, out, "--ray", cluster.address)
    assert saematch(by_ray, kill=after(folder / out, 6, 0.1)) == -9  # the driver
    assert saematch(by_ray, kill=after(folder / out, 4, 0.1), by=signal.SIGINT) == 130
    assert not (folder / out / LOCK).exists()
    with OnRay(cluster.address) as executor:
        with pytest.raises(ZeroDivisionError):
            executor.do([Job("a wrong one", divmod, (1, 0))], "dividing", "number", False)
        too_large = Job("a large one", waits, (tmp_path, 0), "match", dict(latents=2**22, d_model=4096))
        with pytest.raises(UsageError, match="and .* GiB; no node of the cluster has them"):
            executor.do([too_large], "waiting", "job", False)
        lost = subprocess.Popen([sys.executable, "-c", KILLER, str(tmp_path)])
        jobs = [Job(f"job {k}", waits, (tmp_path, k), place=tmp_path) for k in range(3)]
        assert executor.do(jobs, "waiting", "job", False) == [0, 1, 4]
        assert lost.wait() == 0 and len({p.name.split("-")[1] for p in tmp_path.glob("begun-*")}) == 3
        assert len(list(tmp_path.glob("begun-*"))) > 3, "the job of the killed worker was begun again"
        gone = Thread(target=vanish, args=(folder / "gone",), daemon=True)
        gone.start()
        with pytest.raises(OSError, match="gone"):
            run(folder / "suite", out=folder / "gone", executor=executor, progress=False)
        gone.join()
        removing = remove(cluster, after(folder / out, 3, 0))
        few = {k.replace("-", "_"): int(n) for k, n in zip(FEW[::2], FEW[1::2])}
        trial = Trial(model=str(folder / "lm"), text=(str(folder / "text"),), cards=True, **few)
        run(folder / "suite", out=folder / out, trial=trial, executor=executor, progress=False)
    removing.join()
    assert len(cluster.list_all_nodes()) == 2
    assert not (differ := differing(results(folder, out), whole)), differ


def vanish(folder: Path) -> None:
    "Somebody deletes the folder of a run that has begun to fill it."
    until(lambda: len(list(folder.rglob("*.safetensors"))) > 2)
    shutil.move(folder, folder.with_name("elsewhere"))


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


def remove(cluster, now) -> Thread:
    "Kill a node, in a thread of its own, when it is time."

    def wait_and_kill():
        until(now)
        cluster.remove_node(cluster.extra.pop(), allow_graceful=False)

    (thread := Thread(target=wait_and_kill, daemon=True)).start()
    return thread


@pytest.mark.lm
@pytest.mark.parametrize("seed", range(20 if LONG else 0))  # takes minutes
def test_whatever_dies_at_whatever_moment(seed, saematch, cluster, undisturbed, record_property):
    folder, whole = undisturbed
    draw = random.Random(seed)
    victim, files, seconds = draw.choice(["driver", "worker", "node"]), draw.randrange(40), draw.uniform(0, 0.5)
    begin(folder, "out")
    by_ray, now = asked(folder, "out", "--ray", cluster.address), after(folder / "out", files, seconds)
    record_property(f"seed {seed}", f"{victim}, after {files} files and {seconds:.2f} s")
    while len(cluster.list_all_nodes()) < 3:
        cluster.extra.append(cluster.add_node(**SMALL))
    done, spare = [], cluster.extra[-1]

    def also_kills() -> bool:
        if victim == "driver":
            return now()
        if not done and now():
            done.append(
                cluster.remove_node(cluster.extra.pop(), allow_graceful=False) if victim == "node" else stop(spare)
            )
        return False

    status = saematch(by_ray, kill=also_kills)
    assert status == (-9 if victim == "driver" and status else 0)
    assert saematch(by_ray) == 0 if status else True
    assert not (differ := differing(results(folder, "out"), whole)), differ


def stop(node) -> list[int]:
    "Kill the workers of a node."
    import psutil

    raylet = next(p for p in node.all_processes["raylet"])
    there = [p for p in psutil.Process(raylet.process.pid).children() if p.name().startswith("ray::")]
    return [p.kill() or p.pid for p in there if "Agent" not in p.name()]
