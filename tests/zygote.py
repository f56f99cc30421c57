"""A process that runs `saematch` again and again, each time in a fork of its own, which then has nothing to import.

It reads lines of JSON, the arguments of a command, and answers each with the number of the process at once, and with
its exit status (-9 for a kill) when it has ended. What the first command has imported it imports for all others; it
does no work itself, for threads do not survive a fork. `unpainted` as argument: figures are made and not painted.
"""

import importlib
import json
import os
import signal
import sys
from contextlib import suppress

import saematch.studies.run  # noqa: F401
from saematch.studies.cli import main


def call(arguments, modules):
    "The command in a process of its own: its number, and at last its exit status. What it imported is written down."
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # stdout is for answers
        status = main(arguments)
        os.write(modules, "\n".join(sys.modules).encode())
        os._exit(status)
    print(child, flush=True)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


signal.signal(signal.SIGINT, signal.default_int_handler)  # shells begin what runs in the background with it ignored
if sys.argv[1:] == ["unpainted"]:
    from matplotlib.figure import Figure
    from PIL import Image

    blank = Image.new("RGB", (1, 1))
    Figure.savefig = lambda fig, file, **_: blank.save(file, "png")
known = os.memfd_create("modules")
for line in sys.stdin:
    status = call(json.loads(line), known)
    for name in os.pread(known, 2**20, 0).decode().split() if status == 0 and "scipy.stats" not in sys.modules else ():
        with suppress(Exception):
            importlib.import_module(name)
    print(status, flush=True)
