"""Object bodies: one file each, written once, streamed in and out."""

import base64
import binascii
import hashlib
import mmap
import os
import shutil
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1024 * 1024


@dataclass
class Stored:
    """A body on disk, before an object owns it.

    `md5` is a hex digest, or None where the bytes were only moved, not read.
    """

    body_id: str
    size: int
    md5: str | None
    claimed: bool = False


class Body:
    """The bytes of a stored object, read from its open file as they are needed.

    It replaces the `bytes` that moto expects: it has a length, can be sliced (ranges), iterated
    (responses) and passed to checksum functions (the buffer protocol, by memory map). The file
    stays readable while it is open, even if the object is overwritten or deleted meanwhile.
    """

    def __init__(self, path: Path, *, md5: str | None = None) -> None:
        self.path = path
        self.md5 = md5
        self._file = path.open("rb")
        self._start = 0
        self._size = os.fstat(self._file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> "Body":
        start, stop, step = part.indices(self._size)
        if step != 1:
            raise ValueError("a body can only be sliced in steps of 1")
        piece = object.__new__(Body)
        piece.path, piece.md5, piece._file = self.path, None, self._file
        piece._start, piece._size = self._start + start, max(0, stop - start)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        position, left = self._start, self._size
        while left:
            data = os.pread(self._file.fileno(), min(CHUNK, left), position)
            if not data:
                raise OSError(f"{self.path} is {left} bytes shorter than it was")
            yield data
            position += len(data)
            left -= len(data)

    def __buffer__(self, flags: int) -> memoryview:
        if not self._size:
            return memoryview(b"")
        whole = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(whole)[self._start : self._start + self._size]

    def is_whole(self) -> bool:
        """Whether this is the whole file, not a slice of it."""
        return self._start == 0 and self._size == os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file; WSGI calls this when the response was sent."""
        self._file.close()


class BodyStore:
    """The directory of body files, named by random ids that metadata rows refer to.

    Files are flushed to disk before their ids are handed out, and removed only after the rows
    that named them are gone, so a row never names a missing file. `sweep` removes the
    files that a crash left without a row, at the next start.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        for shard in range(256):
            (root / f"{shard:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, body_id: str) -> Path:
        """The path of the body with this id."""
        return self._root / body_id[:2] / body_id

    def write(self, chunks: Iterable[bytes], *observers: Callable[[bytes], object]) -> Stored:
        """Store the chunks as a new body, passing each to the observers (digests) on the way."""
        body_id = uuid.uuid4().hex
        path = self.path(body_id)
        md5 = hashlib.md5(usedforsecurity=False)
        size = 0
        try:
            with path.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    md5.update(chunk)
                    for observe in observers:
                        observe(chunk)
                    size += len(chunk)
                _flush(file, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Stored(body_id, size, md5.hexdigest())

    def copy(self, source: Body) -> Stored:
        """A new body with the bytes of another one: the same inode where that is possible."""
        if source.md5 is None or not source.is_whole():
            return self.write(source)
        body_id = uuid.uuid4().hex
        path = self.path(body_id)
        try:
            os.link(source.path, path)
        except OSError:  # deleted meanwhile, or the filesystem's limit of links is reached
            return self.write(source)
        _flush_directory(path)
        return Stored(body_id, len(source), source.md5)

    def join(self, parts: Iterable[str]) -> Stored:
        """A new body made of the bodies with these ids, one after the other."""
        body_id = uuid.uuid4().hex
        path = self.path(body_id)
        try:
            with path.open("xb") as file:
                for part in parts:
                    with self.path(part).open("rb") as source:
                        shutil.copyfileobj(source, file, CHUNK)
                _flush(file, path)
                size = file.tell()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Stored(body_id, size, None)

    def discard(self, body_ids: Iterable[str]) -> None:
        """Remove bodies that no row names any more."""
        for body_id in body_ids:
            self.path(body_id).unlink(missing_ok=True)

    def sweep(self, referenced: Container[str]) -> int:
        """Remove every body that is not referenced; returns how many there were."""
        orphans = [
            path
            for shard in self._root.iterdir()
            for path in shard.iterdir()
            if path.name not in referenced
        ]
        for path in orphans:
            path.unlink()
        return len(orphans)


def _flush(file: BinaryIO, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    _flush_directory(path)


def _flush_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Checksum:
    """A running checksum of one of the algorithms S3 clients send and Python has."""

    ALGORITHMS = ("crc32", "sha1", "sha256")

    def __init__(self, algorithm: str) -> None:
        self._crc = 0
        self._hash = None if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        """Add a chunk."""
        if self._hash is None:
            self._crc = binascii.crc32(chunk, self._crc)
        else:
            self._hash.update(chunk)

    def value(self) -> str:
        """The checksum as S3 writes it: base64 of the big-endian digest."""
        digest = self._crc.to_bytes(4, "big") if self._hash is None else self._hash.digest()
        return base64.b64encode(digest).decode()
