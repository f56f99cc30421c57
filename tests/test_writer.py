# Written from nbs/01_writer.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.writer import (
    LOCK,
    EMPTY,
    MANIFEST,
    one_writer,
    write_manifest,
    note_files,
    read_manifest,
)


import multiprocessing
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError, write_json


def hold(folder, ready):
    "Write into a folder for a minute."
    with one_writer(folder):
        ready.send(True), time.sleep(60)


def test_a_second_writer_is_told_who_the_first_is():
    with tempfile.TemporaryDirectory() as folder:
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        other = fork.Process(target=hold, args=(folder, there), daemon=True)
        other.start(), here.recv()
        try:
            with one_writer(folder):
                raise AssertionError("two at once")
        except UsageError as e:
            said = str(e).replace(folder, "out").replace(platform.node(), "node1")
        assert f"is being written by process {other.pid} on" in said and "wait until it has ended" in said
        assert (Path(folder) / LOCK).exists(), "the second has not taken the lock of the first away"
        other.kill(), other.join()
        assert (Path(folder) / LOCK).exists(), "who is killed leaves a lock behind"
        with one_writer(folder), one_writer(folder):
            pass
        assert not list(Path(folder).iterdir())
    said


def test_a_lock_of_another_host_is_left_alone_and_says_how_to_remove_it():
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / LOCK
        lock.write_text("4711\nnode17\n")
        os.utime(lock, (0, 0))  # a clock that is set back or forward changes nothing
        with expect_fail(UsageError, f"on node17, since 1970-01-01 00:00:00; if it does not run any more, remove {lock}"):
            with one_writer(folder):
                pass
        lock.unlink()
        with one_writer(Path(folder) / "new") as new, one_writer(Path(folder) / "empty"):
            (new / "a").touch()
        there = sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*"))
        assert there == ["new", "new/a"], "an empty folder is not left behind"
    there


def test_an_empty_lock_is_taken_over_when_nobody_fills_it():
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / LOCK
        lock.touch()  # killed between making the file and writing into it
        begun = time.monotonic()
        with one_writer(folder):
            waited = time.monotonic() - begun
            assert lock.read_text().startswith(f"{os.getpid()}\n") and waited > EMPTY
        assert not list(Path(folder).iterdir())
        lock.touch()
        threading.Timer(0.3, lock.write_text, ["4711\nnode17\n"]).start()  # a slow one, and no dead one
        with expect_fail(UsageError, "is being written by process 4711 on node17"):
            with one_writer(folder):
                pass
        assert lock.exists()
    f"taken over after {waited:.0f} s"


def test_two_threads_are_two_writers():
    with tempfile.TemporaryDirectory() as folder:
        said = []

        def second():
            try:
                with one_writer(folder):
                    said.append("came in")
            except UsageError as e:
                said.append(str(e))

        with one_writer(folder):
            thread = threading.Thread(target=second)
            thread.start(), thread.join()
        assert f"by this process ({os.getpid()})" in said[0]


def test_a_manifest_lists_what_is_there_and_any_changed_byte_of_it_is_seen():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_json(folder / "a.json", dict(x=1)), (folder / "b").mkdir(), (folder / "b" / "c.png").write_bytes(b"picture")
        manifest = write_manifest(folder, dict(q=0.05))
        assert read_manifest(folder) == manifest and list(manifest["files"]) == ["a.json", "b/c.png"]
        (folder / "b" / "c.png").write_bytes(b"another")
        (folder / "d.html").write_text("page")
        note_files(folder, folder / "d.html")
        now = read_manifest(folder)["files"]
        assert now["b/c.png"] == manifest["files"]["b/c.png"], "only what is noted is summed again"
        assert list(now) == ["a.json", "b/c.png", "d.html"] and now["d.html"]["bytes"] == 4
        whole, found = (folder / MANIFEST).read_bytes(), 0
        places = range(0, len(whole), 7)
        for place in places:
            (folder / MANIFEST).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                read_manifest(folder)
            except ValueError:
                found += 1
        assert found == len(places)
    f"{found:,} of {len(places):,} changed bytes refused"
