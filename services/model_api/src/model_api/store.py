"""The models that serve, kept in step with the registry by a thread of their own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from model_api.model import Model
from model_api.registry import Registry

logger = logging.getLogger(__name__)

_LONGEST_BACK_OFF = 60.0


class UnknownModel(LookupError):
    """The registry has no such model, or the alias names none of its versions."""


class NotLoaded(LookupError):
    """There may be such a model, but none of its versions is in memory."""


@dataclass(frozen=True)
class Failure:
    """A version that could not be made to serve.

    Attributes:
        version: which.
        reason: why.
        attempts: how often it was tried.
        retry_at: when to try again, by the store's clock.
    """

    version: str
    reason: str
    attempts: int
    retry_at: float


@dataclass(frozen=True)
class Entry:
    """One registered model: what serves, what served before, and what failed since."""

    wanted: str
    serving: Model | None = None
    previous: Model | None = None
    failure: Failure | None = None


class ModelStore:
    """Follows the registry's alias; readers never wait for it.

    The thread alone writes, and replaces whole entries, so a reader needs no lock and sees either
    the old model or the new one.

    Args:
        registry: where models come from.
        poll_seconds: how long to wait between two looks at the registry.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        registry: Registry,
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._known: frozenset[str] = frozenset()
        self._registry_error: str | None = "the registry has not been asked yet"
        # Whether every model that the registry first named has been tried.
        self._settled = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-poller", daemon=True)

    def start(self) -> None:
        """Start to follow the registry."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to follow it; does not wait for a call to the registry that is under way."""
        self._stop.set()

    @property
    def registry_error(self) -> str | None:
        """Why the registry did not answer the last time; None if it did."""
        return self._registry_error

    @property
    def ready(self) -> bool:
        """Whether every model has been tried once, and the registry answers or a model can."""
        return self._settled and (
            self._registry_error is None or any(e.serving for e in self._entries.values())
        )

    def get(self, name: str) -> Model:
        """Return the model that serves under that name.

        Raises:
            UnknownModel: there is none; the message lists those there are.
            NotLoaded: there should be one, but it is not in memory, or the registry is away.
        """
        entry = self._entries.get(name)
        if entry is not None and entry.serving is not None:
            return entry.serving
        if self._registry_error is not None:
            raise NotLoaded(f"the registry does not answer: {self._registry_error}")
        if entry is not None:
            failed = entry.failure
            raise NotLoaded(
                f"version {failed.version} of {name!r} cannot serve: {failed.reason}"
                if failed
                else f"version {entry.wanted} of {name!r} is being loaded"
            )
        if name in self._known:
            raise UnknownModel(f"no version of {name!r} has the alias that serves")
        served = ", ".join(sorted(self._entries)) or "none"
        raise UnknownModel(f"there is no model {name!r}; there are: {served}")

    def describe(self) -> list[dict[str, Any]]:
        """Return what serves, and what does not, as JSON; one object a model, by name."""
        return [_describe(name, entry) for name, entry in sorted(self._entries.items())]

    def poll(self) -> None:
        """Look at the registry once, and load what its aliases name."""
        try:
            champions = self._registry.champions()
        except Exception as error:
            if self._registry_error != str(error):
                logger.warning("the registry does not answer: %s", error)
            self._registry_error = str(error)
            return
        if self._registry_error is not None:
            logger.info("the registry answers")
        wanted = {name: version for name, version in champions.items() if version is not None}
        for name in self._entries.keys() - wanted.keys():
            logger.warning("%s: no version has the alias any more, it no longer serves", name)
        # Entries first: a model that is about to be loaded is not an unknown one.
        self._entries = {
            name: replace(self._entries.get(name) or Entry(version), wanted=version)
            for name, version in wanted.items()
        }
        self._known = frozenset(champions)
        self._registry_error = None
        for name in wanted:
            self._follow(name)
        self._settled = True

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:
                # The thread must outlive a fault of its own: without it, no alias is followed.
                logger.exception("a look at the registry failed")
            self._stop.wait(self._poll_seconds)

    def _follow(self, name: str) -> None:
        entry = self._entries[name]
        if entry.serving is not None and entry.serving.version == entry.wanted:
            if entry.failure is not None:
                self._entries[name] = replace(entry, failure=None)
            return
        failure = entry.failure if entry.failure and entry.failure.version == entry.wanted else None
        if failure is not None and self._clock() < failure.retry_at:
            return
        try:
            model = self._obtain(name, entry)
        except Exception as error:
            self._entries[name] = replace(entry, failure=self._failed(name, entry, failure, error))
            return
        self._entries[name] = Entry(entry.wanted, serving=model, previous=entry.serving)
        logger.info("%s: version %s serves (run %s)", name, model.version, model.run_id)

    def _obtain(self, name: str, entry: Entry) -> Model:
        if entry.previous is not None and entry.previous.version == entry.wanted:
            return entry.previous
        model = self._registry.load(name, entry.wanted)
        model.rehearse()
        return model

    def _failed(
        self, name: str, entry: Entry, earlier: Failure | None, error: Exception
    ) -> Failure:
        attempts = earlier.attempts + 1 if earlier else 1
        reason = str(error) or type(error).__name__
        wait = min(self._poll_seconds * 2**attempts, _LONGEST_BACK_OFF)
        logger.warning(
            "%s: version %s cannot serve (attempt %d, next in %.0f s), %s: %s",
            name,
            entry.wanted,
            attempts,
            wait,
            f"version {entry.serving.version} goes on" if entry.serving else "none serves",
            reason,
        )
        return Failure(entry.wanted, reason, attempts, self._clock() + wait)


def _describe(name: str, entry: Entry) -> dict[str, Any]:
    model = entry.serving
    return {
        "name": name,
        "version": model.version if model else None,
        "run_id": model.run_id if model else None,
        "since": model.since.isoformat(timespec="seconds") if model else None,
        "wanted_version": entry.wanted,
        "last_error": (
            {"version": entry.failure.version, "reason": entry.failure.reason}
            if entry.failure
            else None
        ),
        "signature": model.schema.describe() if model else None,
        "example": model.example_rows()[0] if model else None,
    }
