"""Tells whether a version's runner is ready: before that, the version must not serve."""

import time
from pathlib import Path

from model_api.common.runners import RunnerStatus, read_statuses
from model_api.model.manifest import needs_runner

# The process that starts runners looks ten times a second.
MISSING_SECONDS = 60.0
_READY, _AWAITED = RunnerStatus("ready"), RunnerStatus("starting")
_MISSING = RunnerStatus(
    "failed", "no runner has been started for it: is model-api-runners running on this host?"
)


class RunnerGate:
    """The statuses of the runners that versions wait for.

    Args:
        directory: the directory of the runners' sockets; None if no version needs a runner.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._statuses: dict[str, RunnerStatus] = {}
        self._missing_since: dict[str, float] = {}

    def look(self) -> None:
        """Read the current statuses."""
        if self._directory is not None:
            self._statuses = read_statuses(self._directory)

    def status(self, folder: Path) -> RunnerStatus:
        """Return the status of a prepared version's runner; "ready" if it needs none."""
        if self._directory is None or not needs_runner(folder):
            return _READY
        status = self._statuses.get(folder.name)
        if status is not None:
            self._missing_since.pop(folder.name, None)
            return status
        now = time.monotonic()
        since = self._missing_since.setdefault(folder.name, now)
        return _MISSING if now - since > MISSING_SECONDS else _AWAITED
