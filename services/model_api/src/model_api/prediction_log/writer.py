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
from model_api.backoff import back_off
from model_api.guard import Guard
from model_api.prediction_log.settings import Settings
from model_api.prediction_log.tables import Tables
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
        self._writing = Guard("writing the prediction log", logger)
        self._away = 0
        self._deaf = False
        self._reported = 0
        self.written = 0
        self.undecodable = 0

    def stop(self) -> None:
        """Make `run` write what there is and return."""
        self._stopping.set()

    def run(self) -> bool:
        """Receive and write until `stop`; return whether it ended for that reason."""
        # A daemon: should this thread fail, the process must end and be started again.
        receiver = threading.Thread(target=self._receive, name="receiver", daemon=True)
        receiver.start()
        while not self._pause():
            self._flush_all()
        self._end(receiver)
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
        return not self._deaf

    def _receive(self) -> None:
        try:
            while (record := self._socket.recv(_DATAGRAM_BYTES)) != self._last:
                self._waiting.add(record)
        except Exception:
            # Another try on the same socket would most likely fail as well; a new process has a
            # new one. What waits is written first.
            logger.exception("receiving failed: the process ends, to be started again")
            self._deaf = True
            self.stop()

    def _end(self, receiver: threading.Thread) -> None:
        """Make the receiver end, after all that was sent before."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # Nobody empties the socket of a receiver that has failed.
            sender.setblocking(False)
            told = False
            while receiver.is_alive():
                if not told:
                    try:
                        sender.sendto(self._last, str(self._settings.socket))
                        told = True
                    except BlockingIOError:
                        pass  # full: the receiver is about to read it
                    except OSError as error:
                        logger.warning("%s is gone: %s", self._settings.socket, error)
                        return
                receiver.join(0.05)

    def _pause(self) -> bool:
        """Wait until there is reason to write; tell whether to stop."""
        seconds = self._settings.flush_seconds
        failures = self._failures
        if failures:
            seconds = back_off(seconds, failures, _LONGEST_PAUSE_SECONDS)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopping.wait(min(left, 0.2)):
                return True
            if not failures and (
                len(self._waiting) >= self._settings.flush_records
                or self._waiting.bytes >= min(_FLUSH_BYTES, self._settings.max_bytes // 2)
            ):
                break
        return self._stopping.is_set()

    @property
    def _failures(self) -> int:
        """Flushes in a row that failed, whatever the reason."""
        return self._away + self._writing.failures

    def _flush_all(self) -> None:
        """Write what waits, batch after batch, until nothing waits or S3 is away."""
        with self._writing:
            try:
                while batch := self._waiting.oldest(self._settings.flush_records, _FLUSH_BYTES):
                    self._flush(batch)
            except OSError as error:
                self._away += 1
                if self._away == 1:
                    logger.warning("%s cannot be written to: %s", self._settings.url, error)
            else:
                if self._away:
                    logger.info("%s can be written to again", self._settings.url)
                self._away = 0
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
                try:
                    content = _as_parquet(table)
                except Exception as error:
                    # Whatever one version's records bring, the others' must go on.
                    why = f"no file can be made of them ({type(error).__name__})"
                    reasons = [why] * len(records)
                else:
                    path = f"{self._root}/{group.folder}/{uuid4()}.parquet"
                    storage.put(self._files, path, content)
                    self.written += table.num_rows
            if reasons:
                which = f"records of {group.name!r}, version {group.version}"
                self._undecodable(which, len(reasons), reasons[0])
            self._waiting.forget(list(records))

    def _undecodable(self, which: str, count: int, reason: str) -> None:
        self.undecodable += count
        logger.warning("dropped %d %s: %s", count, which, reason)


def _as_parquet(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


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
