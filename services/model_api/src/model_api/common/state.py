"""What the follower tells the workers, ``state.json``, and which versions they request from it.

The follower alone writes the state; it replaces the file as a whole, so that a reader, and the next
start after a crash, sees either the old state or the new one.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

OUTCOMES = 20
"""Versions in the history of an alias."""
_MOST_DIGITS = 18


class Failure(msgspec.Struct, frozen=True):
    """Why a version does not serve, and how often that was tried."""

    version: str
    reason: str
    attempts: int
    at: datetime


class Outcome(msgspec.Struct, frozen=True):
    """How a version fared when an alias pointed to it.

    Attributes:
        version: its number.
        at: when it last began to serve, or last failed.
        outcome: which of the two.
        reason: why it failed.
    """

    version: str
    at: datetime
    outcome: Literal["served", "failed"]
    reason: str | None = None


class Alias(msgspec.Struct):
    """What an alias names, and what answers under it.

    Attributes:
        wanted: the version that the registry says.
        moved_at: when the follower saw that the alias names it.
        serves: the version that the workers are to serve; None if none has been fit for it yet.
        since: when that was decided.
        previous: what served before; it stays prepared.
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
        folder: where, in the folder of the state.
        environment: which environment prepared it; see `model_api.follower.follower.fingerprint`.
        last_used: when it was last asked for by its number; None if only aliases need it.
    """

    folder: str
    environment: str
    last_used: datetime | None = None


class Model(msgspec.Struct):
    """One registered model.

    Attributes:
        created: when, in milliseconds since 1970: a model made anew under an old name is another.
        latest: the highest number of a version.
        history: alias -> the last outcome of each version on this host, the newest last. Rollbacks
            are decided by it, so it outlives the alias.
    """

    created: int
    latest: int
    aliases: dict[str, Alias] = {}
    versions: dict[str, Prepared] = {}
    failures: dict[str, Failure] = {}
    history: dict[str, list[Outcome]] = {}

    def note(self, alias: str, outcome: Outcome) -> None:
        """Put an outcome at the end of an alias's history, instead of the version's earlier one."""
        others = [o for o in self.history.get(alias, ()) if o.version != outcome.version]
        self.history[alias] = [*others, outcome][-OUTCOMES:]


class State(msgspec.Struct):
    """All of it. ``polled_at`` is when the registry was last asked; it answered if no error is."""

    polled_at: datetime | None = None
    registry_error: str | None = None
    models: dict[str, Model] = {}


class StateFolder:
    """The folder that the units of the service share: ``state.json``, ``prepared``, ``wishes``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "state.json"
        self.prepared = path / "prepared"
        # The units of two releases may share the folder for a while: its names stay.
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
        """Replace the state, so that it outlives a power cut once this returns."""
        replace(self.file, msgspec.json.encode(state))

    def signature(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the state is replaced; None if there is none."""
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
            # Not in the folder of requests, where the follower would read it half written.
            beside = self.path / f".request.{os.getpid()}"
            beside.write_bytes(msgspec.json.encode((name, number)))
            beside.replace(file)

    def requests(self) -> Iterator[tuple[str, str, datetime]]:
        """Yield name, number and last use of each version that was asked for."""
        for file in self._requests.iterdir():
            try:
                used = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                name, number = msgspec.json.decode(file.read_bytes(), type=tuple[str, str])
            except FileNotFoundError:
                continue
            except msgspec.MsgspecError:
                # Torn by a power cut; a request that is there is only touched, so it would stay so.
                file.unlink(missing_ok=True)
                continue
            yield name, number, used

    def forget(self, name: str, number: str) -> None:
        """Drop a request."""
        file = self._requests / hashlib.sha256(f"{number} {name}".encode()).hexdigest()
        file.unlink(missing_ok=True)


def version_number(text: str) -> int | None:
    """Return the number of a version that is written as MLflow writes it; None for other text.

    No zeros in front: 07 would be another name of 7, and be kept twice.
    """
    # Python refuses to read thousands of digits.
    if not (len(text) <= _MOST_DIGITS and text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number > 0 and str(number) == text else None


def replace(file: Path, content: bytes) -> None:
    """Write a file under another name, see it to the disk, and give it its name."""
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with beside.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(file.parent)


def sync(path: Path) -> None:
    """See a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
