"""How long predictions take."""

import math
import time
from collections.abc import Callable

_MEASURING_SECONDS = 0.03
_LEAST_SECONDS = 1e-5

# So many predictions in a row must be faster than the slowest lately, for it to be forgotten. The
# fastest of them counts: the others may have waited for the interpreter.
_TRIALS = 16


class Pace:
    """How long predictions take: as measured while preparing, corrected by those that came since.

    Args:
        fixed: seconds that each has, on the example.
        each: seconds that each row adds.
    """

    def __init__(self, fixed: float, each: float) -> None:
        self._fixed = max(fixed, _LEAST_SECONDS)
        self._each = each
        self._slower = 1.0
        self._least = math.inf
        self._left = _TRIALS

    def seconds(self, rows: int) -> float:
        """Return how long a prediction of so many rows is expected to take."""
        return (self._fixed + self._each * rows) * self._slower

    def took(self, rows: int, seconds: float) -> None:
        """Take note of one: a slower one counts at once, faster ones once there are several."""
        ratio = seconds / (self._fixed + self._each * rows)
        if ratio >= self._slower:
            self._slower, self._least, self._left = ratio, math.inf, _TRIALS
            return
        self._least = min(self._least, ratio)
        self._left -= 1
        if not self._left:
            self._slower, self._least, self._left = max(1.0, self._least), math.inf, _TRIALS


def shortest(call: Callable[[], object], seconds: float = _MEASURING_SECONDS) -> float:
    """Return the shortest time in seconds that a call takes, tried for so long."""
    deadline = time.perf_counter() + seconds
    best = float("inf")
    while True:
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        best = min(best, end - start)
        if end > deadline:
            return best
