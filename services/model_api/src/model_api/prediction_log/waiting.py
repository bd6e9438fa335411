"""Records in memory that have not been written yet."""

import threading
from collections.abc import Hashable
from itertools import islice


class Waiting:
    """A queue of bounded size: its oldest records make room for new ones. Threads may share it.

    Records can be set aside under a group, so that a file that cannot be uploaded now does not
    block the others. Records set aside are dropped first.

    Args:
        max_bytes: limit for all records together, including those set aside.
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
        """The number of records that are not set aside."""
        return len(self._records)

    @property
    def size(self) -> int:
        """The bytes of all records that are not set aside."""
        return self._bytes - self._bytes_aside

    def add(self, record: bytes) -> None:
        """Append a record; drop and count the oldest ones if they no longer fit."""
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
            count: the most records.
            max_bytes: limit for all of them together; a single record may be larger.
            group: return records set aside under this group; if None, those not set aside.
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
        """Set records aside under a group, except those dropped meanwhile."""
        with self._lock:
            for key in keys:
                if key in self._records:
                    record = self._records.pop(key)
                    self._aside.setdefault(group, {})[key] = record
                    self._bytes_aside += len(record)

    def forget(self, keys: list[int]) -> None:
        """Remove records, except those dropped meanwhile."""
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
