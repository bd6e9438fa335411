"""The follower's state for the workers, ``state.json``, and the versions that they request.

Only the follower writes the state. It replaces the whole file, so that a reader, and the next start
after a crash, sees either the old state or the new one.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

OUTCOMES = 20
"""The most versions in the history of an alias."""
_MOST_DIGITS = 18


class Failure(msgspec.Struct, frozen=True):
    """Why a version does not serve, and the number of tries."""

    version: str
    reason: str
    attempts: int
    at: datetime


class Outcome(msgspec.Struct, frozen=True):
    """How a version fared when an alias pointed to it.

    Attributes:
        version: its number.
        at: when it last started to serve, or last failed.
        outcome: which of the two.
        reason: why it failed.
    """

    version: str
    at: datetime
    outcome: Literal["served", "failed"]
    reason: str | None = None


class Alias(msgspec.Struct):
    """The version that an alias points to, and the version that answers under it.

    Attributes:
        wanted: the version in the registry.
        moved_at: when the follower saw that the alias points to it.
        serves: the version that the workers must serve; None if none could serve yet.
        since: when that was decided.
        previous: the version that served before; it stays prepared.
        failure: why ``wanted`` does not serve.
    """

    wanted: str
    moved_at: datetime
    serves: str | None = None
    since: datetime | None = None
    previous: str | None = None
    failure: Failure | None = None


class Prepared(msgspec.Struct):
    """A version on this host's disk.

    Attributes:
        folder: its folder, within the folder of the state.
        environment: the environment that prepared it; see
            `model_api.follower.follower.fingerprint`.
        last_used: when a request last asked for it by number; None if only aliases need it.
        memory: the most bytes that it used while it was prepared, as far as that was measured.
    """

    folder: str
    environment: str
    last_used: datetime | None = None
    memory: int = 0


class Model(msgspec.Struct):
    """One registered model.

    Attributes:
        created: when, in milliseconds since 1970. It tells a new model from a deleted one of the
            same name.
        latest: the highest number of a version.
        digests: number -> digest of the version's files when this host first saw them.
        history: alias -> the last outcome of each version on this host, the newest last. Rollbacks
            depend on it, so it outlives the alias.
    """

    created: int
    latest: int
    aliases: dict[str, Alias] = {}
    versions: dict[str, Prepared] = {}
    failures: dict[str, Failure] = {}
    digests: dict[str, str] = {}
    history: dict[str, list[Outcome]] = {}

    def note(self, alias: str, outcome: Outcome) -> None:
        """Add an outcome to an alias's history; it replaces the version's earlier one."""
        others = [o for o in self.history.get(alias, ()) if o.version != outcome.version]
        self.history[alias] = [*others, outcome][-OUTCOMES:]


class State(msgspec.Struct):
    """The state. ``polled_at`` is when the registry was last polled."""

    polled_at: datetime | None = None
    registry_error: str | None = None
    models: dict[str, Model] = {}


class StateFolder:
    """The folder that the units of the service share: ``state.json``, ``prepared``, ``wishes``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "state.json"
        self.prepared = path / "prepared"
        # The units of two releases may share the folder for a while, so its names stay.
        self._requests = path / "wishes"

    def make(self) -> None:
        """Make the folders that are missing."""
        self.prepared.mkdir(parents=True, exist_ok=True)
        self._requests.mkdir(exist_ok=True)

    def read(self) -> State | None:
        """Return the state; None if there is none yet.

        Raises:
            msgspec.MsgspecError: the file is not a state.
        """
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=State)
        except FileNotFoundError:
            return None

    def write(self, state: State) -> None:
        """Replace the state. It survives a power cut once this returns."""
        replace(self.file, msgspec.json.encode(state))

    def signature(self) -> tuple[int, int, int] | None:
        """Return a value that changes with each new state; None if there is no state."""
        try:
            found = self.file.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def request_version(self, name: str, number: str) -> None:
        """Ask for a version by its number, or say that it is still in use."""
        self._requests.mkdir(exist_ok=True)
        file = self._requests / hashlib.sha256(f"{number} {name}".encode()).hexdigest()
        try:
            os.utime(file)
        except FileNotFoundError:
            # Not in the folder of requests, where the follower would read a half-written file.
            partial = self.path / f".request.{os.getpid()}"
            partial.write_bytes(msgspec.json.encode((name, number)))
            partial.replace(file)

    def requests(self) -> Iterator[tuple[str, str, datetime]]:
        """Yield the name, number and last use of each requested version."""
        for file in self._requests.iterdir():
            try:
                used = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                name, number = msgspec.json.decode(file.read_bytes(), type=tuple[str, str])
            except FileNotFoundError:
                continue
            except msgspec.MsgspecError:
                # Torn by a power cut. Later requests only touch the file, so it would stay torn.
                file.unlink(missing_ok=True)
                continue
            yield name, number, used

    def forget(self, name: str, number: str) -> None:
        """Drop a request."""
        file = self._requests / hashlib.sha256(f"{number} {name}".encode()).hexdigest()
        file.unlink(missing_ok=True)


def version_number(text: str) -> int | None:
    """Return a version's number from text as MLflow writes it; None for other text.

    Leading zeros are refused: 07 would be a second name of 7, and that version kept twice.
    """
    # Python refuses to read thousands of digits.
    if not (len(text) <= _MOST_DIGITS and text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number > 0 and str(number) == text else None


def replace(file: Path, content: bytes) -> None:
    """Write a file under another name, sync it to the disk, and rename it."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with partial.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(file.parent)


def sync(path: Path) -> None:
    """Sync a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
