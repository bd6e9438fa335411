"""What the follower keeps on the disk: the state, and the folders that it names."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from model_api.common.state import Alias, Model, Outcome, State, StateFolder, sync
from model_api.model.manifest import MANIFEST

logger = logging.getLogger(__name__)

# Workers may still read a folder for so long after the state has ceased to name it.
GRACE_SECONDS = 60.0
# The time in the state says that the follower lives; it is no reason to write at each look.
WRITE_AT_LEAST = timedelta(seconds=10)


class Disk:
    """The state of one run after another, and the prepared versions.

    Args:
        folder: of the state; nobody else writes it.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._unnamed_since: dict[Path, float] = {}
        self._written = b""
        self._write_error = ""
        self._written_at = datetime.min.replace(tzinfo=UTC)
        folder.make()

    def recall(self) -> State:
        """Return the state that the last run left, as far as the disk still has it."""
        try:
            state = self._folder.read() or State()
        except msgspec.MsgspecError as error:
            logger.warning("%s is not a state, all is prepared anew: %s", self._folder.file, error)
            state = State()
        for model in state.models.values():
            for alias, entry in model.aliases.items():
                _begin_history(model, alias, entry)
            model.versions = {
                number: version
                for number, version in model.versions.items()
                if (self._folder.path / version.folder / MANIFEST).exists()
            }
        used = {path for path in self._named(state)}
        for path in self._folder.prepared.iterdir():
            # What begins with a dot was not given its name by who prepared it.
            if path.name.startswith(".") or (path not in used and not (path / MANIFEST).exists()):
                shutil.rmtree(path, ignore_errors=True)
        return state

    def _named(self, state: State) -> Iterator[Path]:
        for model in state.models.values():
            for version in model.versions.values():
                yield self._folder.path / version.folder

    def write(self, state: State, now: datetime) -> None:
        """Write the state if it has changed, or has not been written for a while."""
        content = msgspec.json.encode(msgspec.structs.replace(state, polled_at=None))
        if content == self._written and now - self._written_at < WRITE_AT_LEAST:
            return
        try:
            self._folder.write(state)
        except OSError as error:
            if str(error) != self._write_error:
                logger.error(
                    "%s cannot be written, what serves goes on: %s", self._folder.file, error
                )
            self._write_error = str(error)
            return
        self._written, self._written_at, self._write_error = content, now, ""

    def prune(self, state: State) -> None:
        """Remove the folders that the state has not named for a while."""
        named = set(self._named(state))
        unnamed = [path for path in self._folder.prepared.iterdir() if path not in named]
        now = time.monotonic()
        self._unnamed_since = {path: self._unnamed_since.get(path, now) for path in unnamed}
        for path, since in self._unnamed_since.items():
            if now - since > GRACE_SECONDS:
                logger.info("%s is not needed any more", path.name)
                shutil.rmtree(path, ignore_errors=True)


def _begin_history(model: Model, alias: str, entry: Alias) -> None:
    """Begin the history of an alias whose state the release before wrote, by what it knew."""
    if alias in model.history or entry.serves is None or entry.since is None:
        return
    if entry.previous is not None:
        just_before = entry.since - timedelta(microseconds=1)
        model.note(alias, Outcome(entry.previous, just_before, "served"))
    model.note(alias, Outcome(entry.serves, entry.since, "served"))


def sync_tree(folder: Path) -> None:
    """See a folder with all that is in it to the disk."""
    for parent, _, files in os.walk(folder):
        for file in files:
            sync(Path(parent, file))
        sync(Path(parent))
    sync(folder.parent)
