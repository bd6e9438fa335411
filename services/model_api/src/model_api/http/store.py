"""The versions in one worker's memory, which a thread keeps in step with the state."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import msgspec

from model_api.common.backoff import back_off
from model_api.common.guard import Guard
from model_api.common.runners import RunnerStatus, read_statuses
from model_api.common.state import State, StateFolder
from model_api.http import listing
from model_api.http.absence import Absence, Key, OpenFailure, exists
from model_api.model.manifest import needs_runner
from model_api.model.untyped import JsonObject
from model_api.model.version import Version, open_confined, open_version

logger = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 2.0, 60.0
# How often the store reports that a version is in use by its number.
USE_SECONDS = 60.0
# The follower writes every ten seconds; one that is silent for this long is not running.
SILENT = timedelta(seconds=60)
# Seconds after which the thread that opens a version yields the interpreter to waiting requests,
# instead of Python's usual 5 ms. Measured: see README.md.
SWITCH_SECONDS = 0.00002


@dataclass(frozen=True)
class Opened:
    """A version in memory, and its origin."""

    version: Version
    folder: str


class Store:
    """The versions in memory. Readers never wait and need no lock.

    Only the thread writes. It replaces whole mappings, so that a reader sees either the old or the
    new one. A version is freed when the last request that uses it is done.

    Args:
        folder: the folder of the state, which the follower writes.
        interval: seconds between two reads of the state.
        opener: opens a prepared folder.
        runners: directory of the runners' sockets; without one, this process runs all models.
    """

    def __init__(
        self,
        folder: Path,
        interval: float = 0.2,
        opener: Callable[[Path], Version] | None = None,
        runners: Path | None = None,
    ) -> None:
        self._folder = StateFolder(folder)
        self._interval = interval
        self._open = opener or (open_version if runners is None else open_confined)
        self._runners = runners
        self._statuses: dict[str, RunnerStatus] = {}
        self._state: State | None = None
        self._signature: object = None
        self._opened: dict[Key, Opened] = {}
        self._by_alias: MappingProxyType[Key, Version] = MappingProxyType({})
        self._by_number: MappingProxyType[Key, Version] = MappingProxyType({})
        self._failures: dict[Key, OpenFailure] = {}
        self._settled = False
        self._pending: set[Key] = set()
        self._last_reported: dict[Key, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Start following the state."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()

    def stop(self) -> None:
        """Stop following it, without waiting for a version that is being opened."""
        self._stop.set()

    # ---- for requests ---------------------------------------------------------------------------
    def alias(self, name: str, alias: str) -> Version:
        """Return the version that serves under an alias.

        Raises:
            UnknownModel: it does not exist; the message lists what exists.
            NotLoaded: it is not in memory yet, or the registry is unreachable.
        """
        try:
            return self._by_alias[name, alias]
        except KeyError:
            raise self._absence().of_alias(name, alias) from None

    def version(self, name: str, number: str) -> Version:
        """Return a version by its number; request it from the follower if it is not in memory.

        Raises:
            UnknownModel: it does not exist.
            NotLoaded: it is not in memory yet; retry later.
        """
        version = self._by_number.get((name, number))
        if version is None:
            model = self._state.models.get(name) if self._state else None
            if model is not None and exists(model, number):
                self._pending.add((name, number))
            raise self._absence().of_version(name, number)
        self._pending.add((name, number))
        return version

    # ---- what it is like ------------------------------------------------------------------------
    @property
    def polled_at(self) -> datetime | None:
        """When the follower last polled the registry; None if unknown."""
        return self._state.polled_at if self._state else None

    @property
    def registry_error(self) -> str | None:
        """Why the registry was unreachable at the last poll; None if it was reachable."""
        state = self._state
        if state is None or state.polled_at is None:
            return "the registry has not been polled yet"
        if datetime.now(UTC) - state.polled_at > SILENT:
            return (
                f"not polled since {state.polled_at:%Y-%m-%d %H:%M:%S} UTC:"
                " is model-api-follower running?"
            )
        return state.registry_error

    @property
    def ready(self) -> bool:
        """Whether every version was tried once, and the registry is reachable or one serves."""
        return self._settled and (self.registry_error is None or bool(self._by_alias))

    @property
    def loading(self) -> bool:
        """Whether there are versions to open that have not been tried yet."""
        if self._state is None:
            return self._folder.file.exists()
        return any(key not in self._opened and key not in self._failures for key in self._wanted())

    @property
    def not_ready_reason(self) -> str | None:
        """Why the store is not ready; None if it is."""
        if self.ready:
            return None
        if (error := self.registry_error) and not self._by_alias:
            return f"no model is loaded, and the registry is unreachable: {error}"
        return "the models are being loaded"

    def describe(self) -> list[JsonObject]:
        """Return every model with a followed alias or a version in memory; see `listing`."""
        return listing.describe(
            self._state or State(), self._by_alias, self._by_number, self._failures
        )

    def _absence(self) -> Absence:
        return Absence(self._state or State(), self.registry_error, self._failures)

    # ---- the thread -----------------------------------------------------------------------------
    def _run(self) -> None:
        # No alias is followed without this loop.
        looking = Guard("following the state", logger)
        while not self._stop.is_set():
            with looking:
                self.look()
            self._stop.wait(self._interval)

    def look(self) -> None:
        """Bring the versions in memory in step with the state."""
        self._pass_on_requests()
        self._read()
        if self._runners is not None:
            self._statuses = read_statuses(self._runners)
        if self._state is None:
            return
        while (missing := self._missing()) is not None and not self._stop.is_set():
            self._load(*missing)
            self._publish()
            # While a large version was opened, the alias may have moved.
            self._read()
        self._publish()
        self._settled = self._settled or self._all_tried()

    def _read(self) -> None:
        signature = self._folder.signature()
        if signature == self._signature:
            return
        try:
            state = self._folder.read()
        except msgspec.MsgspecError as error:
            logger.error(
                "%s is not a state, the loaded versions stay: %s", self._folder.file, error
            )
            state = self._state
        self._signature = signature
        if state is not None:
            self._state = state

    def _wanted(self) -> dict[Key, str]:
        """Return the folder of each version that should be in memory."""
        assert self._state is not None
        wanted = {}
        for name, model in self._state.models.items():
            serve = {entry.serves for entry in model.aliases.values()}
            for number, prepared in model.versions.items():
                if number in serve or prepared.last_used is not None:
                    wanted[name, number] = prepared.folder
        return wanted

    def _missing(self) -> tuple[Key, str] | None:
        for key, folder in self._wanted().items():
            opened = self._opened.get(key)
            if opened is not None and opened.folder == folder:
                continue
            if self._awaits_runner(folder):
                continue
            trouble = self._failures.get(key)
            if trouble is None or trouble.folder != folder or time.monotonic() > trouble.retry_at:
                return key, folder
        return None

    def _awaits_runner(self, folder: str) -> bool:
        """Tell whether only a runner can answer for a version, and is not ready yet."""
        if self._runners is None or not needs_runner(self._folder.path / folder):
            return False
        status = self._statuses.get(Path(folder).name)
        return status is None or status.state not in ("ready", "failed")

    def _load(self, key: Key, folder: str) -> None:
        name, number = key
        try:
            version = self._open(self._folder.path / folder)
        except (Exception, SystemExit) as error:
            # A model's code may also try to end the process, which must not end this loop.
            earlier = self._failures.get(key)
            attempts = earlier.attempts + 1 if earlier and earlier.folder == folder else 1
            wait = back_off(FIRST_BACK_OFF, attempts, LONGEST_BACK_OFF)
            reason = str(error) or type(error).__name__
            now = datetime.now(UTC)
            self._failures[key] = OpenFailure(
                folder, reason, attempts, now, time.monotonic() + wait
            )
            logger.warning("%s: version %s cannot be opened: %s", name, number, reason)
            return
        self._failures.pop(key, None)
        self._opened[key] = Opened(version, folder)
        logger.info("%s: version %s is loaded", name, number)

    def _publish(self) -> None:
        """Publish the versions that should serve; drop those that are no longer needed."""
        assert self._state is not None
        wanted = self._wanted()
        by_alias: dict[Key, Version] = {}
        for name, model in self._state.models.items():
            for alias, entry in model.aliases.items():
                if entry.serves is None:
                    continue
                opened = self._opened.get((name, entry.serves))
                if opened is not None:
                    by_alias[name, alias] = opened.version
                elif (name, alias) in self._by_alias:
                    # The earlier version continues to serve until the new one is open.
                    by_alias[name, alias] = self._by_alias[name, alias]
        kept = wanted.keys() | self._retained_for_rollback()
        self._opened = {key: opened for key, opened in self._opened.items() if key in kept}
        self._failures = {key: t for key, t in self._failures.items() if key in wanted}
        by_number = {key: opened.version for key, opened in self._opened.items()}
        # Requests can also name a serving version by its number.
        for (name, _), version in by_alias.items():
            by_number.setdefault((name, version.number), version)
        self._by_alias = MappingProxyType(by_alias)
        self._by_number = MappingProxyType(by_number)

    def _retained_for_rollback(self) -> set[Key]:
        """Return the previous versions that are small, so that a rollback costs requests nothing.

        While a version is being opened, it holds the interpreter, and requests wait.
        """
        assert self._state is not None
        before = {
            (name, entry.previous)
            for name, model in self._state.models.items()
            for entry in model.aliases.values()
            if entry.previous is not None
        }
        return {key for key in before & self._opened.keys() if self._opened[key].version.compiled}

    def _all_tried(self) -> bool:
        assert self._state is not None
        if self._state.polled_at is None:
            return False
        tried = self._opened.keys() | self._failures.keys()
        return all(
            entry.failure is not None if entry.serves is None else (name, entry.serves) in tried
            for name, model in self._state.models.items()
            for entry in model.aliases.values()
        )

    def _pass_on_requests(self) -> None:
        """Regularly tell the follower which versions requests ask for by number."""
        pending, self._pending = self._pending, set()
        now = time.monotonic()
        for key in pending:
            known = key in self._by_number
            if now - self._last_reported.get(key, -USE_SECONDS) >= (USE_SECONDS if known else 1.0):
                self._folder.request_version(*key)
                self._last_reported[key] = now
        self._last_reported = {
            key: at for key, at in self._last_reported.items() if now - at < USE_SECONDS
        }
