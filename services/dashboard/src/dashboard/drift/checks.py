"""The checks of one column: its values, missing values, the range and new values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, isfinite

import numpy as np
import pandas as pd
from scipy import special, stats

from dashboard.drift.bins import make_bins
from dashboard.drift.limits import CHANGE, MINIMUM_ROWS, SHARE
from dashboard.drift.samples import ColumnSample, effective_rows
from dashboard.drift.stability import harmonic, psi, rows_needed
from dashboard.drift.verdicts import Check, Feature, Kind

_EXAMPLES = 3
_LEAST_COMPARED = 0.25
_NEAR_THE_END = 0.05
_NEVER = 1e-14


def check_values(
    feature: Feature, before: ColumnSample, after: ColumnSample
) -> tuple[Feature, Check | None, str]:
    """The feature with its PSI, the check of its values, and the reason if there is no check."""
    if min(len(before.values), len(after.values)) == 0:
        which = "reference" if len(before.values) == 0 else "recent sample"
        return feature, None, f"every value is missing in the {which}"
    bins = make_bins(before, after, feature.numeric)
    size = bins.count
    (m, old_requests), (n, requests) = effective_rows(
        (before, after), (bins.before, bins.after), size
    )
    if few := _too_few(before, after, m, n, rows_needed(bins.fewest)):
        return feature, None, few
    if bins.compared < _LEAST_COMPARED:
        rare = f"only {bins.compared:.0%} of the rows have a frequent value"
        return feature, None, f"the values are too rare to compare, like ids: {rare}"
    if size < 2:
        return replace(feature, psi=0.0, noise=0.0), None, ""
    old, new = (
        np.bincount(codes, minlength=size) * (effective / len(codes))
        for codes, effective in ((bins.before, m), (bins.after, n))
    )
    index, freedom = psi(old, new), size - 1
    noise = freedom * (1 / n + 1 / m)
    statistic = index * harmonic(m, n)
    # F with infinite degrees of freedom in the denominator is chi-squared / freedom.
    clusters = min(old_requests, requests)
    p = (
        stats.f.sf(statistic / freedom, freedom, freedom * (clusters - 1))
        if isfinite(clusters)
        else stats.chi2.sf(statistic, freedom)
    )
    text = f"PSI {index:.2f}, {noise:.2f} expected by chance"
    if bins.compared < 1:
        text += f"; the rare values, {1 - bins.compared:.0%} of the rows, count as one"
    check = Check("values", index - noise, CHANGE, statistic, float(p), text)
    return replace(feature, psi=index, noise=noise), check, ""


def _too_few(before: ColumnSample, after: ColumnSample, m: float, n: float, needed: float) -> str:
    """Why these effective rows are too few to show that nothing changed; empty if they suffice."""
    if harmonic(m, n) >= needed and min(n, m) >= MINIMUM_ROWS:
        return ""
    if m <= needed or m < MINIMUM_ROWS:
        rows, least = _counted("reference", before, m), max(ceil(2 * needed), MINIMUM_ROWS)
        return f"too few rows in the reference: {rows}; {least} in each sample are enough"
    least = max(ceil(needed * m / (m - needed)), MINIMUM_ROWS)
    return f"too few rows: {_counted('recent', after, n)}; at least {least} are needed"


def _counted(which: str, sample: ColumnSample, effective: float) -> str:
    rows = len(sample.values)
    if effective > rows - 0.5:
        return f"{rows} with a value" if which == "reference" else f"{rows} recent with a value"
    requests = sample.count_requests()
    return f"{rows} of {requests} requests, worth {int(effective)} independent rows"


def _share_sizes(
    hits: Sequence[np.ndarray], samples: Sequence[ColumnSample]
) -> list[tuple[int, int]] | None:
    """The effective (hits, rows) of both samples; None if either has too few rows for a check."""
    if min(len(hit) for hit in hits) == 0:
        return None
    sizes = []
    effective = effective_rows(samples, [hit.astype(int) for hit in hits], 2)
    for hit, (rows, _) in zip(hits, effective, strict=True):
        if rows < MINIMUM_ROWS:
            return None
        sizes.append((round(float(hit.mean()) * int(rows)), int(rows)))
    return sizes


def check_missing(gaps: Sequence[np.ndarray], groups: Sequence[np.ndarray | None]) -> Check | None:
    """Compare the shares of missing values; None if there are none, or too few rows.

    Args:
        gaps: for the reference and the recent sample, whether each row is missing.
        groups: the request of each row, None if rows are independent.
    """
    if not any(gap.any() for gap in gaps):
        return None
    samples = [ColumnSample(gap, group) for gap, group in zip(gaps, groups, strict=True)]
    sizes = _share_sizes(gaps, samples)
    if sizes is None:
        return None
    (old, m), (new, n) = sizes
    result = stats.fisher_exact([[old, m - old], [new, n - new]])
    before, after = (float(gap.mean()) for gap in gaps)
    text = f"{_percent(after)} missing, {_percent(before)} in the reference"
    return Check("missing", abs(after - before), SHARE, after - before, float(result.pvalue), text)


def check_range(feature: Feature, before: ColumnSample, after: ColumnSample) -> Check | None:
    """The share of recent rows outside the reference's range; None with too few rows."""
    if min(len(before.values), len(after.values)) == 0:
        return None
    low, high = before.values.min(), before.values.max()
    below, above = after.values < low, after.values > high
    # The rows near either end show how similar the extreme rows of one request are.
    ranked = np.sort(before.values)
    near = int(_NEAR_THE_END * (len(ranked) - 1))
    ends = before.values <= ranked[near], before.values >= ranked[-1 - near]
    tails = []
    for hits in zip(ends, (below, above), strict=True):
        sizes = _share_sizes(hits, (before, after))
        if sizes is None:
            return None
        (_, m), (count, n) = sizes
        p = _largest_by_chance(m, n, count)
        if before.groups is not None:
            # A single odd request can have all the extreme rows, so test the requests as well.
            odd = len(np.unique(after.groups[hits[1]])) if after.groups is not None else count
            p = max(p, _largest_by_chance(before.count_requests(), after.count_requests(), odd))
        tails.append(p)
    share = float((below | above).mean())
    moments = feature.kind is Kind.MOMENT
    shown = [_moment(end) if moments else _short(end, digits=4) for end in (low, high)]
    text = f"{_percent(share)} outside the reference's range, {shown[0]} to {shown[1]}"
    return Check("range", share, SHARE, share, min(1.0, 2 * min(tails)), text)


