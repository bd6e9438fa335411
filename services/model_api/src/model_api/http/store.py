"""What one worker has in memory, kept in step with the state by a thread of its own."""

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
from model_api.common.state import State, StateFolder
from model_api.http import listing
from model_api.http.absence import Absence, Key, OpenFailure, exists
from model_api.model.untyped import JsonObject
from model_api.model.version import Version, open_version

logger = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 2.0, 60.0
# How often a version that is in use by its number says so.
USE_SECONDS = 60.0
# The follower writes every ten seconds; one that is silent for so long is not there.
SILENT = timedelta(seconds=60)
# Whoever waits for the interpreter, such as the requests, gets it from the thread that opens a
# version after so many seconds, and not after Python's usual 5 ms. Measured: see README.md.
SWITCH_SECONDS = 0.00002


@dataclass(frozen=True)
class Opened:
    """A version in memory, and where it came from."""

    version: Version
    folder: str


class Store:
    """The versions in memory. Readers never wait and need no lock.

    The thread alone writes, and replaces whole mappings: a reader sees what was or what is. A
    version is freed when the last request that got hold of it is done.

    Args:
        folder: of the state, which the follower writes.
        interval: seconds between two looks at it.
        opener: opens a prepared folder.
    """

    def __init__(
        self,
        folder: Path,
        interval: float = 0.2,
        opener: Callable[[Path], Version] = open_version,
    ) -> None:
        self._folder = StateFolder(folder)
        self._interval = interval
        self._open = opener
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
        """Start to follow the state."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()

    def stop(self) -> None:
        """Stop to follow it; does not wait for a version that is being opened."""
        self._stop.set()

    # ---- for requests ---------------------------------------------------------------------------
    def alias(self, name: str, alias: str) -> Version:
        """Return the version that serves under an alias.

        Raises:
            UnknownModel: there is none; the message says what there is.
            NotLoaded: it is not in memory yet, or the registry is away.
        """
        try:
            return self._by_alias[name, alias]
        except KeyError:
            raise self._absence().of_alias(name, alias) from None

    def version(self, name: str, number: str) -> Version:
        """Return a version by its number; one that is not in memory is asked for.

        Raises:
            UnknownModel: there is none.
            NotLoaded: it is not in memory yet: to be asked for again.
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
        """When the follower last asked the registry, as far as it has said."""
        return self._state.polled_at if self._state else None

    @property
    def registry_error(self) -> str | None:
        """Why the registry was unreachable the last time; None if it was not."""
        state = self._state
        if state is None or state.polled_at is None:
            return "the registry has not been asked yet"
        if datetime.now(UTC) - state.polled_at > SILENT:
            return (
                f"not polled since {state.polled_at:%Y-%m-%d %H:%M:%S} UTC:"
                " is model-api-follower running?"
            )
        return state.registry_error

    @property
    def ready(self) -> bool:
        """Whether every version has been tried once, and the registry answers or one serves."""
        return self._settled and (self.registry_error is None or bool(self._by_alias))

    @property
    def loading(self) -> bool:
        """Whether there are versions to be opened that have not been tried yet."""
        if self._state is None:
            return self._folder.file.exists()
        return any(key not in self._opened and key not in self._failures for key in self._wanted())

    @property
    def not_ready_reason(self) -> str | None:
        """Why it is not ready; None if it is."""
        if self.ready:
            return None
        if (error := self.registry_error) and not self._by_alias:
            return f"no model is loaded, and the registry is unreachable: {error}"
        return "the models are being loaded"

    def describe(self) -> list[JsonObject]:
        """Return every model that has a followed alias or a version in memory; see `listing`."""
        return listing.describe(
            self._state or State(), self._by_alias, self._by_number, self._failures
        )

    def _absence(self) -> Absence:
        return Absence(self._state or State(), self.registry_error, self._failures)

    # ---- the thread -----------------------------------------------------------------------------
    def _run(self) -> None:
        # Without the thread no alias is followed.
        looking = Guard("following the state", logger)
        while not self._stop.is_set():
            with looking:
                self.look()
            self._stop.wait(self._interval)

    def look(self) -> None:
        """Bring what is in memory in step with the state."""
        self._pass_on_requests()
        self._read()
        if self._state is None:
            return
        while (missing := self._missing()) is not None and not self._stop.is_set():
            self._load(*missing)
            self._publish()
            # While a large one was opened, the alias may have moved on.
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
            logger.error("%s is not a state, all stays as it is: %s", self._folder.file, error)
            state = self._state
        self._signature = signature
        if state is not None:
            self._state = state

    def _wanted(self) -> dict[Key, str]:
        """Return the folder of each version that is to be in memory."""
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
            trouble = self._failures.get(key)
            if trouble is None or trouble.folder != folder or time.monotonic() > trouble.retry_at:
                return key, folder
        return None

    def _load(self, key: Key, folder: str) -> None:
        name, number = key
        try:
            version = self._open(self._folder.path / folder)
        except (Exception, SystemExit) as error:
            # A model's code may also ask to end the process: that is no reason to follow no more.
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
        """Let requests see what is to serve; drop what is not to be in memory any more."""
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
                    # What served goes on until the new one is open.
                    by_alias[name, alias] = self._by_alias[name, alias]
        kept = wanted.keys() | self._retained_for_rollback()
        self._opened = {key: opened for key, opened in self._opened.items() if key in kept}
        self._failures = {key: t for key, t in self._failures.items() if key in wanted}
        by_number = {key: opened.version for key, opened in self._opened.items()}
        # What serves under an alias can be asked for by its number, too.
        for (name, _), version in by_alias.items():
            by_number.setdefault((name, version.number), version)
        self._by_alias = MappingProxyType(by_alias)
        self._by_number = MappingProxyType(by_number)

    def _retained_for_rollback(self) -> set[Key]:
        """Return what served before, where it is small: going back then costs requests nothing.

        While a version is opened it has the interpreter, which requests wait for.
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
        """Tell the follower which versions are asked for by their numbers, now and then."""
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
