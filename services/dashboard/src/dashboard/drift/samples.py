"""Samples of rows that came in requests, and the number of independent rows they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard.drift.limits import FEWEST_REQUESTS


def request_codes(requests: Sequence[object] | np.ndarray | None) -> np.ndarray | None:
    """Number the requests from 0; None if rows are independent.

    Args:
        requests: the request of each row, or None.
    """
    if requests is None:
        return None
    codes: np.ndarray
    codes, names = pd.factorize(np.asarray(requests))
    # A row without a request counts as a request of its own.
    unknown = codes < 0
    codes[unknown] = len(names) + np.arange(unknown.sum())
    return codes


@dataclass(frozen=True)
class ColumnSample:
    """The non-missing values of one sample, and their requests, None if rows are independent."""

    values: np.ndarray
    groups: np.ndarray | None

    @property
    def requests(self) -> float:
        """The effective number of requests; the number of rows if each is its own request.

        One large request counts for little next to many small ones (Kish, Survey Sampling, 1965).
        """
        if self.groups is None or len(self.groups) == 0:
            return float(len(self.values))
        sizes = np.unique(self.groups, return_counts=True)[1].astype(float)
        return float(sizes.sum() ** 2 / (sizes**2).sum())

    def count_requests(self) -> int:
        """The number of requests that the values came with."""
        return len(self.values) if self.groups is None else len(np.unique(self.groups))

    def count_once_a_request(self, codes: np.ndarray, size: int) -> np.ndarray:
        """The number of rows of each value, counting equal values within a request once.

        Args:
            codes: the value of each row, 0 to `size` - 1.
            size: the number of values.
        """
        if self.groups is not None:
            codes = np.unique(self.groups * size + codes) % size
        return np.bincount(codes, minlength=size)

    def likeness(self, codes: np.ndarray, bins: int) -> _Likeness:
        """How similar the rows of one request are, bin by bin.

        Args:
            codes: the bin of each row.
            bins: the number of bins.
        """
        rows = len(codes)
        if self.groups is None or self.requests == rows:
            shares = np.bincount(codes, minlength=bins) / rows
            return _Likeness(shares, np.zeros(bins), np.zeros(bins), 0.0)
        _, groups = np.unique(self.groups, return_inverse=True)
        sizes = np.bincount(groups)
        counts = np.bincount(groups * bins + codes, minlength=len(sizes) * bins)
        table = counts.reshape(len(sizes), bins).astype(float)
        shares = table.sum(axis=0) / rows
        pairs = (sizes * (sizes - 1.0)).sum()
        spread = ((table - sizes[:, None] * shares) ** 2).sum(axis=0)
        spread *= len(sizes) / (len(sizes) - 1) if len(sizes) > 1 else 1.0
        there = (shares > 0) & (shares < 1)
        binomial = np.where(there, shares * (1 - shares), 1.0)
        alike = np.where(there, np.clip((spread / binomial - rows) / pairs, 0, 1), 0.0)
        # If only small requests have rows in a bin, a large request may have all its rows there
        # next time.
        weight = ((table > 0) * (sizes * (sizes - 1.0))[:, None]).sum(axis=0) / pairs
        known = np.where(there, np.minimum(1.0, weight / np.where(there, shares, 1.0)), 0.0)
        return _Likeness(shares, alike, known, pairs / rows)


@dataclass(frozen=True)
class _Likeness:
    """The intraclass correlation of each bin in one sample.

    `shares` is the share of rows and `alike` the correlation. `known`, from 0 to 1, says how much
    the sample shows of it. `others` is the average number of other rows in the request of a row.
    """

    shares: np.ndarray
    alike: np.ndarray
    known: np.ndarray
    others: float

    def design(self, other: _Likeness) -> float:
        """The design effect, at least 1.

        Where this sample does not show the correlation, the other one is used. Where neither does,
        a request counts as having all or none of its rows in a bin.
        """
        unknown = other.known * other.alike + (1 - other.known)
        alike = self.known * self.alike + (1 - self.known) * unknown
        effects = (1 - self.shares) * (1 + alike * self.others)
        return max(1.0, float(effects.sum()) / max(1, len(self.shares) - 1))


def effective_rows(
    samples: Sequence[ColumnSample], codes: Sequence[np.ndarray], bins: int
) -> list[tuple[float, float]]:
    """The effective rows and requests of both samples; infinite requests if rows are independent.

    Args:
        samples: the reference and the recent sample.
        codes: the bin of each row of both samples.
        bins: the number of bins.
    """
    found = [sample.likeness(part, bins) for sample, part in zip(samples, codes, strict=True)]
    sizes = []
    for sample, part, own, other in zip(samples, codes, found, found[::-1], strict=True):
        rows, requests = len(part), sample.requests
        if requests == rows:
            sizes.append((float(rows), np.inf))
        elif requests < FEWEST_REQUESTS:
            sizes.append((requests, requests))
        else:
            sizes.append((float(np.clip(rows / own.design(other), requests, rows)), requests))
    return sizes
