"""The writing process: datagrams in, Parquet files out."""

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from model_api.common import storage
from model_api.common.backoff import back_off
from model_api.common.guard import Guard
from model_api.prediction_log.sender import Record
from model_api.prediction_log.settings import Settings
from model_api.prediction_log.tables import Group, Tables
from model_api.prediction_log.waiting import Waiting

logger = logging.getLogger(__name__)

# More than a kernel transfers in one datagram.
_DATAGRAM_BYTES = 1024 * 1024
_LONGEST_PAUSE_SECONDS = 60
# Limit of one flush: decoded records take some ten times the memory.
_FLUSH_BYTES = 4 * 1024 * 1024
# After this many failed groups in a row in one flush, S3 counts as unreachable.
_FAILURES_OF_S3 = 2


@dataclass
class Stuck:
    """The state of a group that cannot be uploaded.

    Attributes:
        failures: failed tries in a row.
        retry_at: time of the next try, on the monotonic clock.
        error: the last error.
        reported: whether the log has mentioned it.
    """

    failures: int = 0
    retry_at: float = 0.0
    error: Exception | None = None
    reported: bool = False


class Uploads:
    """The results of the uploads of one flush.

    Args:
        most_failures: failures in a row after which S3 counts as unreachable: each further try
            would cost its timeout.
    """

    def __init__(self, most_failures: int) -> None:
        self.written = 0
        self.error: Exception | None = None
        self._most_failures = most_failures
        self._in_a_row = 0

    @property
    def away(self) -> bool:
        """Whether S3 itself seems to be unreachable."""
        return self._in_a_row >= self._most_failures

    def succeed(self) -> None:
        """Count an upload."""
        self.written += 1
        self._in_a_row = 0

    def fail(self, error: Exception, known: bool) -> None:
        """Count a failure; one of a group already known to be stuck says nothing about S3."""
        self._in_a_row += 1
        if not known:
            self.error = self.error or error


