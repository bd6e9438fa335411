"""The outcome of a comparison: the checks of each column, and its verdict with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import nan

import pandas as pd

from dashboard.drift.limits import SIGNIFICANCE


class Verdict(StrEnum):
    """The outcome for one column."""

    DRIFTED = "drifted"
    STABLE = "stable"
    UNTESTED = "not tested"


class Kind(StrEnum):
    """What the values of a column are."""

    NUMBER = "numbers"
    MOMENT = "times"
    FLAG = "true or false"
    TEXT = "text"
    NESTED = "arrays"
    EMPTY = "nothing"


@dataclass(frozen=True)
class Check:
    """One kind of change in one column.

    `size` is comparable with `limit`; `statistic` and `p` are the test's, `adjusted` is p
    corrected for all checks of the comparison. `text` says in words what was found.
    """

    name: str
    size: float
    limit: float
    statistic: float
    p: float
    text: str
    adjusted: float = nan

    @property
    def alarm(self) -> bool:
        """Whether the change is significant and large enough to matter."""
        return self.adjusted < SIGNIFICANCE and self.size >= self.limit


@dataclass(frozen=True)
class Feature:
    """One column in both samples, and the verdict.

    `reference` and `recent` hold the values without the missing ones: numbers as float64, times
    as int64 in microseconds since 1970 (UTC), anything else as text. `rows` counts the rows of
    both samples, `missing` is the share of missing values in each. `psi` and `noise`, the PSI
    expected by chance, are NaN where the values were not tested; `untested` then says why.
    """

    name: str
    kind: Kind
    reference: pd.Series
    recent: pd.Series
    rows: tuple[int, int]
    missing: tuple[float, float]
    checks: tuple[Check, ...] = ()
    psi: float = nan
    noise: float = nan
    untested: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its values have an order, so that they are drawn along an axis."""
        return self.kind in (Kind.NUMBER, Kind.MOMENT)

    @property
    def verdict(self) -> Verdict:
        """Drifted if any check says so; stable only if the values were tested."""
        if any(check.alarm for check in self.checks):
            return Verdict.DRIFTED
        return Verdict.UNTESTED if self.untested else Verdict.STABLE

    @property
    def why(self) -> str:
        """The reason for the verdict, in words."""
        alarms = [check.text for check in self.checks if check.alarm]
        if alarms:
            return "; ".join(alarms)
        if self.untested:
            return self.untested
        return next((c.text for c in self.checks if c.name == "values"), "always the same value")

    @property
    def _decisive(self) -> Check | None:
        alarms = [check for check in self.checks if check.alarm]
        return min(alarms or self.checks, key=lambda check: check.adjusted, default=None)

    @property
    def test(self) -> str:
        """The check with the smallest p-value, among those that raise an alarm if any does."""
        return self._decisive.name if self._decisive else ""

    @property
    def statistic(self) -> float:
        """The test statistic of that check."""
        return self._decisive.statistic if self._decisive else nan

    @property
    def p(self) -> float:
        """The adjusted p-value of that check."""
        return self._decisive.adjusted if self._decisive else nan

    def check(self, name: str) -> Check | None:
        """One of its checks, None if it was not made."""
        return next((check for check in self.checks if check.name == name), None)
