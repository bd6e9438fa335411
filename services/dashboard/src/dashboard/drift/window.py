"""A time window, and its parts for drift over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

_STEPS = [timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=3), timedelta(days=1)]
_BUCKETS = (4, 40)
_ROWS_OF_A_BUCKET = 300


@dataclass(frozen=True)
class Window:
    """From `start` to before `end`."""

    start: datetime
    end: datetime

    def before(self) -> Window:
        """The window of the same length that ends where this one starts."""
        return Window(self.start - (self.end - self.start), self.start)

    def buckets(self, rows: int) -> pd.DatetimeIndex:
        """The edges of equal parts, for drift over time: as fine as this number of rows allows."""
        low, high = _BUCKETS
        wanted = max(low, min(high, rows // _ROWS_OF_A_BUCKET))
        length = self.end - self.start
        step = next((step for step in _STEPS if length / step <= wanted), _STEPS[-1])
        if length / step < low:
            step = length / low
        first = pd.Timestamp(self.start).floor("min")
        return pd.date_range(first, pd.Timestamp(self.end) + step, freq=step, inclusive="left")
