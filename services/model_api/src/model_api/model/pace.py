"""How long predictions take."""

import math
import time
from collections.abc import Callable

_MEASURING_SECONDS = 0.03
_LEAST_SECONDS = 1e-5

# After this many predictions in a row that are faster than the recent slowest, that one is
# forgotten. The fastest of them counts: the others may have waited for the interpreter.
_TRIALS = 16


class Pace:
    """How long predictions take: as measured during preparation, corrected by later ones.

    Args:
        fixed: seconds that each prediction takes, measured on the example.
        each: seconds that each row adds.
    """

    def __init__(self, fixed: float, each: float) -> None:
        self._fixed = max(fixed, _LEAST_SECONDS)
        self._each = each
        self._slower = 1.0
        self._least = math.inf
        self._left = _TRIALS

    def seconds(self, rows: int) -> float:
        """Return the expected seconds of a prediction with this many rows."""
        return (self._fixed + self._each * rows) * self._slower

    def took(self, rows: int, seconds: float) -> None:
        """Note a prediction: a slower one counts at once, faster ones once there are several."""
        ratio = seconds / (self._fixed + self._each * rows)
        if ratio >= self._slower:
            self._slower, self._least, self._left = ratio, math.inf, _TRIALS
            return
        self._least = min(self._least, ratio)
        self._left -= 1
        if not self._left:
            self._slower, self._least, self._left = max(1.0, self._least), math.inf, _TRIALS


def shortest(call: Callable[[], object], seconds: float = _MEASURING_SECONDS) -> float:
    """Return the shortest time of a call, in seconds, from repeated tries."""
    deadline = time.perf_counter() + seconds
    best = float("inf")
    while True:
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        best = min(best, end - start)
        if end > deadline:
            return best
