"""Has one version prepared: one process with credentials downloads it, one without examines it.

Loading a model runs the code that came with it. This code may hang, fill the memory or the disk,
end its process, or look for secrets. So the model is loaded in a sandbox that has only the
version's folder, and the files that the sandbox leaves there are checked before they are trusted.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from model_api.common.memory import usage_of
from model_api.downloading.download import DOWNLOADED, read_downloaded
from model_api.follower.child import Child, Priority
from model_api.follower.disk import remove
from model_api.model.engines import FILES, MODEL_FOLDER
from model_api.model.manifest import MANIFEST, read_manifest
from model_api.sandbox import bubblewrap
from model_api.sandbox.limits import MIB, PROCESSES, Limits

# Limits for the files of a sandbox: their number, and their size, with room for a compiled model.
_MOST_FILES = 1000
_ROOM = 1024 * MIB
_ROOM_PER_BYTE = 4
# With less free space, the disk would soon be full for the host's other services.
_LEAST_FREE = 256 * MIB
_LEFT = FILES | {MANIFEST}
# Categories and columns take little space in it.
_LARGEST_MANIFEST = 8 * MIB
# For the owner and the group, like the unit's umask.
_READABLE, _READABLE_FOLDER = 0o640, 0o750
# Adding up memory costs a millisecond or more.
_MEASURE_SECONDS = 0.5


type Step = Literal["download", "examine", "reopen"]


class Steps(NamedTuple):
    """The commands that prepare a version.

    Attributes:
        download: from the name, the number and a folder; see `model_api.downloading`.
        examine: from the same, the training run, and the limits; see `model_api.preparing`.
        reopen: from the folder and the limits; opens the result of `examine` as a worker will,
            without running the model's code; see `model_api.preparing.reopen`.
    """

    download: Callable[[str, str, Path], Sequence[str]]
    examine: Callable[[str, str, Path, str, Limits], Sequence[str]]
    reopen: Callable[[Path, Limits], Sequence[str]]


def steps(compiled: bool, networked: frozenset[str]) -> Steps:
    """Return the commands of this service.

    Args:
        compiled: whether versions may be compiled.
        networked: the models whose sandboxes have the host's network.
    """

    def download(name: str, number: str, folder: Path) -> Sequence[str]:
        return [sys.executable, "-m", "model_api.downloading", name, number, str(folder)]

    def examine(name: str, number: str, folder: Path, run: str, limits: Limits) -> Sequence[str]:
        return bubblewrap.command(
            "model_api.preparing",
            [*(() if compiled else ("--native",)), name, number, run, str(folder)],
            writable=folder,
            readable=[folder / MODEL_FOLDER, folder / DOWNLOADED],
            limits=limits,
            network=name in networked,
        )

    def reopen(folder: Path, limits: Limits) -> Sequence[str]:
        return bubblewrap.command(
            "model_api.preparing.reopen",
            [str(folder)],
            writable=None,
            readable=[folder],
            limits=limits,
        )

    return Steps(download, examine, reopen)


class Preparation:
    """A version that is being prepared.

    Args:
        commands: the commands that prepare it.
        name: the model's name.
        number: the version's number.
        folder: the result's folder; it does not exist yet.
        limit: limit for the preparation, in seconds.
        priority: its share of the processor.
        memory: the most bytes that it may use.
        digest: the digest of its files when this host first saw them; None if it never did.

    Attributes:
        key: name and number.
        folder: see above.
        digest: the digest of its files, once they are downloaded.
        reason: why it failed; None while it runs or if it succeeded.
        peak: the most bytes of memory that it used, as far as that was measured.
    """

    def __init__(
        self,
        commands: Steps,
        name: str,
        number: str,
        folder: Path,
        limit: float,
        priority: Priority,
        memory: int,
        digest: str | None = None,
    ) -> None:
        self.key = name, number
        self.folder = folder
        self.digest = digest
        self.reason: str | None = None
        self.peak = 0
        self._commands = commands
        self._limit = limit
        self._deadline = time.monotonic() + limit
        self._priority: Priority = priority
        self._memory = memory
        self._output = ""
        self._measured_at = 0.0
        self._step: Step = "download"
        self._room = 0
        # In the folder's parent, so that the final rename is atomic.
        self._work = folder.with_name(f".{folder.name}")
        self._child: Child | None = None
        try:
            self._work.mkdir(parents=True)
        except OSError as error:
            self._fail(f"it could not be written to the disk: {error.strerror}")
            return
        # The follower itself retries; MLflow's client would retry for minutes.
        environment = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"} | os.environ
        self._start("download", commands.download(name, number, self._work), environment)

    @property
    def output(self) -> str:
        """The end of the last process's output."""
        return self._child.output if self._child is not None else self._output

    def poll(self) -> bool:
        """Continue it; tell whether it has ended, with a `reason` or with the version ready."""
        try:
            if self._child is None:
                pass
            elif self._child.poll():
                self._ended(self._child)
            elif excess := self._excess(self._child.pid):
                self._fail(excess)
        except Exception as error:
            # One version must never block the others.
            self._fail(f"its preparation could not be checked: {error!r}")
        return self._child is None

    def end(self) -> None:
        """End its processes, and remove an unfinished result."""
        if self._child is not None:
            self._child.end()
            self._output = self._child.output
            self._child = None
        remove(self._work)

    def _start(self, step: Step, command: Sequence[str], environment: dict[str, str]) -> None:
        left = max(0.0, self._deadline - time.monotonic())
        self._step = step
        try:
            self._child = Child(command, environment, left, self._priority)
        except FileNotFoundError:
            self._fail(f"{command[0]} is not installed on this host: no model is run without it")
        except (OSError, ValueError) as error:
            self._fail(f"its preparation could not be started: {error}")

    def _ended(self, child: Child) -> None:
        if child.late:
            self._fail(f"it was not ready after {self._limit:g} s")
        elif child.reason is not None:
            self._fail(child.reason)
        elif excess := self._disk_excess():
            self._fail(excess)
        elif self._step == "download":
            self._examine()
        elif self._step == "examine":
            self._reopen()
        else:
            self._name()

    def _examine(self) -> None:
        """Hand the downloaded files to the sandbox."""
        try:
            downloaded = read_downloaded(self._work)
        except (OSError, msgspec.MsgspecError):
            self._fail("the process that downloaded it left no description")
            return
        if self.digest not in (None, downloaded.digest):
            self._fail(
                "its files have changed since this host first saw them; a version stays what it"
                f" was: register a new one ({downloaded.digest}, not {self.digest})"
            )
            return
        self.digest = downloaded.digest
        self._room = _ROOM + _ROOM_PER_BYTE * downloaded.bytes
        command = self._commands.examine(
            *self.key, self._work, downloaded.run_id or "", self._limits()
        )
        # Converting a model may take part of the limit.
        more = {"MODEL_API_PREPARE_SECONDS": f"{self._limit:g}"}
        self._start("examine", command, bubblewrap.environment() | more)

    def _reopen(self) -> None:
        """Check the files that the sandbox left, then have another sandbox open them."""
        self._child = None
        if reason := self._fault():
            self._fail(reason)
            return
        command = self._commands.reopen(self._work, self._limits())
        self._start("reopen", command, bubblewrap.environment())

    def _limits(self) -> Limits:
        return Limits(self._memory, file=self._room)

    def _excess(self, pid: int) -> str | None:
        """Return the limit that it exceeds, in a sentence; None if it keeps all."""
        if time.monotonic() - self._measured_at < _MEASURE_SECONDS:
            return None
        self._measured_at = time.monotonic()
        if self._step != "download":
            usage = usage_of(pid, self._memory)
            self.peak = max(self.peak, usage.bytes)
            if self.peak > self._memory:
                return (
                    f"it took more than {self._memory // MIB} MiB of memory while it was prepared"
                )
            # Two processes belong to bubblewrap.
            if usage.processes > PROCESSES + 2:
                return f"it started more than {PROCESSES} processes while it was prepared"
        return self._disk_excess()

    def _disk_excess(self) -> str | None:
        disk = shutil.disk_usage(self._work.parent)
        if disk.free < _LEAST_FREE:
            return f"less than {_LEAST_FREE // MIB} MiB of the disk are free"
        if self._step == "download":
            return None
        size = 0
        for count, entry in enumerate(_walk(self._work), 1):
            size += entry.stat(follow_symlinks=False).st_blocks * 512
            if count > _MOST_FILES or size > self._room:
                return "it wrote more than a model needs while it was prepared"
        return None

    def _fault(self) -> str | None:
        """Return the fault in the files that the sandbox left; None if there is none."""
        # The sandbox may have removed the folder's permissions.
        self._work.chmod(_READABLE_FOLDER)
        left = set()
        with os.scandir(self._work) as entries:
            for entry in entries:
                if entry.name in (MODEL_FOLDER, DOWNLOADED):
                    continue
                left.add(entry.name)
                if entry.name not in _LEFT or not entry.is_file(follow_symlinks=False):
                    return f"its preparation left {entry.name[:60]!r}, which is no file of ours"
                most = _LARGEST_MANIFEST if entry.name == MANIFEST else self._room
                if entry.stat(follow_symlinks=False).st_size > most:
                    return f"its preparation left {entry.name!r} with more than {most // MIB} MiB"
                os.chmod(entry.path, _READABLE)
        if MANIFEST not in left:
            return "the process that prepared it left no manifest"
        manifest = read_manifest(self._work)
        if (manifest["name"], manifest["version"]) != self.key:
            return "its preparation says that it is another version"
        return None

    def _name(self) -> None:
        """Rename the version's folder: from now on the version may serve."""
        assert self._child is not None
        self._output, self._child = self._child.output, None
        self._work.rename(self.folder)

    def _fail(self, reason: str) -> None:
        self.reason = reason
        self.end()


def _walk(work: Path) -> Iterator[os.DirEntry[str]]:
    """Yield a sandbox's entries in a folder, except the model's files; do not follow links."""
    waiting = [str(work)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.path == str(work / MODEL_FOLDER):
                    continue
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
