"""Records in memory that have not been written yet."""

import threading
from collections.abc import Hashable
from itertools import islice


class Waiting:
    """A queue of bounded size, whose oldest records make room for new ones; threads may share it.

    Records can be set aside under a group: those of a file that cannot be uploaded right now must
    not be in the way of the others. They make room first.

    Args:
        max_bytes: of all records together, those set aside included.
    """

    def __init__(self, max_bytes: int) -> None:
        self.dropped = 0
        self._max_bytes = max_bytes
        self._records: dict[int, bytes] = {}
        self._aside: dict[Hashable, dict[int, bytes]] = {}
        self._bytes = 0
        self._bytes_aside = 0
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records) + sum(map(len, self._aside.values()))

    @property
    def ready(self) -> int:
        """How many records are not set aside."""
        return len(self._records)

    @property
    def size(self) -> int:
        """Bytes of all records that are not set aside together."""
        return self._bytes - self._bytes_aside

    def add(self, record: bytes) -> None:
        """Append a record; drop and count the oldest ones that no longer fit."""
        with self._lock:
            self._records[self._next] = record
            self._next += 1
            self._bytes += len(record)
            while self._bytes > self._max_bytes:
                oldest = min((next(iter(group)) for group in self._aside.values()), default=None)
                self._remove(next(iter(self._records)) if oldest is None else oldest)
                self.dropped += 1

    def oldest(self, count: int, max_bytes: int, group: Hashable | None = None) -> dict[int, bytes]:
        """Return the oldest records, each under a key; they stay until `forget`.

        Args:
            count: how many at most.
            max_bytes: of them together; one record may be larger.
            group: of those set aside under it; if not given, of those that are not.
        """
        with self._lock:
            records = self._records if group is None else self._aside.get(group, {})
            found: dict[int, bytes] = {}
            for key, record in islice(records.items(), count):
                max_bytes -= len(record)
                if found and max_bytes < 0:
                    break
                found[key] = record
            return found

    def set_aside(self, group: Hashable, keys: list[int]) -> None:
        """Put records under a group, those that were dropped meanwhile excepted."""
        with self._lock:
            for key in keys:
                if key in self._records:
                    record = self._records.pop(key)
                    self._aside.setdefault(group, {})[key] = record
                    self._bytes_aside += len(record)

    def forget(self, keys: list[int]) -> None:
        """Remove records, those that were dropped meanwhile excepted."""
        with self._lock:
            for key in keys:
                self._remove(key)

    def _remove(self, key: int) -> None:
        if key in self._records:
            self._bytes -= len(self._records.pop(key))
            return
        for group, records in self._aside.items():
            if key in records:
                size = len(records.pop(key))
                self._bytes -= size
                self._bytes_aside -= size
                if not records:
                    del self._aside[group]
                return
