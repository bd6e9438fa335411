"""A process of the follower, which must not take processor time from requests."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

from model_api.common.endings import ending
from model_api.common.processes import adopt_orphans, end_group, has_ended, read_end

type Priority = Literal["idle", "low", "normal"]

_PR_SET_PDEATHSIG = 1
_KEPT_OUTPUT = 16 * 1024

_prctl = ctypes.CDLL(None).prctl


class Child:
    """A process that does the preparation of a version, or a part of it.

    Args:
        command: the command that it runs.
        environment: all of its variables.
        limit: seconds after which it is ended.
        priority: its share of the processor.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        limit: float,
        priority: Priority,
    ) -> None:
        self._deadline = time.monotonic() + limit
        self._late = False
        self._output = b""
        adopt_orphans()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            preexec_fn=partial(_step_back, priority, os.getpid()),
        )
        assert self._process.stderr is not None
        self._stderr = self._process.stderr.fileno()
        os.set_blocking(self._stderr, False)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def poll(self) -> bool:
        """Tell whether it has ended; this ends it if its time is over."""
        if self._process.returncode is not None:
            return True
        self._read()
        ended = has_ended(self._process)
        self._late = not ended and time.monotonic() > self._deadline
        if ended or self._late:
            self.end()
        return ended or self._late

    def end(self) -> None:
        """End it and everything that it started; a process that has ended is left alone."""
        if self._process.returncode is not None:
            return
        end_group(self._process)
        self._read()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def output(self) -> str:
        """The end of its output."""
        return self._output.decode(errors="replace").strip()

    @property
    def late(self) -> bool:
        """Whether it was ended because it took too long."""
        return self._late

    @property
    def reason(self) -> str | None:
        """Why it failed, in a sentence; None if it did not. Valid once it has ended."""
        code = self._process.returncode
        if code == 0:
            return None
        return ending(code, self.output.rsplit("\n", 1)[-1].strip())

    def _read(self) -> None:
        self._output = read_end(self._stderr, self._output, _KEPT_OUTPUT)


def _step_back(priority: Priority, follower: int) -> None:
    """Before the exec: yield to others, be killed first, and end with the follower."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The kernel sends no signal if the follower died before that call.
    if os.getppid() != follower:
        os.kill(os.getpid(), signal.SIGKILL)
    if priority != "normal":
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        # Linux weighs sessions before the processes in them (sched(7), autogroup). If units have
        # their own weights, those count instead.
        with suppress(OSError), open("/proc/self/autogroup", "w") as group:
            group.write("19")
    if priority == "idle":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
