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
    """The kind of a column's values."""

    NUMBER = "numbers"
    MOMENT = "times"
    FLAG = "true or false"
    TEXT = "text"
    NESTED = "arrays"
    EMPTY = "nothing"


@dataclass(frozen=True)
class Check:
    """One kind of change in one column.

    `size` is comparable with `limit`. `statistic` and `p` are the result of the test; `adjusted` is
    p corrected for all checks of the comparison. `text` describes the result in words.
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

    `reference` and `recent` are the non-missing values: numbers as float64, times as int64 in
    microseconds since 1970 (UTC), anything else as text. `rows` is the number of rows and `missing`
    the share of missing values in each sample. `psi` and `noise`, the PSI expected by chance, are
    NaN if the values were not tested; `untested` then says why.
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
        """Whether the values have an order, so that they can be drawn along an axis."""
        return self.kind in (Kind.NUMBER, Kind.MOMENT)

    @property
    def verdict(self) -> Verdict:
        """Drifted if any check raises an alarm; stable only if the values were tested."""
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
        """The name of the check with the smallest p-value; alarms come first."""
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
        """The check with this name, or None if it was not made."""
        return next((check for check in self.checks if check.name == name), None)
