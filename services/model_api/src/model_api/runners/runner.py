"""One version's runner: a process in a sandbox, started, watched, ended and started again."""

import logging
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from model_api.common.backoff import back_off
from model_api.common.endings import ending
from model_api.common.memory import free_memory
from model_api.common.processes import adopt_orphans, end_group, has_ended, read_end
from model_api.common.runners import RunnerStatus
from model_api.sandbox.limits import MIB

logger = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.5, 60.0
# After this many deaths without a healthy period in between, it counts as failed until it is ready.
GIVEN_UP = 3
# A runner that has lived for this long is healthy.
WELL_SECONDS = 60.0
# A runner that is no longer needed, and has answered nothing for this long, is ended. Until then a
# rollback to its version needs no start.
IDLE_SECONDS = 600.0
# Wait before the retry of a runner that had too little memory.
FULL_SECONDS = 10.0
_BACKLOG = 128
_KEPT_OUTPUT = 4096


class Command(Protocol):
    """Returns the command of a runner."""

    def __call__(self, folder: Path, listener: int, progress: int, network: bool) -> Sequence[str]:
        """Return the command for a version's folder and the numbers of two open files.

        ``network`` tells whether it has the host's network.
        """


class Runner:
    """The runner of one version.

    Args:
        folder: the version's folder.
        address: the address of the socket that workers connect to.
        command: returns the command that starts it.
        environment: all of its variables.
        start_seconds: limit for it to become ready.
        memory: the most bytes that its version used during preparation.
        network: whether it has the host's network.

    Attributes:
        wanted: whether it should run even without requests.
    """

    def __init__(
        self,
        folder: Path,
        address: Path,
        command: Command,
        environment: Mapping[str, str],
        start_seconds: float,
        memory: int = 0,
        network: bool = False,
    ) -> None:
        self.folder = folder
        self._memory = memory
        self._network = network
        self.wanted = False
        self.status = RunnerStatus("idle")
        self._address = address
        self._command = command
        self._environment = environment
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._progress = -1
        self._started_at = self._ready_at = self._heard_at = 0.0
        self._retry_at = 0.0
        self._needed_at = 0.0
        self._asked = False
        with suppress(FileNotFoundError):
            address.unlink()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(address))
        address.chmod(0o660)
        self.listener.listen(_BACKLOG)

    @property
    def process(self) -> int | None:
        """The number of its process, if it runs."""
        return self._process.pid if self._process is not None else None

    def ask(self) -> None:
        """Make it run, because a worker has connected."""
        self._asked = True

    def complain(self, seconds: float) -> None:
        """End it if it has made no progress for as long as a worker has waited."""
        now = time.monotonic()
        self._read()
        if self.status.state == "ready" and now - self._heard_at >= seconds:
            self._died(f"it did not answer for {seconds:g} s")

    def tick(self) -> None:
        """Check on it, and start it if it should run."""
        now = time.monotonic()
        if self.wanted:
            self._needed_at = now
        if self._process is not None:
            self._watch(now)
            if now - max(self._needed_at, self._heard_at) > IDLE_SECONDS:
                self._stop()
                self.status = RunnerStatus("idle")
        elif (self.wanted or self._asked) and now >= self._retry_at:
            self._start(now)

    def end(self) -> None:
        """End its process and everything that it started, and accept no more connections."""
        self._stop()
        self.listener.close()
        with suppress(FileNotFoundError):
            self._address.unlink()

    def _start(self, now: float) -> None:
        if (free := free_memory()) < self._memory:
            # Otherwise the kernel would kill another process for it, perhaps one that serves.
            needs = f"it needs {self._memory // MIB} MiB of memory, and {free // MIB} MiB are free"
            self._retry_at = now + FULL_SECONDS
            self.status = RunnerStatus("failed", needs, self.status.deaths)
            return
        progress, telling = os.pipe()
        os.set_blocking(progress, False)
        adopt_orphans()
        try:
            self._process = subprocess.Popen(
                self._command(self.folder, self.listener.fileno(), telling, self._network),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment,
                pass_fds=(self.listener.fileno(), telling),
                start_new_session=True,
            )
        except OSError as error:
            os.close(progress)
            self._died(f"it could not be started: {error.strerror}")
            return
        finally:
            os.close(telling)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        self._output = b""
        self._progress = progress
        self._asked = False
        self._started_at = self._heard_at = now
        self.status = RunnerStatus("starting", self.status.reason, self.status.deaths)

    def _watch(self, now: float) -> None:
        heard = self._read()
        assert self._process is not None
        if has_ended(self._process):
            end_group(self._process)
            self._read()
            self._died(self._reason(self._process.returncode))
        elif self.status.state == "starting" and heard:
            self._ready_at = now
            self.status = RunnerStatus("ready", self.status.reason, self.status.deaths)
            logger.info("%s: its runner is ready", self.folder.name)
        elif self.status.state == "starting" and now - self._started_at > self._start_seconds:
            self._died(f"it was not ready after {self._start_seconds:g} s")
        elif self.status.deaths and heard and now - self._ready_at > WELL_SECONDS:
            self.status = RunnerStatus("ready")

    def _read(self) -> bool:
        """Read its output and its progress; tell whether there was progress."""
        if self._process is None:
            return False
        assert self._process.stderr is not None
        self._output = read_end(self._process.stderr.fileno(), self._output, _KEPT_OUTPUT)
        heard = bool(read_end(self._progress, b"", 1))
        if heard:
            self._heard_at = time.monotonic()
        return heard

    def _reason(self, status: int) -> str:
        was_ready = self.status.state == "ready"
        said = self._output.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        how = ending(status, said)
        return f"it ends the process that answers for it: {how}" if was_ready else how

    def _died(self, reason: str) -> None:
        self._stop()
        deaths = self.status.deaths + 1
        self._retry_at = time.monotonic() + back_off(FIRST_BACK_OFF, deaths, LONGEST_BACK_OFF)
        self.status = RunnerStatus("failed" if deaths >= GIVEN_UP else "starting", reason, deaths)
        logger.warning("%s: its runner has died (%d): %s", self.folder.name, deaths, reason)

    def _stop(self) -> None:
        if self._process is None:
            return
        end_group(self._process)
        assert self._process.stderr is not None
        self._process.stderr.close()
        os.close(self._progress)
        self._process = None