class Writer:
    """Receives records until told to stop, and writes them in batches.

    A record is written at least once; twice if S3 takes a file and its answer is lost. Files of one
    model, version and day make a group. A group that cannot be uploaded is set aside and retried
    less and less often, while the others continue.

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
        self._away = False
        self._stuck: dict[Group, Stuck] = {}
        self._deaf = False
        self._reported = 0
        self.written = 0
        self.undecodable = 0

    def stop(self) -> None:
        """Make `run` write the waiting records and return."""
        self._stopping.set()

    def run(self) -> bool:
        """Receive and write until `stop`; return whether it ended because of that."""
        # A daemon thread: if the main thread fails, the process must end so that systemd restarts
        # it.
        receiver = threading.Thread(target=self._receive, name="receiver", daemon=True)
        receiver.start()
        while not self._pause():
            self._flush_all()
        self._end(receiver)
        # If it cannot be removed, such as from a read-only disk, the next process reports that; the
        # waiting records must be written now.
        with suppress(OSError):
            self._settings.socket.unlink()
        self._flush_all(last=True)
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
        ended = False
        try:
            while (record := self._socket.recv(_DATAGRAM_BYTES)) != self._last:
                self._waiting.add(record)
            ended = True
        except Exception:
            logger.exception("receiving failed: the process ends, to be started again")
        finally:
            if not ended:
                # Another try on the same socket would probably fail as well; a new process has a
                # new one. The waiting records are written first.
                self._deaf = True
                self.stop()

    def _end(self, receiver: threading.Thread) -> None:
        """Make the receiver end after everything sent before."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # If the receiver has failed, nothing empties its socket.
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
        """Wait until it is time to write; tell whether to stop."""
        seconds = self._settings.flush_seconds
        failures = self._writing.failures
        if failures:
            seconds = back_off(seconds, failures, _LONGEST_PAUSE_SECONDS)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopping.wait(min(left, 0.2)):
                return True
            if not failures and (
                self._waiting.ready >= self._settings.flush_records
                or self._waiting.size >= min(_FLUSH_BYTES, self._settings.max_bytes // 2)
            ):
                break
        return self._stopping.is_set()

    def _flush_all(self, last: bool = False) -> None:
        """Write the waiting records in batches, until none wait or S3 is unreachable.

        Args:
            last: whether this is the last try: then groups are also tried before their time.
        """
        with self._writing:
            uploads = Uploads(1 if self._away else _FAILURES_OF_S3)
            self._write_ready(uploads)
            now = time.monotonic()
            for group, stuck in sorted(self._stuck.items(), key=lambda item: item[1].failures):
                if (last or now >= stuck.retry_at) and not uploads.away:
                    self._write_aside(group, uploads)
            self._report(uploads)
        if self._waiting.dropped > self._reported:
            logger.warning(
                "dropped the oldest %d records: no more than %d bytes wait for S3",
                self._waiting.dropped - self._reported,
                self._settings.max_bytes,
            )
            self._reported = self._waiting.dropped

    def _report(self, uploads: Uploads) -> None:
        """Log when S3 becomes unreachable or reachable, and groups that cannot be uploaded."""
        if uploads.written:
            if self._away:
                logger.info("%s can be written to again", self._settings.url)
            self._away = False
            for group, stuck in self._stuck.items():
                if not stuck.reported:
                    stuck.reported = True
                    logger.warning(
                        "records of %r, version %s, cannot be uploaded and wait; others go on: %s",
                        group.name,
                        group.version,
                        stuck.error,
                    )
        elif uploads.error is not None and not self._away:
            self._away = True
            logger.warning("%s cannot be written to: %s", self._settings.url, uploads.error)

    def _write_ready(self, uploads: Uploads) -> None:
        """Write the records that are not set aside; set aside those that cannot be uploaded."""
        while not uploads.away and (
            batch := self._waiting.oldest(self._settings.flush_records, _FLUSH_BYTES)
        ):
            groups, strange = self._tables.group(batch)
            if strange:
                self._undecodable(
                    "datagrams that are no records", len(strange), "see who else sends"
                )
                self._waiting.forget(strange)
            for group, records in groups.items():
                if group in self._stuck:
                    # These wait together with the group's earlier records.
                    self._waiting.set_aside(group, list(records))
                elif not uploads.away and not self._write(group, records, uploads):
                    self._waiting.set_aside(group, list(records))

    def _write_aside(self, group: Group, uploads: Uploads) -> None:
        """Retry writing the records of a group that were set aside."""
        while batch := self._waiting.oldest(self._settings.flush_records, _FLUSH_BYTES, group):
            groups, _ = self._tables.group(batch)
            if not self._write(group, groups[group], uploads):
                return
        # Also if the records were dropped for newer ones meanwhile.
        self._stuck.pop(group, None)

    def _write(self, group: Group, records: dict[int, Record], uploads: Uploads) -> bool:
        """Write the records of one group; tell whether they are finished."""
        table, reasons = self._tables.table(group, list(records.values()))
        if table is not None:
            try:
                content = _as_parquet(table)
            except Exception as error:
                # The records of one version must not affect the others.
                why = f"no file can be made of them ({type(error).__name__})"
                reasons = [why] * len(records)
            else:
                path = f"{self._root}/{group.folder}/{uuid4()}.parquet"
                try:
                    storage.put(self._files, path, content)
                except Exception as error:
                    uploads.fail(error, self._note_stuck(group, error).reported)
                    return False
                uploads.succeed()
                self.written += table.num_rows
                if (stuck := self._stuck.pop(group, None)) and stuck.reported:
                    logger.info("records of %r, version %s: uploaded", group.name, group.version)
        if reasons:
            which = f"records of {group.name!r}, version {group.version}"
            self._undecodable(which, len(reasons), reasons[0])
        self._waiting.forget(list(records))
        return True

    def _note_stuck(self, group: Group, error: Exception) -> Stuck:
        stuck = self._stuck.setdefault(group, Stuck())
        stuck.failures += 1
        stuck.error = error
        wait = back_off(self._settings.flush_seconds, stuck.failures, _LONGEST_PAUSE_SECONDS)
        stuck.retry_at = time.monotonic() + wait
        return stuck

    def _undecodable(self, which: str, count: int, reason: str) -> None:
        self.undecodable += count
        logger.warning("dropped %d %s: %s", count, which, reason)


def _as_parquet(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def _listen(path: Path) -> socket.socket:
    """Return a datagram socket at the path, to which only this user may send."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener
