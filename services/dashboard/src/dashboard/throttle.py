"""A delay against guessed passwords: each failed sign-in makes the same name wait longer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

FREE_ATTEMPTS = 2
LONGEST_WAIT = 60.0
REMEMBERED_NAMES = 5000


class Throttle:
    """Counts failed attempts per name, for all visitors of this process.

    An admitted attempt counts as failed until `succeeded` or `undecided` is called, so that
    parallel guesses gain nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without failures; `clock` returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def admit(self, name: str) -> float:
        """0.0 if the attempt may proceed now, otherwise the seconds left to wait."""
        with self._lock:
            count, blocked_until = self._failures.get(name, (0, 0.0))
            now = self._clock()
            if now < blocked_until:
                return blocked_until - now
            count += 1
            # Without a bound, the power would overflow after a thousand attempts.
            doublings = min(count - FREE_ATTEMPTS, 60)
            wait = min(2.0**doublings, LONGEST_WAIT) if doublings > 0 else 0
            self._failures[name] = (count, now + wait)
            self._failures.move_to_end(name)
            if len(self._failures) > REMEMBERED_NAMES:
                self._failures.popitem(last=False)
            return 0.0

    def succeeded(self, name: str) -> None:
        """Forget a name's failures."""
        with self._lock:
            self._failures.pop(name, None)

    def undecided(self, name: str) -> None:
        """Do not count the last attempt, because the password was never checked."""
        with self._lock:
            count, _ = self._failures.pop(name, (0, 0.0))
            if count > 1:
                self._failures[name] = (count - 1, 0.0)
