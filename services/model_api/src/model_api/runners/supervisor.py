"""Keeps the runners of a host in step with the state: ``Supervisor``."""

import logging
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from model_api.common.guard import Guard
from model_api.common.runners import (
    CONTROL,
    Complaint,
    RunnerStatus,
    socket_of,
    write_statuses,
)
from model_api.common.state import State, StateFolder
from model_api.model.manifest import needs_runner
from model_api.runners.runner import Command, Runner
from model_api.sandbox import bubblewrap
from model_api.sandbox.limits import Limits

logger = logging.getLogger(__name__)

# The runner of a version that has just stopped serving may still be answering.
GRACE_SECONDS = 30.0
_TICK_SECONDS = 0.1
_FILE_BYTES = 64 * 2**20


class _Wanted(NamedTuple):
    """A prepared version; ``needed`` says whether there may be requests for it."""

    folder: Path
    needed: bool
    memory: int
    network: bool


class Supervisor:
    """Starts the runners that the state needs, watches them, and ends the others.

    Args:
        folder: the folder of the state.
        directory: the directory of the sockets and the runners' statuses; it exists.
        command: returns the command that starts a runner.
        start_seconds: limit for a runner to become ready.
        networked: the models whose runners have the host's network.
    """

    def __init__(
        self,
        folder: StateFolder,
        directory: Path,
        command: Command,
        start_seconds: float,
        networked: frozenset[str] = frozenset(),
    ) -> None:
        self._folder = folder
        self._directory = directory
        self._command = command
        self._start_seconds = start_seconds
        self._networked = networked
        self._runners: dict[str, Runner] = {}
        self._unwanted_since: dict[str, float] = {}
        self._signature: object = None
        self._state = State()
        self._written: dict[str, RunnerStatus] | None = None
        control = directory / CONTROL
        with suppress(FileNotFoundError):
            control.unlink()
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._control.bind(str(control))
        control.chmod(0o660)
        self._control.setblocking(False)

    def run(self, stop: threading.Event) -> None:
        """Run until told to stop; then end all runners."""
        looking = Guard("watching the runners", logger)
        try:
            while not stop.is_set():
                with looking:
                    self.tick()
                stop.wait(_TICK_SECONDS)
        finally:
            for runner in self._runners.values():
                runner.end()

    def tick(self) -> None:
        """Check once for everything that may have changed, and act on it."""
        self._read()
        self._follow()
        for complaint in self._complaints():
            if (runner := self._runners.get(complaint.folder)) is not None:
                runner.complain(complaint.seconds)
        for runner in self._runners.values():
            if runner.process is None and _connected(runner.listener):
                runner.ask()
            runner.tick()
        statuses = {name: runner.status for name, runner in self._runners.items()}
        if statuses != self._written:
            write_statuses(self._directory, statuses)
            self._written = statuses

    def _read(self) -> None:
        signature = self._folder.signature()
        if signature == self._signature:
            return
        with suppress(msgspec.MsgspecError):
            self._state = self._folder.read() or State()
        self._signature = signature

    def _follow(self) -> None:
        """Have a runner for each prepared version, and end those of removed versions."""
        wanted = {its.folder.name: its for its in self._wanted()}
        now = time.monotonic()
        for name, its in wanted.items():
            runner = self._runners.get(name)
            if runner is None:
                address = socket_of(self._directory, name)
                runner = self._runners[name] = Runner(
                    its.folder,
                    address,
                    self._command,
                    bubblewrap.environment(),
                    self._start_seconds,
                    its.memory,
                    its.network,
                )
            runner.wanted = its.needed and needs_runner(its.folder)
        for name in self._runners.keys() - wanted.keys():
            since = self._unwanted_since.setdefault(name, now)
            self._runners[name].wanted = False
            if now - since > GRACE_SECONDS:
                self._runners.pop(name).end()
        self._unwanted_since = {
            name: since
            for name, since in self._unwanted_since.items()
            if name in self._runners and name not in wanted
        }

    def _wanted(self) -> Iterator["_Wanted"]:
        """Yield each prepared version."""
        for name, model in self._state.models.items():
            named = {n for entry in model.aliases.values() for n in (entry.wanted, entry.serves)}
            for number, version in model.versions.items():
                yield _Wanted(
                    self._folder.path / version.folder,
                    number in named or version.last_used is not None,
                    version.memory,
                    # Not from the folder's manifest, which the model's own code may have written.
                    name in self._networked,
                )

    def _complaints(self) -> Iterator[Complaint]:
        with suppress(BlockingIOError):
            while True:
                content = self._control.recv(65536)
                with suppress(msgspec.MsgspecError):
                    yield msgspec.json.decode(content, type=Complaint)


def _connected(listener: socket.socket) -> bool:
    """Tell whether a connection is waiting to be accepted."""
    with selectors.SelectSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(0))


def command(memory: int) -> Command:
    """Return a function that returns the commands of this service's runners.

    Args:
        memory: the most bytes of a runner.
    """
    limits = Limits(memory, file=_FILE_BYTES)

    def of(folder: Path, listener: int, progress: int, network: bool) -> list[str]:
        return bubblewrap.command(
            "model_api.running",
            [str(folder), str(listener), str(progress)],
            writable=None,
            readable=[folder],
            limits=limits,
            network=network,
        )

    return of
