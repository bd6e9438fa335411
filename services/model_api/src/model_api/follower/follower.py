"""Decides which versions serve, for all workers of a host.

The follower polls the registry for the versions that the aliases point to, has new ones prepared,
one at a time, each in its own sandbox, and writes the state, which tells the workers what to serve.
If anything fails, the serving version continues. The follower holds no model, and no request waits
for it.
"""

import hashlib
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from model_api.common.backoff import back_off
from model_api.common.guard import Guard
from model_api.common.state import (
    Alias,
    Failure,
    Model,
    Outcome,
    Prepared,
    StateFolder,
    version_number,
)
from model_api.follower.child import Priority
from model_api.follower.disk import Disk, remove, sync_tree
from model_api.follower.gate import RunnerGate
from model_api.follower.preparation import Preparation, Steps, steps
from model_api.follower.registry import Registered, Registry, RegistryError

logger = logging.getLogger(__name__)

LONGEST_BACK_OFF = 600.0
# A version that requests ask for by number is dropped after this time without a request,
UNUSED = timedelta(minutes=10)
# and makes room for another one after this time.
EVICTABLE = timedelta(minutes=2)
_TICK_SECONDS = 0.2
_LONGEST_REASON = 500
_LINES_OF_OUTPUT = 50

type Key = tuple[str, str]
"""Name of a model, number of a version."""


