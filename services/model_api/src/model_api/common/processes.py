"""Ends processes and everything that they started."""

import ctypes
import os
import signal
import subprocess
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36
_MOST_READS = 64


def adopt_orphans() -> None:
    """Make this process the parent of its children's orphans, instead of systemd."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Tell whether a process has ended, without waiting for it: its number stays taken."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return process.returncode is not None or os.waitid(os.P_PID, process.pid, flags) is not None


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that leads a group, and return once the whole group has ended.

    The first process in a sandbox ends after all others in it. A group whose leader was waited for
    is left alone, because another group may have its number.
    """
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)


def read_end(descriptor: int, end: bytes, keep: int) -> bytes:
    """Return the end of a process's output, with the output that has arrived since.

    Args:
        descriptor: a pipe, in non-blocking mode.
        end: the end of the earlier output.
        keep: the most bytes to return.
    """
    with suppress(BlockingIOError):
        # A limited number of reads: the process may write without end.
        for _ in range(_MOST_READS):
            if not (chunk := os.read(descriptor, 64 * 1024)):
                break
            end = (end + chunk)[-keep:]
    return end
