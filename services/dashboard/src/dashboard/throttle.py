"""A little patience for sign-in: each failure makes the same name wait longer."""

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

    An attempt counts as failed from the moment it is admitted until `succeeded` or `undecided`
    says otherwise, so that guesses sent side by side gain nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no failures; `clock` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def admit(self, name: str) -> float:
        """0.0 if the attempt may go ahead now, else the seconds still to wait."""
        with self._lock:
            count, blocked_until = self._failures.get(name, (0, 0.0))
            now = self._clock()
            if now < blocked_until:
                return blocked_until - now
            count += 1
            # Bounded, as the power would overflow after a thousand attempts.
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
        """Take back the last attempt: the password was never checked."""
        with self._lock:
            count, _ = self._failures.pop(name, (0, 0.0))
            if count > 1:
                self._failures[name] = (count - 1, 0.0)
