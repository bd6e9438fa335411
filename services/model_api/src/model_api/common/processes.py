"""Ends processes and everything that they started."""

import ctypes
import os
import signal
import subprocess
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of its children's orphans, instead of systemd."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that leads a group, and return once the whole group has ended.

    The first process in a sandbox ends after all others in it.
    """
    # Before waiting for it: until then no other group can get its number.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)
