"""The durable store: rows in one SQLite file, committed in groups."""

import queue
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

type Rows = Mapping[tuple[str, str], bytes | None]
"""(kind, name) -> content; None deletes the row."""


class Store:
    """Rows of (kind, name) -> bytes, on disk once the future that `submit` returns is done.

    One thread owns the writing connection and commits whatever has queued up since its last
    commit in a single transaction: concurrent requests share one flush to disk instead of
    waiting for each other's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[tuple[Rows, Future[None]] | None] = queue.SimpleQueue()
        # Opened here, where a failure stops the start: in the thread, nobody would notice it.
        self._connection = self._connect()
        with self._connection:
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS state (kind TEXT, name TEXT, content BLOB NOT NULL,"
                " PRIMARY KEY (kind, name))"
            )
        self._writer = threading.Thread(target=self._run, name="store", daemon=True)
        self._writer.start()

    def submit(self, rows: Rows) -> Future[None]:
        """Queue rows to be written atomically, after everything queued before them.

        The future is done when they would survive a power cut. It raises, mostly `sqlite3.Error`,
        when nothing was written (for example: the disk is full).
        """
        done: Future[None] = Future()
        if rows:
            self._queue.put((rows, done))
        else:
            done.set_result(None)
        return done

    def read(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """All rows of a kind as (name, content), in order of their names."""
        connection = self._connect()
        try:
            yield from connection.execute(
                "SELECT name, content FROM state WHERE kind = ? ORDER BY name", (kind,)
            )
        finally:
            connection.close()

    def close(self) -> None:
        """Commit what is queued and stop."""
        self._queue.put(None)
        self._writer.join()

    def _connect(self) -> sqlite3.Connection:
        # One thread at a time uses a connection, though not the one that opened it.
        connection = sqlite3.connect(self._path, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            closing = None in batch
            writes = [item for item in batch if item is not None]
            try:
                with self._connection:
                    for rows, _ in writes:
                        _apply(self._connection, rows)
            except Exception as error:
                # Any error: without this thread every request would wait forever.
                for _, done in writes:
                    done.set_exception(error)
            else:
                for _, done in writes:
                    done.set_result(None)
        self._connection.close()


def _apply(connection: sqlite3.Connection, rows: Rows) -> None:
    connection.executemany(
        "DELETE FROM state WHERE kind = ? AND name = ?",
        [key for key, content in rows.items() if content is None],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO state (kind, name, content) VALUES (?, ?, ?)",
        [(*key, content) for key, content in rows.items() if content is not None],
    )
