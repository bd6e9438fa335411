"""The writing process: datagrams in, Parquet files out."""

import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from model_api import storage
from model_api.prediction_log.settings import Settings
from model_api.prediction_log.tables import Group, Tables
from model_api.prediction_log.waiting import Waiting

logger = logging.getLogger(__name__)

# More than a kernel lets through in one datagram.
_DATAGRAM_BYTES = 1024 * 1024
_LONGEST_PAUSE_SECONDS = 60
# Of one flush: decoded, records take some ten times the memory.
_FLUSH_BYTES = 4 * 1024 * 1024


class Writer:
    """Receives records until it is told to stop, and writes them in batches.

    A record is written at least once: if S3 takes a file and its answer is lost, twice.

    Args:
        settings: with a ``url``.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.url is not None
        self._settings = settings
        self._files, self._root = storage.locate(settings.url)
        self._tables = Tables(settings.state_directory)
        self._waiting = Waiting(settings.max_bytes)
        self._socket = _listen(settings.socket)
        self._stopping = threading.Event()
        self._last = secrets.token_bytes(16)
        self._failures = 0
        self._reported = 0
        self.written = 0
        self.undecodable = 0

    def stop(self) -> None:
        """Make `run` write what there is and return."""
        self._stopping.set()

    def run(self) -> None:
        """Receive and write until `stop`."""
        receiver = threading.Thread(target=self._receive, name="receiver")
        receiver.start()
        while not self._pause():
            self._flush_all()
        self._end()
        receiver.join()
        self._settings.socket.unlink(missing_ok=True)
        self._flush_all()
        logger.info(
            "written %d rows; dropped %d records that did not fit, %d that could not be decoded;"
            " %d are lost",
            self.written,
            self._waiting.dropped,
            self.undecodable,
            len(self._waiting),
        )

    def _receive(self) -> None:
        while True:
            record = self._socket.recv(_DATAGRAM_BYTES)
            if record == self._last:
                return
            self._waiting.add(record)

    def _end(self) -> None:
        """Make the receiver end, after all that was sent before."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(self._last, str(self._settings.socket))

    def _pause(self) -> bool:
        """Wait until there is reason to write; tell whether to stop."""
        seconds = self._settings.flush_seconds
        if self._failures:
            seconds = min(seconds * 2 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopping.wait(min(left, 0.2)):
                return True
            if not self._failures and (
                len(self._waiting) >= self._settings.flush_records
                or self._waiting.bytes >= min(_FLUSH_BYTES, self._settings.max_bytes // 2)
            ):
                break
        return self._stopping.is_set()

    def _flush_all(self) -> None:
        """Write what waits, batch after batch, until nothing waits or S3 is away."""
        try:
            while batch := self._waiting.oldest(self._settings.flush_records, _FLUSH_BYTES):
                self._flush(batch)
        except OSError as error:
            self._failures += 1
            if self._failures == 1:
                logger.warning("%s cannot be written to: %s", self._settings.url, error)
        else:
            if self._failures:
                logger.info("%s can be written to again", self._settings.url)
            self._failures = 0
        if self._waiting.dropped > self._reported:
            logger.warning(
                "dropped the oldest %d records: no more than %d bytes wait for S3",
                self._waiting.dropped - self._reported,
                self._settings.max_bytes,
            )
            self._reported = self._waiting.dropped

    def _flush(self, batch: dict[int, bytes]) -> None:
        groups, strange = self._tables.group(batch)
        if strange:
            self._undecodable("datagrams that are no records", len(strange), "see who else sends")
            self._waiting.forget(strange)
        for group, records in groups.items():
            table, reasons = self._tables.table(group, list(records.values()))
            if table is not None:
                self._write(group, table)
            if reasons:
                which = f"records of {group.name!r}, version {group.version}"
                self._undecodable(which, len(reasons), reasons[0])
            self._waiting.forget(list(records))

    def _write(self, group: Group, table: pa.Table) -> None:
        path = f"{self._root}/{group.folder}/{uuid4()}.parquet"
        if self._files.type_name == "local":  # S3 has no folders
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with self._files.open_output_stream(path) as sink:
            pq.write_table(table, sink)
        self.written += table.num_rows

    def _undecodable(self, which: str, count: int, reason: str) -> None:
        self.undecodable += count
        logger.warning("dropped %d %s: %s", count, which, reason)


def _listen(path: Path) -> socket.socket:
    """Return a datagram socket at the path, which only this user may send to."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener
