"""A disk that is full, and one that may only be read: a run says so, loses nothing, and goes on when there is room."""

import os
import subprocess
from pathlib import Path

import pytest
from killed import asked, begin, differing, forks, results, toy

OWN = ("unshare", "--user", "--map-root-user", "--mount")  # disks of one's own, which nobody else sees
LONG = bool(os.environ.get("SAEMATCH_FUZZ"))
ENTER = ("nsenter", "--user", "--mount", "--preserve-credentials", "--target")


def arguments(folder: Path, out: str) -> list[str]:
    "A run: matches, lineages and the report; with SAEMATCH_FUZZ an evaluation and cards as well."
    if LONG:
        return asked(folder, out)
    return [*map(str, ("run", "--suite", folder / "suite", "--out", folder / out, "--jobs", 1))]


def can_mount(folder: Path) -> bool:
    "Whether this machine lets us."
    try:
        return not subprocess.run([*OWN, "mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode
    except FileNotFoundError:
        return False


@pytest.mark.lm
def test_a_full_disk_costs_nothing_that_is_finished(tmp_path, capfd):
    if not can_mount(tmp_path):
        pytest.skip("needs Linux, and the right to mount a disk of one's own")
    folder = toy(tmp_path)
    with forks() as saematch:
        assert saematch(arguments(folder, "whole")) == 0
    whole = results(folder, "whole")
    begin(folder, "out")
    (folder / "out").mkdir()
    with forks(within=OWN) as saematch:
        saematch(["--version"])
        seen = Path(f"/proc/{saematch.pid}/root") / folder.relative_to("/")  # the folder as that process sees it
        mount = lambda *how: subprocess.run(
            [*ENTER, str(saematch.pid), "mount", *how, folder / "out"], check=True, capture_output=True
        )
        mount("-t", "tmpfs", "-o", "size=16k", "none")
        before, run = {}, arguments(folder, "out")
        for size in ("16k", "100k", *["400k"] * LONG):
            mount("-o", f"remount,rw,size={size}")
            capfd.readouterr()
            assert saematch(run) == 1, "it ran through"
            said = capfd.readouterr().err
            assert "No space left on device; free some space and run again" in said and str(folder / "out") in said
            there = results(seen, "out")
            assert before.keys() <= there.keys() and not differing(before, {k: there[k] for k in before})
            assert not [*(seen / "out").rglob("*.tmp")]
            before = {k: v for k, v in there.items() if k.startswith("matches/")}
        assert before
        mount("-o", "remount,ro")
        assert saematch(run) == 1
        assert f"cannot write {folder / 'out'}: Read-only file system" in capfd.readouterr().err
        mount("-o", "remount,rw,size=50m")
        assert saematch(run) == 0
        assert not (differ := differing(results(seen, "out"), whole)), differ
