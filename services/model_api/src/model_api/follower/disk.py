"""The follower's files: the state, and the folders that it refers to."""

import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from model_api.common.state import Alias, Model, Outcome, State, StateFolder, sync
from model_api.model.manifest import MANIFEST

logger = logging.getLogger(__name__)

# Workers may still read a folder for this long after the state no longer refers to it.
GRACE_SECONDS = 60.0
# The time in the state shows that the follower is alive, but that needs no write at each poll.
WRITE_AT_LEAST = timedelta(seconds=10)


class Disk:
    """The state, which survives restarts, and the prepared versions.

    Args:
        folder: the folder of the state; nothing else writes to it.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._unnamed_since: dict[Path, float] = {}
        self._written = b""
        self._write_error = ""
        self._written_at = datetime.min.replace(tzinfo=UTC)
        folder.make()

    def recall(self) -> State:
        """Return the last run's state, as far as the disk still has its versions."""
        try:
            state = self._folder.read() or State()
        except msgspec.MsgspecError as error:
            logger.warning(
                "%s is not a state, so all versions are prepared again: %s",
                self._folder.file,
                error,
            )
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
            # The preparation renames a finished folder: a leading dot means unfinished.
            if path.name.startswith(".") or (path not in used and not (path / MANIFEST).exists()):
                remove(path)
        return state

    def _named(self, state: State) -> Iterator[Path]:
        for model in state.models.values():
            for version in model.versions.values():
                yield self._folder.path / version.folder

    def write(self, state: State, now: datetime) -> None:
        """Write the state if it has changed or was not written for a while."""
        content = msgspec.json.encode(msgspec.structs.replace(state, polled_at=None))
        if content == self._written and now - self._written_at < WRITE_AT_LEAST:
            return
        try:
            self._folder.write(state)
        except OSError as error:
            if str(error) != self._write_error:
                logger.error(
                    "%s cannot be written, serving continues: %s", self._folder.file, error
                )
            self._write_error = str(error)
            return
        self._written, self._written_at, self._write_error = content, now, ""

    def prune(self, state: State) -> None:
        """Remove the folders that the state has not referred to for a while."""
        named = set(self._named(state))
        unnamed = [path for path in self._folder.prepared.iterdir() if path not in named]
        now = time.monotonic()
        self._unnamed_since = {path: self._unnamed_since.get(path, now) for path in unnamed}
        for path, since in self._unnamed_since.items():
            if now - since > GRACE_SECONDS:
                logger.info("%s is no longer needed", path.name)
                remove(path)


def _begin_history(model: Model, alias: str, entry: Alias) -> None:
    """Start the history of an alias from a state that an earlier release wrote."""
    if alias in model.history or entry.serves is None or entry.since is None:
        return
    if entry.previous is not None:
        just_before = entry.since - timedelta(microseconds=1)
        model.note(alias, Outcome(entry.previous, just_before, "served"))
    model.note(alias, Outcome(entry.serves, entry.since, "served"))


def sync_tree(folder: Path) -> None:
    """Sync a folder and everything in it to the disk."""
    for parent, _, files in os.walk(folder):
        for file in files:
            sync(Path(parent, file))
        sync(Path(parent))
    sync(folder.parent)


def remove(folder: Path) -> None:
    """Remove a folder and everything in it, of any depth and with any permissions.

    This follows no path except the folder's own: each inner folder first moves up to the top level,
    so that no path grows too long and no link leads out.
    """
    # A later poll may remove what remains.
    with suppress(OSError):
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink()
            return
        folder.chmod(stat.S_IRWXU)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(opened)
        finally:
            os.close(opened)
        folder.rmdir()


def _empty(folder: int) -> None:
    """Remove the contents of an open folder."""
    while folders := _folders_after_unlinking(folder):
        for name in folders:
            within = _open_folder(name, folder)
            try:
                for inner in _folders_after_unlinking(within):
                    # A random name, so that it is not taken.
                    name_here = f".{secrets.token_hex(16)}"
                    os.rename(inner, name_here, src_dir_fd=within, dst_dir_fd=folder)
            finally:
                os.close(within)
            os.rmdir(name, dir_fd=folder)


def _folders_after_unlinking(folder: int) -> list[str]:
    """Remove the files and links in an open folder; return the names of the folders."""
    folders = []
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            folders.append(name)
        else:
            os.unlink(name, dir_fd=folder)
    return folders


def _open_folder(name: str, folder: int) -> int:
    # Nothing else changes the folder now, so the name is still that of a folder.
    os.chmod(name, stat.S_IRWXU, dir_fd=folder)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