def _largest_by_chance(m: int, n: int, count: int) -> float:
    """The probability that the `count` largest of n + m are all among the n."""
    # The logarithm of C(n + m - count, m) / C(n + m, m).
    ways = special.gammaln([n + m - count + 1, n + 1, n - count + 1, n + m + 1])
    return float(np.exp(ways[0] + ways[1] - ways[2] - ways[3]))


def check_new_values(feature: Feature, before: ColumnSample, after: ColumnSample) -> Check | None:
    """The share of recent rows with a value that the reference lacks; None with too few rows."""
    if min(len(before.values), len(after.values)) == 0:
        return None
    codes, _ = pd.factorize(np.concatenate([before.values, after.values]))
    counts = np.bincount(codes[: len(before.values)], minlength=codes.max() + 1)
    old_counts, new = counts[codes[: len(before.values)]], counts[codes[len(before.values) :]] == 0
    once = old_counts == 1
    sizes = _share_sizes((once, new), (before, after))
    if sizes is None:
        return None
    (old, m), (count, n) = sizes
    expected, share = float(once.mean()), float(new.mean())
    exact = stats.fisher_exact([[count, n - count], [old, m - old]], alternative="greater").pvalue
    of_values = [
        sample.count_once_a_request(part, len(counts))
        for sample, part in zip((before, after), np.split(codes, [len(before.values)]), strict=True)
    ]
    p = max(float(exact), new_by_chance(*of_values))
    name = _moment if feature.kind is Kind.MOMENT else _short
    examples = ", ".join(name(value) for value in pd.unique(after.values[new])[:_EXAMPLES])
    chance = f", {_percent(expected)} expected" if old else ""
    text = f"{_percent(share)} with values that the reference never had{chance}: {examples}"
    return Check("new values", share - expected, SHARE, share, float(p), text)


def new_by_chance(old: np.ndarray, new: np.ndarray) -> float:
    """The probability of at least this many recent rows with a value that the reference lacks.

    Rows are assigned to the samples at random. The distribution of the sum over all values is the
    inverse Fourier transform of its characteristic function.

    Args:
        old: rows of each value in the reference.
        new: rows of the same values in the recent sample.
    """
    found, both = int(new[old == 0].sum()), old + new
    if found == 0:
        return 1.0
    absent = (new.sum() / both.sum()) ** both.astype(float)
    possible = absent > _NEVER
    if (new[(old == 0) & ~possible] > 0).any():
        return 0.0
    rows, values = np.unique(both[possible], return_counts=True)
    length = int((rows * values).sum()) + 1
    frequencies = np.arange(length // 2 + 1)
    turns = np.exp(-2j * np.pi * np.arange(length) / length)
    transform = np.ones(len(frequencies), dtype=complex)
    for count, times in zip(rows, values, strict=True):
        p = (new.sum() / both.sum()) ** float(count)
        transform *= (1 - p + p * turns[count * frequencies % length]) ** times
    return float(np.clip(np.fft.irfft(transform, length)[found:].sum(), 0.0, 1.0))


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.1 or 0.99 < share < 1 else f"{share:.0%}"


def _moment(microseconds: int) -> str:
    return f"{pd.Timestamp(int(microseconds), unit='us'):%d %b %Y %H:%M}"


def _short(value: object, digits: int = 6) -> str:
    text = f"{value:.{digits}g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"
