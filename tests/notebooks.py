"""Notebooks executed as `nbdev_test` does, each in a process of its own.

The processes are forked from one that has imported the large packages, so that 35 notebooks do not import them again.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import sys
from pathlib import Path
from unittest import mock

SKIPPED = ["slow", "gpu", "lm"]
IMPORTED = [
    "nbdev.test",
    "fastcore.test",
    "torch",
    "scipy.optimize",
    "pandas",
    "seaborn",
    "safetensors.torch",
    "jaxtyping",
]


def execute(notebook: Path, said: Path):
    "Run the cells in this process; what they say goes to the file `said`. Exits with 1 if one fails."
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    from nbdev.test import test_nb

    passed, _ = test_nb(notebook, SKIPPED)
    sys.exit(0 if passed else 1)


def run(notebook: Path, said: Path, limit: float = 900):
    "The exit code of a process that executes the notebook, None if it takes more than `limit` seconds."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=execute, args=(notebook, said))
    with mock.patch.dict(os.environ, MPLBACKEND="agg"):  # of the process that they are forked from
        process.start()
    process.join(limit)
    code = process.exitcode
    if code is None:
        process.kill()
    return code