class Follower:
    """Decides which versions serve, at each `tick`.

    Args:
        registry: the registry that has the aliases.
        folder: the folder of the state; nothing else writes to it.
        aliases: the aliases to follow.
        incompatible: takes the folders of a new version and the serving one, and returns the reason
            why the new one cannot replace it, or None.
        memory: the most bytes that preparing a version may use.
        poll_seconds: seconds between two polls of the registry.
        prepare_seconds: limit for preparing a version.
        priority: the preparation's share of the processor.
        on_demand: the most versions to keep because requests ask for them by number.
        compiled: whether versions may be compiled.
        networked: the models whose sandboxes have the host's network.
        commands: the commands that prepare a version; by default this service's own.
        runners: directory of the runners' sockets. A version that needs a runner does not serve
            before the runner is ready; without a directory, no version needs one.
    """

    def __init__(
        self,
        registry: Registry,
        folder: StateFolder,
        aliases: tuple[str, ...],
        incompatible: Callable[[Path, Path], str | None],
        memory: int,
        poll_seconds: float = 2.0,
        prepare_seconds: float = 300.0,
        priority: Priority = "idle",
        on_demand: int = 4,
        compiled: bool = True,
        networked: Collection[str] = (),
        commands: Steps | None = None,
        runners: Path | None = None,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._aliases = aliases
        self._incompatible = incompatible
        self._poll_seconds = poll_seconds
        self._prepare_seconds = prepare_seconds
        self._priority = priority
        self._on_demand = on_demand
        self._commands = commands or steps(compiled, frozenset(networked))
        self._memory = memory
        self._gate = RunnerGate(runners)
        # A version from another environment continues to serve, and is prepared again.
        self._environment = fingerprint() if compiled else f"{fingerprint()}-native"
        self._preparation: Preparation | None = None
        self._next_poll = 0.0
        self._objections: dict[tuple[str, str], str | None] = {}
        self._disk = Disk(folder)
        self._state = self._disk.recall()
        self._demanded = {
            (name, number): version.last_used
            for name, model in self._state.models.items()
            for number, version in model.versions.items()
            if version.last_used is not None
        }

    def run(self, stop: threading.Event) -> None:
        """Follow until told to stop; then end the running preparation."""
        # No alias is followed without this loop.
        looking = Guard("following the registry", logger)
        try:
            while not stop.is_set():
                with looking:
                    self.tick()
                stop.wait(_TICK_SECONDS)
        finally:
            self._end_preparation()

    def tick(self) -> None:
        """Check once for everything that may have changed, act on it, and tell the workers."""
        now = datetime.now(UTC)
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + self._poll_seconds
            self._poll(now)
        if self._preparation is not None and self._preparation.poll():
            self._collect(self._preparation, now)
        self._decide(now)
        self._prepare(now)
        self._disk.write(self._state, now)
        if self._preparation is None:
            # The state does not refer to the preparation's folder yet.
            self._disk.prune(self._state)

    # ---- the registry ---------------------------------------------------------------------------
    def _poll(self, now: datetime) -> None:
        state = self._state
        try:
            registered = self._registry.models()
        except RegistryError as error:
            if state.registry_error != str(error):
                logger.warning("the registry is unreachable: %s", error)
            state.registry_error = str(error)
            return
        finally:
            state.polled_at = now
        if state.registry_error is not None:
            logger.info("the registry is reachable again")
        state.registry_error = None
        for name in state.models.keys() - registered.keys():
            logger.warning("%s: no longer in the registry, no longer serves", name)
        state.models = {
            name: self._followed(name, model, now) for name, model in sorted(registered.items())
        }

    def _followed(self, name: str, registered: Registered, now: datetime) -> Model:
        """Return the model as it was, updated from the registry."""
        model = self._state.models.get(name)
        if model is None or model.created != registered.created:
            model = Model(registered.created, registered.latest)
        model.latest = registered.latest
        named = {a: v for a, v in registered.aliases.items() if a in self._aliases}
        for alias in model.aliases.keys() - named.keys():
            logger.warning("%s: the alias %s is gone, no version serves as it", name, alias)
            del model.aliases[alias]
        for alias, number in named.items():
            known = model.aliases.get(alias)
            if known is None:
                model.aliases[alias] = Alias(wanted=number, moved_at=now)
            elif known.wanted != number:
                known.wanted, known.moved_at = number, now
        return model

    # ---- what serves ----------------------------------------------------------------------------
    def _decide(self, now: datetime) -> None:
        """Let prepared versions serve, note why the others do not, and forget obsolete entries."""
        self._gate.look()
        for name, model in self._state.models.items():
            for alias, entry in model.aliases.items():
                entry.failure = self._advance(name, model, alias, entry, now)
                _note_failure(model, alias, entry)
        self._demanded = self._apply_requests(now)
        for name, model in self._state.models.items():
            demanded = {number for wanted, number in self._demanded if wanted == name}
            aliases = model.aliases.values()
            wanted = {entry.wanted for entry in aliases} | demanded
            kept = wanted.union(*((entry.serves, entry.previous) for entry in aliases))
            model.failures = {n: f for n, f in model.failures.items() if n in wanted}
            model.versions = {n: v for n, v in model.versions.items() if n in kept}
            for number, version in model.versions.items():
                version.last_used = self._demanded.get((name, number))

    def _advance(
        self, name: str, model: Model, alias: str, entry: Alias, now: datetime
    ) -> Failure | None:
        """Let the version that an alias points to serve; return why it does not."""
        if entry.wanted == entry.serves or entry.wanted not in model.versions:
            return model.failures.get(entry.wanted)
        prepared = model.versions[entry.wanted]
        reason = None
        if entry.serves in model.versions:
            reason = self._objection(prepared, model.versions[entry.serves])
        status = self._gate.status(self._folder.path / prepared.folder)
        if reason is None and status.state == "failed":
            reason = status.reason
        elif reason is None and status.state != "ready":
            # A failure stays known while its runner starts again.
            return entry.failure if _is_of(entry.failure, entry.wanted) else None
        if reason is not None:
            known = entry.failure
            if known is None or (known.version, known.reason) != (entry.wanted, reason):
                known = Failure(entry.wanted, reason, 1, now)
                _warn(name, known, f"version {entry.serves} continues to serve")
            return known
        entry.previous, entry.serves, entry.since = entry.serves, entry.wanted, now
        model.note(alias, Outcome(entry.wanted, now, "served"))
        logger.info("%s: version %s serves as %s", name, entry.wanted, alias)
        return None

    def _objection(self, new: Prepared, serving: Prepared) -> str | None:
        # Called at each poll for as long as the alias points to an incompatible version.
        key = new.folder, serving.folder
        if key not in self._objections:
            try:
                folders = [self._folder.path / version.folder for version in (new, serving)]
                reason = self._incompatible(*folders)
            except Exception as error:
                logger.exception("two versions could not be compared")
                reason = f"it could not be compared with the serving version: {error!r}"
            self._objections = {key: reason and reason[:_LONGEST_REASON]}
        return self._objections[key]

    def _apply_requests(self, now: datetime) -> dict[Key, datetime]:
        """Return the versions to keep because requests ask for them by number."""
        served, others = {}, {}
        for name, number, used in self._folder.requests():
            model = self._state.models.get(name)
            if model is None or not _exists(number, model) or now - used > UNUSED:
                self._folder.forget(name, number)
            elif any(number == entry.serves for entry in model.aliases.values()):
                served[name, number] = used
            else:
                others[name, number] = used

        def rank(key: Key) -> tuple[bool, datetime]:
            # A new version does not displace one in use: otherwise a few clients could keep the
            # host preparing for ever.
            return key in self._demanded and now - others[key] < EVICTABLE, others[key]

        kept = sorted(others, key=rank, reverse=True)[: self._on_demand]
        return served | {key: others[key] for key in kept}

    # ---- preparing ------------------------------------------------------------------------------
    def _prepare(self, now: datetime) -> None:
        """Have the most urgent version prepared; end a preparation that is no longer needed."""
        untried, again = self._missing(now)
        if self._preparation is not None:
            key = self._preparation.key
            if key not in untried and (key not in again or untried):
                logger.info("%s: version %s is no longer needed", *key)
                self._end_preparation()
        if self._state.registry_error is not None:
            # There is nothing to download it from.
            return
        if self._preparation is None and (waiting := untried or again):
            name, number = waiting[0]
            slug = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
            folder = self._folder.prepared / f"{slug}-{number}-{secrets.token_hex(4)}"
            self._preparation = Preparation(
                self._commands,
                name,
                number,
                folder,
                self._prepare_seconds,
                self._priority,
                self._memory,
                self._state.models[name].digests.get(number),
            )

    def _missing(self, now: datetime) -> tuple[list[Key], list[Key]]:
        """Return the versions to prepare: the untried ones, and those to retry or prepare again."""
        untried, again = [], []
        for name, number in self._wanted():
            model = self._state.models[name]
            prepared, failure = model.versions.get(number), model.failures.get(number)
            if prepared is not None and prepared.environment == self._environment:
                continue
            if prepared is None and failure is None:
                untried.append((name, number))
            elif failure is None or now >= self._retry_at(failure):
                again.append((name, number))
        return untried, again

    def _wanted(self) -> Iterator[Key]:
        for alias in self._aliases:
            for name, model in self._state.models.items():
                if alias in model.aliases:
                    yield name, model.aliases[alias].wanted
        yield from self._demanded
        # If the alias moves to a version that fails, these continue to serve, also after an
        # upgrade.
        for name, model in self._state.models.items():
            for entry in model.aliases.values():
                if entry.serves is not None and entry.serves != entry.wanted:
                    yield name, entry.serves

    def _retry_at(self, failure: Failure) -> datetime:
        wait = back_off(2 * self._poll_seconds, failure.attempts, LONGEST_BACK_OFF)
        return failure.at + timedelta(seconds=wait)

    def _collect(self, preparation: Preparation, now: datetime) -> None:
        """Take over a preparation's result, or note why it failed."""
        self._preparation = None
        name, number = preparation.key
        model = self._state.models.get(name)
        reason = preparation.reason
        if model is not None and preparation.digest is not None:
            model.digests.setdefault(number, preparation.digest)
        if reason is None:
            try:
                sync_tree(preparation.folder)
            except OSError as error:
                reason = f"it could not be written to the disk: {error.strerror}"
                remove(preparation.folder)
        if model is None:
            return
        if reason is None:
            model.failures.pop(number, None)
            path = str(preparation.folder.relative_to(self._folder.path))
            model.versions[number] = Prepared(path, self._environment, memory=preparation.peak)
            return
        earlier = model.failures.get(number)
        failure = Failure(number, reason, earlier.attempts + 1 if earlier else 1, now)
        model.failures[number] = failure
        _warn(name, failure, f"next try in {self._retry_at(failure) - now}, serving continues")
        for line in preparation.output.splitlines()[-_LINES_OF_OUTPUT:]:
            logger.info("%s: version %s: %s", name, number, line)

    def _end_preparation(self) -> None:
        if self._preparation is not None:
            self._preparation.end()
            self._preparation = None


def fingerprint() -> str:
    """Return the identity of the environment that prepares a version.

    The role names an environment's folder by its content. After an upgrade, a version from the
    earlier environment continues to serve until it is prepared again.
    """
    return hashlib.sha256(os.path.realpath(sys.prefix).encode()).hexdigest()[:12]


def _is_of(failure: Failure | None, number: str) -> bool:
    return failure is not None and failure.version == number


def _note_failure(model: Model, alias: str, entry: Alias) -> None:
    """Add the failure of an alias's wanted version to the alias's history."""
    failure = entry.failure
    # A serving version that cannot be prepared for a new environment continues to serve.
    if failure is None or failure.version == entry.serves:
        return
    outcome = Outcome(failure.version, failure.at, "failed", failure.reason)
    if outcome not in model.history.get(alias, ()):
        model.note(alias, outcome)


def _exists(number: str, model: Model) -> bool:
    found = version_number(number)
    return found is not None and found <= model.latest


def _warn(name: str, failure: Failure, consequence: str) -> None:
    logger.warning(
        "%s: version %s cannot serve (attempt %d; %s): %s",
        name,
        failure.version,
        failure.attempts,
        consequence,
        failure.reason,
    )
