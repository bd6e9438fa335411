"""Prepares one version in a process of its own, which may take no time from requests.

Loading a model runs its code: it may hang, take all memory or end the process. The child may.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

type Priority = Literal["idle", "low", "normal"]

_PR_SET_PDEATHSIG = 1
_LONGEST_REASON = 500
_KEPT_OUTPUT = 16 * 1024

_prctl = ctypes.CDLL(None).prctl


class Child:
    """A version that is being prepared.

    Args:
        command: prepares a version, given its model's name, its number, and the folder.
        name: of the model.
        number: of its version.
        folder: where it is to be; it does not exist yet.
        limit: seconds that it may take.
        priority: what it gets of the processor.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        number: str,
        folder: Path,
        limit: float,
        priority: Priority,
    ) -> None:
        self.key = name, number
        self.folder = folder
        self._limit = limit
        self._deadline = time.monotonic() + limit
        self._late = False
        self._output = b""
        self._process = subprocess.Popen(
            [*command, name, number, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # The follower tries again; MLflow's client would for minutes. Converting a model may
            # take a part of the limit.
            env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
            | os.environ
            | {"MODEL_API_PREPARE_SECONDS": f"{limit:g}"},
            preexec_fn=partial(_step_back, priority, os.getpid()),
        )
        assert self._process.stderr is not None
        self._stderr = self._process.stderr.fileno()
        os.set_blocking(self._stderr, False)

    def poll(self) -> bool:
        """Tell whether it has ended; it is ended here when its time is over."""
        self._read()
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        ended = os.waitid(os.P_PID, self._process.pid, flags) is not None
        self._late = not ended and time.monotonic() > self._deadline
        if ended or self._late:
            self.end()
        return ended or self._late

    def end(self) -> None:
        """End it, with all that it has started."""
        # Before it is waited for, while no other group can have its number.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._read()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def output(self) -> str:
        """The end of what it said."""
        return self._output.decode(errors="replace").strip()

    @property
    def reason(self) -> str | None:
        """Why it failed, in a sentence; None if it did not. To be asked once it has ended."""
        code = self._process.returncode
        last = self.output.rsplit("\n", 1)[-1].strip()
        if self._late:
            return f"it was not ready after {self._limit:g} s"
        if code == 0:
            return None
        if code == -signal.SIGKILL:
            return "the process that prepared it was killed: is there memory enough?"
        if code < 0:
            return f"the process that prepared it died of {signal.Signals(-code).name}"
        return last[-_LONGEST_REASON:] or f"it ended with status {code} and no word why"

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self._stderr, 64 * 1024):
                self._output = (self._output + chunk)[-_KEPT_OUTPUT:]


def _step_back(priority: Priority, follower: int) -> None:
    """Let others go first, be killed first, and do not outlive the follower. Before the exec."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The kernel sends nothing for a follower that died before that call.
    if os.getppid() != follower:
        os.kill(os.getpid(), signal.SIGKILL)
    if priority != "normal":
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        # Linux weighs sessions before it weighs what is in them (sched(7), autogroup); where units
        # have weights of their own, theirs count instead.
        with suppress(OSError), open("/proc/self/autogroup", "w") as group:
            group.write("19")
    if priority == "idle":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
