"""A process that has imported what `saematch` needs, and runs it again and again, each time in a fork of its own.

It reads lines of JSON: [arguments of the command, seconds after which to kill it, or null]. It answers each with the
exit status (-9 for a kill) and the seconds it took.
"""

import json
import os
import select
import signal
import sys
import time

import saematch.studies.report  # noqa: F401  (what takes long to import)
from saematch.studies.cli import main


def call(arguments, seconds):
    begun, child = time.monotonic(), os.fork()
    if child == 0:
        os.dup2(2, 1)  # stdout is for answers
        os._exit(main(arguments))
    ended = os.pidfd_open(child)
    if not select.select([ended], [], [], seconds)[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(ended)
    return status, time.monotonic() - begun


for line in sys.stdin:
    print(json.dumps(call(*json.loads(line))), flush=True)
