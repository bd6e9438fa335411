"""The bins of a column's values, the same for both samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard.drift.limits import MINIMUM_ROWS
from dashboard.drift.samples import ColumnSample
from dashboard.drift.stability import harmonic, rows_needed

_FEWEST_BINS, _BINS = 5, 10
_SMALLEST_EXPECTED = 5
MOST_VALUES = 20


@dataclass(frozen=True)
class Bins:
    """The bin of each value of both samples, 0 to `count` - 1.

    `compared` is the share of values whose bin is not that of all rare values; `fewest` is how
    many bins the smallest samples that are tested have.
    """

    before: np.ndarray
    after: np.ndarray
    count: int
    compared: float
    fewest: int


def make_bins(before: ColumnSample, after: ColumnSample, ordered: bool) -> Bins:
    """Few different values: a bin for each frequent one. Many: quantiles of both samples.

    Small samples have fewer bins, so that a large change is still found.
    """
    both = np.concatenate([before.values, after.values])
    rows = len(before.values)
    codes, values = pd.factorize(both)
    enough = harmonic(before.requests, after.requests)
    if ordered and len(values) > MOST_VALUES:
        codes, share = _by_quantiles(both, _affordable(enough, _BINS)), 1.0
    else:
        smaller = min(rows, len(both) - rows) / len(both)
        codes, share = _by_count(codes, smaller, _affordable(enough, MOST_VALUES))
    _, codes = np.unique(codes, return_inverse=True)
    # In a handful of rows there are few different values of anything.
    known = len(values) if len(both) >= MINIMUM_ROWS else _FEWEST_BINS
    fewest = int(np.clip(known, 2, _FEWEST_BINS))
    return Bins(codes[:rows], codes[rows:], int(codes.max()) + 1, share, fewest)


def _affordable(rows: float, most: int) -> int:
    """The most bins in which so many rows n * m / (n + m) show a large change."""
    possible = (bins for bins in range(most, _FEWEST_BINS, -1) if rows_needed(bins) <= rows)
    return next(possible, _FEWEST_BINS)


def _by_quantiles(both: np.ndarray, count: int) -> np.ndarray:
    ranked = np.sort(both)
    # Values of the sample, never between two of them: infinities cannot be interpolated.
    edges = ranked[(len(ranked) * np.arange(1, count) // count) - 1]
    values, repeats = np.unique(ranked, return_counts=True)
    # A value that fills a bin has it for itself: it may be 0, or what stands for "unknown".
    heavy = np.flatnonzero(repeats >= len(ranked) / count)
    below = values[heavy[heavy > 0] - 1]
    return np.searchsorted(np.unique(np.concatenate([edges, below, values[heavy]])), both)


def _by_count(codes: np.ndarray, smaller: float, most: int) -> tuple[np.ndarray, float]:
    """Frequent values by code; all others have one bin. Also the share of frequent values."""
    counts = np.bincount(codes)
    frequent = counts * smaller >= _SMALLEST_EXPECTED
    if frequent.sum() > most:
        # One bin is for all others.
        frequent[np.argsort(-counts, kind="stable")[most - 1 :]] = False
    others = int(counts[~frequent].sum())
    share = 1 - others / len(codes)
    if 0 < others * smaller < _SMALLEST_EXPECTED and frequent.any():
        # Too few rows for a bin: they go to the smallest one.
        rest = int(np.argmin(np.where(frequent, counts, np.inf)))
    else:
        rest = len(counts)
    return np.where(frequent[codes], codes, rest), share
