"""The answers that visitors' pages have loaded: one bounded store for the whole process.

Not `st.cache_data(scope="session")`: an answer is shown past its time while its service is away,
requests go on after the page is drawn, and nothing there limits all visitors together. What it does
well is done the same way here: answers are kept pickled, so that their size is known to the byte
and no page can change what another run of it will see.
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
"""Kept for one visitor's tab at most."""

TOTAL_BYTES = 160 * MIB
"""Kept for all of them together at most."""

KEPT_SECONDS = 1800.0
"""How long an answer is kept at most, to be shown while its service is away."""

MOST_ANSWERS = 5000
"""Kept for all together at most, however small they are."""


class TooLarge(Exception):
    """The answer alone is larger than all that may be kept."""


@dataclass
class Answer:
    """An answer; `came` is when, in seconds of the store's clock, `at` the same as a time.

    `fresh` is False when it is to be asked for again. `took` are the seconds it took to come.
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
"""A service, and what it was asked."""


class Answers:
    """Answers by visitor and key. The one used longest ago goes first, when room is needed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; `clock` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Key], Answer] = OrderedDict()
        self._next_sweep = float("-inf")
        self._bytes: Counter[str] = Counter()
        """Visitor -> bytes kept for them."""

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Bytes kept for all visitors."""
        return self._bytes.total()

    def get(self, visitor: str, key: Key) -> Answer | None:
        """The kept answer, None where there is none any more."""
        with self._lock:
            self._forget_old()
            if answer := self._kept.get((visitor, key)):
                self._kept.move_to_end((visitor, key))
            return answer

    def put(self, visitor: str, key: Key, value: object, took: float = 0.0) -> None:
        """Keep an answer that has just come, and make room for it.

        Args:
            visitor: whose it is; nobody else gets it.
            key: what was asked.
            value: the answer; it must be picklable.
            took: seconds from the question to the answer.

        Raises:
            TooLarge: the answer alone exceeds `TOTAL_BYTES`.
        """
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if len(pickled) > TOTAL_BYTES:
            raise TooLarge
        with self._lock:
            self._remove((visitor, key))
            self._forget_old()
            # An answer larger than a visitor's share replaces all others of theirs.
            while self._bytes[visitor] and self._bytes[visitor] + len(pickled) > VISITOR_BYTES:
                self._remove(next(found for found in self._kept if found[0] == visitor))
            while self._kept and (
                self.bytes + len(pickled) > TOTAL_BYTES or len(self._kept) >= MOST_ANSWERS
            ):
                self._remove(next(iter(self._kept)))
            self._kept[(visitor, key)] = Answer(pickled, self._clock(), datetime.now(UTC), took)
            self._bytes[visitor] += len(pickled)

    def expire(self, visitor: str, service: str | None = None) -> None:
        """Let a visitor's answers, of one service or of all, be asked for again.

        Keys are tuples that begin with the service.
        """
        with self._lock:
            for (owner, key), answer in self._kept.items():
                if owner == visitor and service in (None, key[0]):
                    answer.fresh = False

    def forget(self, visitor: str) -> None:
        """Drop everything that is kept for a visitor."""
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
