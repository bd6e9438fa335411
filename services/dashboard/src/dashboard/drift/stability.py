"""The population stability index (PSI), and the rows that it needs to show a large change."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import optimize, stats

from dashboard.drift.limits import LARGE_CHANGE, POWER, SIGNIFICANCE


def psi(reference: np.ndarray, recent: np.ndarray) -> float:
    """The population stability index of two vectors of counts over the same bins.

    Half a row is added to each bin, so that an empty bin gives a finite number.
    """
    before = (reference + 0.5) / (reference + 0.5).sum()
    after = (recent + 0.5) / (recent + 0.5).sum()
    return float(((after - before) * np.log(after / before)).sum())


@cache
def rows_needed(bins: int) -> float:
    """The rows n * m / (n + m) with which a large change is found with a probability of `POWER`.

    With a change, PSI * n * m / (n + m) is noncentral chi-squared; the noncentrality is the true
    PSI times n * m / (n + m).
    """
    freedom = bins - 1
    critical = stats.chi2.isf(SIGNIFICANCE, freedom)
    found: float = optimize.brentq(
        lambda shift: stats.ncx2.sf(critical, freedom, shift) - POWER, 1e-3, 1e4
    )
    return found / LARGE_CHANGE


def harmonic(m: float, n: float) -> float:
    """The rows n * m / (n + m) of both samples; 0 without rows."""
    return n * m / (n + m) if n + m else 0.0
