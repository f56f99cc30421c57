"""Runs that are killed, and what they leave: a toy, the command in processes that can be killed, a comparison."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from saematch import planted, random_sae, save_sae
from saematch.ground import read_json, read_safetensors
from saematch.model.toys import random_lm
from saematch.writer import MANIFEST, read_manifest

FEW = "documents 6 loss-documents 2 fit-documents 4 length 24 features 2 feature-documents 10 batch 2".split()


def toy(folder: Path) -> Path:  # the same
    "A random language model, a suite of three layers on it, and a text."
    random_lm(folder / "lm", dtype=torch.float32, hidden_size=32, head_dim=8)
    sae = random_sae(32, 40, dtype=torch.float32)
    for layer in range(3):
        info = dict(layer=layer, hook_name=f"blocks.{layer}.hook_resid_post")
        save_sae(replace(sae, info=info), folder / "suite" / f"layer_{layer}.safetensors")
        sae = planted(sae, decoder_noise=0.3, encoder_noise=0.3, replaced=0.2, seed=layer).sae
    words = torch.randint(0, 60, (16, 30), generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "text").mkdir()
    for d, row in enumerate(words):
        (folder / "text" / f"{d:02d}.txt").write_text(" ".join(f"w{i}" for i in row))
    return folder


def asked(folder: Path, out: str, *more: str) -> list[str]:
    "The arguments of a run over the toy that judges its matches and makes cards."
    few = [f"--{word}" if i % 2 == 0 else word for i, word in enumerate(FEW)]
    of = ("--suite", folder / "suite", "--model", folder / "lm", "--text", folder / "text", "--out", folder / out)
    return [*map(str, ("run", "--evaluate", "--cards", "--jobs", 1, *of)), *few, *more]


Call = Callable[..., int]


@contextmanager
def forks(painted: bool = False, within: Sequence[str] = ()) -> Iterator[Call]:
    """`saematch` in processes of their own, quickly: a function from arguments to an exit status, -9 for a kill.

    `kill`, a function, is asked again and again whether the process is to be sent the signal `by`.
    `within`: a command that starts another, as `unshare` does; `call.pid` is the process that forks.
    """
    one = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # a fork inherits no threads
    zygote = [*within, sys.executable, Path(__file__).with_name("zygote.py"), *([] if painted else ["unpainted"])]
    with subprocess.Popen(zygote, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=one) as process:

        def answer(within: float = 600) -> int:
            assert select.select([process.stdout], [], [], within)[0], "the command does not end"
            return int(process.stdout.readline())

        def call(arguments: list[str], kill: Callable[[], bool] | None = None, by: int = signal.SIGKILL) -> int:
            process.stdin.write(f"{json.dumps(arguments)}\n".encode())
            child = answer()
            while kill is not None and Path(f"/proc/{child}").exists():
                if kill():
                    os.kill(child, by)
                    break
                time.sleep(0.03)
            return answer()

        call.pid = process.pid
        try:
            yield call
        finally:
            process.kill()


def after(folder: Path, files: int, seconds: float) -> Callable[[], bool]:
    "When to kill: so many seconds after so many files have been written, counted from now."
    begun, end = time.time_ns(), []

    def kill() -> bool:
        written = 0
        for path in folder.rglob("*"):
            with suppress(OSError):  # it was a temporary one
                written += path.stat().st_mtime_ns > begun and path.is_file()
        if not end and written >= files:
            end.append(time.monotonic() + seconds)
        return bool(end) and time.monotonic() >= end[0]

    return kill


CLOCKED = ("summary.json", "report.html", "evidence/facts.json")  # they say how long it took


def results(folder: Path, out: str) -> dict[str, object]:
    "What a run over the toy leaves behind, less what the clock has a part in: file -> bytes, or what can be compared."
    found = {}
    for path in sorted(p for at in (out, "suite") for p in (folder / at).rglob("*") if p.is_file()):
        name = path.relative_to(folder / out if path.is_relative_to(folder / out) else folder).as_posix()
        if name == MANIFEST:  # sizes and checksums
            listed = read_manifest(folder / out)["files"]
            found[name] = {k: v for k, v in listed.items() if k not in CLOCKED and not is_chunk(k)} | dict(
                all=[*listed]
            )
        elif name == "report.html":
            found[name] = re.sub(r"Time: [^<]*", "", path.read_text())
        elif name in CLOCKED:
            record = {k: v for k, v in read_json(path).items() if k != "seconds"}
            untimed = [re.sub(r"Time: .*", "", told) for told in record.get("findings", [])]
            found[name] = json.dumps(record | dict(findings=untimed))
        elif is_chunk(name):
            tensors, meta = read_safetensors(path)
            found[name] = {k: v.numpy().tobytes() for k, v in tensors.items() if k != "seconds"} | meta
        else:
            found[name] = path.read_bytes()
    return found


def is_chunk(name: str) -> bool:
    "Whether a file holds sums of an evaluation, and how long they took."
    return name.startswith("evidence/chunks/") and not Path(name).name.startswith(("firings", "cards"))


def begin(folder: Path, out: str) -> None:
    "As if nothing had been run into this folder."
    shutil.rmtree(folder / out, ignore_errors=True)
    for cards in (folder / "suite").iterdir():
        shutil.rmtree(cards) if cards.is_dir() else None


def differing(found: dict[str, object], whole: dict[str, object]) -> list[str]:
    "The files that differ, are missing, or are left over."
    return sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
