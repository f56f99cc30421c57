# Written from nbs/00_ground.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.ground import (
    KINDS,
    UsageError,
    printable,
    unknown,
    user_path,
    atomic,
    checksum,
    check_target,
    write_json,
    read_json,
    write_safetensors,
    read_safetensors,
    write_parquet,
    open_parquet,
    check_finite,
    check_kind,
    check_device,
    notebook_data,
)


import errno
import os
import pickle
import random
import tempfile
from contextlib import chdir
from pathlib import Path

import pyarrow as pa
from fastcore.test import expect_fail
from safetensors.torch import save as safetensors_bytes


def test_only_close_names_are_offered_as_close():
    many = [f"layer_{k}/width_16k" for k in range(30)]
    for name, known, said in (
        ("jacard", ["jaccard", "cosine"], "'jacard'; closest: jaccard (and 1 more)"),
        ("resid", ["smollm2-135m-resid", "gemma"], "'resid'; closest: smollm2-135m-resid (and 1 more)"),
        ("nothing", many, "'nothing'; there are: layer_0/width_16k, layer_1/width_16k, layer_2/width_16k (and 27 more)"),
        (99, [14, 19], "'99'; there are: 14, 19"),
        ("x", [], "'x'; there are: none"),
    ):
        assert str(unknown("name", name, known)) == f"unknown name {said}"
    assert str(unknown("suite", "nothing", many, far="give a folder")) == "unknown suite 'nothing'; give a folder"


def test_a_failed_write_leaves_nothing():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.txt"
        with atomic(path) as tmp:
            tmp.write_text("first")
        try:
            with atomic(path) as tmp:
                tmp.write_text("half of the sec")
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert [p.name for p in Path(folder).iterdir()] == ["result.txt"] and path.read_text() == "first"
        with expect_fail(OSError, "No space left on device; free some space and run again"):
            with atomic(path) as tmp:
                tmp.write_text("half")
                raise OSError(errno.ENOSPC, "No space left on device")
        with expect_fail(OSError, "result.txt is a file and no folder, choose another place"):
            with atomic(path / "below.txt") as tmp:
                tmp.write_text("nowhere")
        assert [p.name for p in Path(folder).iterdir()] == ["result.txt"] and path.read_text() == "first"


def test_a_pickle_is_refused_whatever_it_is_called():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(pickle.dumps({"W_enc": 1}))
        with expect_fail(ValueError, "is a Python pickle or a torch.save archive"):
            read_safetensors(path)
        path.write_bytes(safetensors_bytes({"w": torch.ones(3)}, {"format": "pt"})[:-4])
        with expect_fail(ValueError, "is no complete safetensors file"):
            read_safetensors(path)
        path.write_bytes(safetensors_bytes({"w": torch.ones(3)}, {"format": "pt"}))
        tensors, metadata = read_safetensors(path)
    tensors, metadata


def test_one_changed_byte_is_found_in_every_kind_of_file():
    rng = random.Random(0)
    kinds = {
        "t.safetensors": (
            lambda p: write_safetensors(
                p, dict(x=torch.arange(300.0), e=torch.ones(0), s=torch.ones(1).as_strided((1,), (0,))), dict(k="v")
            ),
            read_safetensors,
        ),
        "t.json": (lambda p: write_json(p, dict(x=[0.25] * 99, t=dict(a=None))), read_json),
        "t.parquet": (lambda p: write_parquet(pa.table(dict(x=range(99))), p), lambda p: open_parquet(p).read()),
    }
    said = {}
    for name, (write, read) in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            write(path := Path(folder) / name)
            whole, right = path.read_bytes(), str(read(path))
            found = 0
            for place in rng.sample(range(len(whole)), 100):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
                try:
                    read(path)
                except ValueError:
                    found += 1
            said[name] = f"{found} of 100 changed bytes refused"
            assert found >= 60, "the others change no value: white space, statistics, the name of the checksum"
    said


def test_the_message_counts_and_says_where():
    x = torch.zeros(3, 4)
    assert check_finite("x", x - 2) == 2
    x[1, 2], x[2, 0] = float("nan"), float("inf")
    with expect_fail(ValueError, "x has 1 NaN and 1 infinite of 12 values, the first at [1, 2]"):
        check_finite("x", x)


def test_a_tensor_without_numbers_is_refused():
    x = torch.ones(3, 4)
    for kind in KINDS:
        check_kind("x", x.to(kind))
    with expect_fail(TypeError, "x must be a floating-point torch tensor, it is a tensor of torch.int64"):
        check_kind("x", x.long())
    with expect_fail(TypeError, "x is a tensor of torch.float8_e4m3fn, which torch stores and does not compute with"):
        check_kind("x", x.to(torch.float8_e4m3fn))
    with expect_fail(TypeError, "x must be a dense tensor, its layout is torch.sparse_coo; give x.to_dense()"):
        check_kind("x", x.to_sparse())
    with expect_fail(TypeError, "x is on the device meta, so it has a shape and no numbers"):
        check_kind("x", x.to("meta"))


def test_a_path_of_nobody_and_names_that_are_no_text():
    with expect_fail(UsageError, "no home folder is known for ~nosuchuser"):
        user_path("~nosuchuser/saes")
    odd = Path(os.fsdecode(b"out-\xff.safetensors"))
    for use in (user_path, lambda path: check_target(path, "saematch.match"), lambda path: write_safetensors(path, {}, {})):
        with expect_fail(UsageError, "'out-\\udcff.safetensors': the name is not UTF-8 text"):
            use(odd)
    assert printable("blocks.3\x1b[2J\n") == "blocks.3\\x1b[2J\n"


def test_a_device_that_does_not_work_is_named():
    check_device("cpu")
    for device in ("cuda:99", "meta", "gpu", 2.5):
        with expect_fail(UsageError, f"cannot compute on device {str(device)!r} ("):
            check_device(device)


def test_data_is_found_from_any_folder_of_the_repository():
    assert notebook_data("hidden_states.safetensors").is_file()
    with expect_fail(FileNotFoundError, "nbs/data has no hidden_state.safetensors; it has"):
        notebook_data("hidden_state.safetensors")
    with tempfile.TemporaryDirectory() as folder, expect_fail(FileNotFoundError, "run this in a clone of the repository"):
        with chdir(folder):
            notebook_data("hidden_states.safetensors")
