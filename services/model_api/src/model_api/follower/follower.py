"""Decides what serves, for all workers of a host.

Asks the registry which versions the aliases name, has those that are new prepared, one at a time,
each in a process of its own, and tells the workers what to serve by the state. Whatever fails, what
served goes on. It holds no model, and no request waits for it.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
from model_api.follower.child import Child, Priority
from model_api.follower.disk import Disk, sync_tree
from model_api.follower.registry import Registered, Registry, RegistryError
from model_api.model.manifest import MANIFEST

logger = logging.getLogger(__name__)

LONGEST_BACK_OFF = 600.0
# A version that is asked for by its number is let go when nobody has asked for so long,
UNUSED = timedelta(minutes=10)
# and makes room for another one after so long.
EVICTABLE = timedelta(minutes=2)
_TICK_SECONDS = 0.2

type Key = tuple[str, str]
"""Name of a model, number of a version."""


class Follower:
    """Decides what serves. To be driven by `tick`.

    Args:
        registry: where the aliases are.
        folder: of the state; nobody else writes it.
        aliases: those that are followed.
        incompatible: from the folders of a new version and the serving one, the reason why the new
            one cannot replace it, or None.
        poll_seconds: between two looks at the registry.
        prepare_seconds: that preparing a version may take.
        priority: of preparing.
        on_demand: how many versions may be kept because they were asked for by number.
        compiled: whether versions may be compiled.
        command: see `Child`.
    """

    def __init__(
        self,
        registry: Registry,
        folder: StateFolder,
        aliases: tuple[str, ...],
        incompatible: Callable[[Path, Path], str | None],
        poll_seconds: float = 2.0,
        prepare_seconds: float = 300.0,
        priority: Priority = "idle",
        on_demand: int = 4,
        compiled: bool = True,
        command: Sequence[str] = (sys.executable, "-m", "model_api.preparing"),
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._aliases = aliases
        self._incompatible = incompatible
        self._poll_seconds = poll_seconds
        self._prepare_seconds = prepare_seconds
        self._priority = priority
        self._on_demand = on_demand
        self._command = command if compiled else [*command, "--native"]
        # What was prepared otherwise serves on, and is prepared anew.
        self._environment = fingerprint() if compiled else f"{fingerprint()}-native"
        self._child: Child | None = None
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
        """Follow until told to stop; then end what is being prepared."""
        # Without the follower no alias is followed.
        looking = Guard("following the registry", logger)
        try:
            while not stop.is_set():
                with looking:
                    self.tick()
                stop.wait(_TICK_SECONDS)
        finally:
            self._end_child()

    def tick(self) -> None:
        """Look once at all that may have changed, act on it, and tell the workers."""
        now = datetime.now(UTC)
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + self._poll_seconds
            self._poll(now)
        if self._child is not None and self._child.poll():
            self._collect(self._child, now)
        self._decide(now)
        self._prepare(now)
        self._disk.write(self._state, now)
        if self._child is None:
            # What a child writes is not named yet.
            self._disk.prune(self._state)

    # ---- the registry ---------------------------------------------------------------------------
    def _poll(self, now: datetime) -> None:
        state = self._state
        try:
            registered = self._registry.models()
        except RegistryError as error:
            if state.registry_error != str(error):
                logger.warning("the registry does not answer: %s", error)
            state.registry_error = str(error)
            return
        finally:
            state.polled_at = now
        if state.registry_error is not None:
            logger.info("the registry answers")
        state.registry_error = None
        for name in state.models.keys() - registered.keys():
            logger.warning("%s: it is not in the registry any more, it no longer serves", name)
        state.models = {
            name: self._followed(name, model, now) for name, model in sorted(registered.items())
        }

    def _followed(self, name: str, registered: Registered, now: datetime) -> Model:
        """Return the model as it was, with what the registry says now."""
        model = self._state.models.get(name)
        if model is None or model.created != registered.created:
            model = Model(registered.created, registered.latest)
        model.latest = registered.latest
        named = {a: v for a, v in registered.aliases.items() if a in self._aliases}
        for alias in model.aliases.keys() - named.keys():
            logger.warning("%s: no version is its %s any more, none serves as it", name, alias)
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
        """Let what is prepared serve, and say of the rest why it does not; forget what is over."""
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
        """Let the version that an alias names serve; return why it does not."""
        if entry.wanted == entry.serves or entry.wanted not in model.versions:
            return model.failures.get(entry.wanted)
        if entry.serves in model.versions:
            reason = self._objection(model.versions[entry.wanted], model.versions[entry.serves])
            if reason is not None:
                known = entry.failure
                if known is None or (known.version, known.reason) != (entry.wanted, reason):
                    known = Failure(entry.wanted, reason, 1, now)
                    _warn(name, known, f"version {entry.serves} goes on")
                return known
        entry.previous, entry.serves, entry.since = entry.serves, entry.wanted, now
        model.note(alias, Outcome(entry.wanted, now, "served"))
        logger.info("%s: version %s serves as %s", name, entry.wanted, alias)
        return None

    def _objection(self, new: Prepared, serving: Prepared) -> str | None:
        # Asked at each look for as long as the alias names a version that does not fit.
        key = new.folder, serving.folder
        if key not in self._objections:
            try:
                folders = [self._folder.path / version.folder for version in (new, serving)]
                reason = self._incompatible(*folders)
            except Exception as error:
                logger.exception("two versions could not be compared")
                reason = f"it could not be compared with what serves: {error!r}"
            self._objections = {key: reason}
        return self._objections[key]

    def _apply_requests(self, now: datetime) -> dict[Key, datetime]:
        """Return the versions that are kept because they are asked for by number."""
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
            # One that is in use is not pushed out by one that is new: a few clients could keep
            # the host preparing for ever.
            return key in self._demanded and now - others[key] < EVICTABLE, others[key]

        kept = sorted(others, key=rank, reverse=True)[: self._on_demand]
        return served | {key: others[key] for key in kept}

    # ---- preparing ------------------------------------------------------------------------------
    def _prepare(self, now: datetime) -> None:
        """See that what is most urgent is being prepared, and nothing that nobody wants."""
        untried, again = self._missing(now)
        if self._child is not None:
            key = self._child.key
            if key not in untried and (key not in again or untried):
                logger.info("%s: version %s is not waited for any more", *key)
                self._end_child()
        if self._state.registry_error is not None:
            # There is nothing to download it from.
            return
        if self._child is None and (waiting := untried or again):
            name, number = waiting[0]
            slug = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
            folder = self._folder.prepared / f"{slug}-{number}-{secrets.token_hex(4)}"
            self._child = Child(
                self._command, name, number, folder, self._prepare_seconds, self._priority
            )

    def _missing(self, now: datetime) -> tuple[list[Key], list[Key]]:
        """Return the versions to prepare: those never tried, and those to try or prepare anew."""
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
        # Should their alias name another version that fails, these go on: after an upgrade too.
        for name, model in self._state.models.items():
            for entry in model.aliases.values():
                if entry.serves is not None and entry.serves != entry.wanted:
                    yield name, entry.serves

    def _retry_at(self, failure: Failure) -> datetime:
        wait = back_off(2 * self._poll_seconds, failure.attempts, LONGEST_BACK_OFF)
        return failure.at + timedelta(seconds=wait)

    def _collect(self, child: Child, now: datetime) -> None:
        """Take over what a child has prepared, or write down why it has not."""
        self._child = None
        name, number = child.key
        model = self._state.models.get(name)
        reason = child.reason
        if reason is None and not (child.folder / MANIFEST).exists():
            reason = "the process that prepared it left no manifest"
        if reason is None:
            try:
                sync_tree(child.folder)
            except OSError as error:
                reason = f"it could not be written to the disk: {error.strerror}"
        if reason is not None:
            self._remove(child)
        if model is None:
            return
        if reason is None:
            model.failures.pop(number, None)
            path = str(child.folder.relative_to(self._folder.path))
            model.versions[number] = Prepared(path, self._environment)
            return
        earlier = model.failures.get(number)
        failure = Failure(number, reason, earlier.attempts + 1 if earlier else 1, now)
        model.failures[number] = failure
        _warn(name, failure, f"next try in {self._retry_at(failure) - now}, what served goes on")
        for line in child.output.splitlines():
            logger.info("%s: version %s: %s", name, number, line)

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._remove(self._child)
            self._child = None

    def _remove(self, child: Child) -> None:
        """Remove what a child has left, under the names that it used meanwhile, too."""
        for path in self._folder.prepared.iterdir():
            if child.folder.name in path.name:
                shutil.rmtree(path, ignore_errors=True)


def fingerprint() -> str:
    """Return what tells the environment that prepares a version from others.

    The role names an environment's folder by its content. What another one has prepared serves on
    after an upgrade, and is prepared anew.
    """
    return hashlib.sha256(os.path.realpath(sys.prefix).encode()).hexdigest()[:12]


def _note_failure(model: Model, alias: str, entry: Alias) -> None:
    """Put a failure of what an alias names into its history."""
    failure = entry.failure
    # One that serves and cannot be prepared for a new environment goes on serving.
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
