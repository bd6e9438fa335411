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
"""Columns with more values than this count as having many different values."""


@dataclass(frozen=True)
class Bins:
    """The bin of each value of both samples, 0 to `count` - 1.

    `compared` is the share of values outside the common bin of the rare values. `fewest` is the
    number of bins of the smallest samples that are tested.
    """

    before: np.ndarray
    after: np.ndarray
    count: int
    compared: float
    fewest: int


def make_bins(before: ColumnSample, after: ColumnSample, ordered: bool) -> Bins:
    """Choose the bins of a column.

    With few different values, each frequent value has its own bin. With many, bins are quantiles
    of both samples. Small samples have fewer bins, so that a large change is still found.

    Args:
        before: the reference.
        after: the recent sample.
        ordered: whether the values are numbers or times.
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
    # A small sample has few different values, whatever the column.
    known = len(values) if len(both) >= MINIMUM_ROWS else _FEWEST_BINS
    fewest = int(np.clip(known, 2, _FEWEST_BINS))
    return Bins(codes[:rows], codes[rows:], int(codes.max()) + 1, share, fewest)


def _affordable(rows: float, most: int) -> int:
    """The largest number of bins with which `rows`, n * m / (n + m), show a large change."""
    possible = (bins for bins in range(most, _FEWEST_BINS, -1) if rows_needed(bins) <= rows)
    return next(possible, _FEWEST_BINS)


def _by_quantiles(both: np.ndarray, count: int) -> np.ndarray:
    ranked = np.sort(both)
    # Edges are values of the sample, because infinities cannot be interpolated.
    edges = ranked[(len(ranked) * np.arange(1, count) // count) - 1]
    values, repeats = np.unique(ranked, return_counts=True)
    # A value that fills a bin gets its own bin: it may be 0, or a code for "unknown".
    heavy = np.flatnonzero(repeats >= len(ranked) / count)
    below = values[heavy[heavy > 0] - 1]
    return np.searchsorted(np.unique(np.concatenate([edges, below, values[heavy]])), both)


def _by_count(codes: np.ndarray, smaller: float, most: int) -> tuple[np.ndarray, float]:
    """The bin of each row, one bin for all rare values, and the share of frequent values."""
    counts = np.bincount(codes)
    frequent = counts * smaller >= _SMALLEST_EXPECTED
    if frequent.sum() > most:
        # The last bin is for all other values.
        frequent[np.argsort(-counts, kind="stable")[most - 1 :]] = False
    others = int(counts[~frequent].sum())
    share = 1 - others / len(codes)
    if 0 < others * smaller < _SMALLEST_EXPECTED and frequent.any():
        # Too few rows for their own bin: add them to the smallest one.
        rest = int(np.argmin(np.where(frequent, counts, np.inf)))
    else:
        rest = len(counts)
    return np.where(frequent[codes], codes, rest), share
