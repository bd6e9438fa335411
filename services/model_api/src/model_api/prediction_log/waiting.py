"""Records in memory that have not been written yet."""

import threading
from itertools import islice


class Waiting:
    """A queue of bounded size, whose oldest records make room for new ones; threads may share it.

    Args:
        max_bytes: of all records together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.dropped = 0
        self._max_bytes = max_bytes
        self._records: dict[int, bytes] = {}
        self._bytes = 0
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: bytes) -> None:
        """Append a record; drop and count the oldest ones that no longer fit."""
        with self._lock:
            self._records[self._next] = record
            self._next += 1
            self._bytes += len(record)
            while self._bytes > self._max_bytes:
                self._remove(next(iter(self._records)))
                self.dropped += 1

    @property
    def bytes(self) -> int:
        """Of all records together."""
        return self._bytes

    def oldest(self, count: int, max_bytes: int) -> dict[int, bytes]:
        """Return the oldest records, each under a key; they stay until `forget`.

        Args:
            count: how many at most.
            max_bytes: of them together; one record may be larger.
        """
        with self._lock:
            found: dict[int, bytes] = {}
            for key, record in islice(self._records.items(), count):
                max_bytes -= len(record)
                if found and max_bytes < 0:
                    break
                found[key] = record
            return found

    def forget(self, keys: list[int]) -> None:
        """Remove records, those that were dropped meanwhile excepted."""
        with self._lock:
            for key in keys:
                if key in self._records:
                    self._remove(key)

    def _remove(self, key: int) -> None:
        self._bytes -= len(self._records.pop(key))
