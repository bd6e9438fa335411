"""The answers that visitors' pages have loaded: one bounded store for the whole process.

`st.cache_data(scope="session")` does not fit: here an expired answer is shown while its service is
unavailable, requests continue after the page is drawn, and one limit covers all visitors. As there,
answers are kept pickled, so their size is known to the byte and no run of a page can change the
answers that another run sees.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime

MIB = 1 << 20

VISITOR_BYTES = 48 * MIB
"""Most bytes kept for one visitor's tab."""

TOTAL_BYTES = 160 * MIB
"""Most bytes kept for all tabs together."""

KEPT_SECONDS = 1800.0
"""Longest time that an answer is kept, to be shown while its service is unavailable."""

MOST_ANSWERS = 5000
"""Most answers kept for all tabs together, whatever their size."""


class TooLarge(Exception):
    """The answer alone exceeds the limit of the store."""


@dataclass
class Answer:
    """An answer, received at `came` (in seconds of the store's clock) and `at` (as a time).

    `fresh` is False if the answer must be requested again. `took` is how many seconds the request
    took.
    """

    pickled: bytes
    came: float
    at: datetime
    took: float
    fresh: bool = True

    @property
    def value(self) -> object:
        """A copy of the answer."""
        return pickle.loads(self.pickled)


type Key = tuple[str, Hashable]
"""A service, and the request to it."""


class Answers:
    """Answers by visitor and key. If space is needed, the least recently used answer goes first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; `clock` returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Key], Answer] = OrderedDict()
        self._next_sweep = float("-inf")
        self._bytes: Counter[str] = Counter()
        """Visitor -> bytes kept for that visitor."""

    def __len__(self) -> int:
        """The number of answers kept."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Bytes kept for all visitors."""
        return self._bytes.total()

    def get(self, visitor: str, key: Key) -> Answer | None:
        """The kept answer, or None if there is none or it has expired."""
        with self._lock:
            self._forget_old()
            if answer := self._kept.get((visitor, key)):
                self._kept.move_to_end((visitor, key))
            return answer

    def put(self, visitor: str, key: Key, value: object, took: float = 0.0) -> None:
        """Keep a new answer, and make room for it.

        Args:
            visitor: the owner; no other visitor gets the answer.
            key: the service and the request.
            value: the answer; it must be picklable.
            took: seconds from the request to the answer.

        Raises:
            TooLarge: the answer alone exceeds `TOTAL_BYTES`.
        """
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if len(pickled) > TOTAL_BYTES:
            raise TooLarge
        with self._lock:
            self._remove((visitor, key))
            self._forget_old()
            # An answer larger than a visitor's share replaces all other answers of that visitor.
            while self._bytes[visitor] and self._bytes[visitor] + len(pickled) > VISITOR_BYTES:
                self._remove(next(found for found in self._kept if found[0] == visitor))
            while self._kept and (
                self.bytes + len(pickled) > TOTAL_BYTES or len(self._kept) >= MOST_ANSWERS
            ):
                self._remove(next(iter(self._kept)))
            self._kept[(visitor, key)] = Answer(pickled, self._clock(), datetime.now(UTC), took)
            self._bytes[visitor] += len(pickled)

    def expire(self, visitor: str, service: str | None = None) -> None:
        """Mark a visitor's answers, from one service or from all, to be requested again.

        Keys are tuples that begin with the service.
        """
        with self._lock:
            for (owner, key), answer in self._kept.items():
                if owner == visitor and service in (None, key[0]):
                    answer.fresh = False

    def forget(self, visitor: str) -> None:
        """Drop all answers of a visitor."""
        with self._lock:
            for found in [found for found in self._kept if found[0] == visitor]:
                self._remove(found)

    def _forget_old(self) -> None:
        now = self._clock()
        if now < self._next_sweep:
            return
        self._next_sweep = now + KEPT_SECONDS / 60
        for found in [f for f, answer in self._kept.items() if now - answer.came > KEPT_SECONDS]:
            self._remove(found)

    def _remove(self, found: tuple[str, Key]) -> None:
        answer = self._kept.pop(found, None)
        if answer is not None:
            self._bytes[found[0]] -= len(answer.pickled)
            if not self._bytes[found[0]]:
                del self._bytes[found[0]]
