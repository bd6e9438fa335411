"""Compare what a model receives with its reference: one verdict per column, with a reason in words.

Each column is checked for several kinds of change; each check gives a p-value and a size:

values
    The population stability index (PSI) over bins of both samples. Without drift,
    PSI * n * m / (n + m) is asymptotically chi-squared with bins - 1 degrees of freedom, so PSI
    averages (bins - 1) * (1/n + 1/m) by chance alone (Yurdakul, Statistical Properties of
    Population Stability Index, Western Michigan University, 2018). The size of a change is the
    PSI above that average. The usual reading (Siddiqi, Credit Risk Scorecards, 2006, p. 137):
    from 0.1 a change, from 0.25 a large one.
missing
    The share of missing values: Fisher's exact test of two proportions.
range
    For numbers with many different values, the share outside the reference's range. Without drift
    each row is equally likely to be the largest, so the u largest of n + m rows are all recent
    with a probability of C(n + m - u, m) / C(n + m, m) (Rosenbaum, Annals of Mathematical
    Statistics 25, 1954).
new values
    For everything else, the share of rows with a value that the reference never had. Some are
    new without drift: about as many as the share of reference rows whose value occurs once (Good,
    Biometrika 40, 1953). Fisher's exact test compares the two shares. It takes rows as
    independent, but one absent value makes all its rows new. So the share must also be larger
    than if rows had been dealt to the samples at random: a value of c rows then misses the
    reference with a probability of (n / (n + m))**c, and the sum over all values has an exact
    distribution. The larger p counts.

A column has drifted if a check is both significant and large: with thousands of rows, differences
that nobody cares about are significant. Significance is corrected for all checks of all columns
by Holm's method (Scandinavian Journal of Statistics 6, 1979), which holds for columns that depend
on each other: data that have not changed raise any alarm at most `SIGNIFICANCE` of the times.
A column is stable only if its values could be tested: a large change (a PSI of 0.25) would have
been significant in about 4 of 5 cases, were it the only column. The rest is not tested.

Rows of one request depend on each other, so that a thousand rows of one batch may say no more
than one row. Every test therefore uses an effective number of rows: n divided by the design effect,
the variance of the shares between requests over that of as many independent rows (Rao and Scott,
Annals of Statistics 12, 1984), with F instead of chi-squared. Where a sample cannot show how alike
rows of one request are, as of a value that it lacks, the other sample tells; if that cannot either,
rows of one request count as copies of each other. So they do below `FEWEST_REQUESTS`.

PSI and range use ranks and counts only: infinities and outliers need no special treatment.
"""

from __future__ import annotations

import base64
import datetime as dt
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from functools import cache
from math import ceil, isfinite, nan

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

SIGNIFICANCE = 0.01
"""The share of comparisons without any drift that raise an alarm, at most."""

CHANGE, LARGE_CHANGE = 0.1, 0.25
"""PSI above what is expected by chance: drift from the first on."""

SHARE = 0.02
"""Drift if so many more rows are missing, outside the range or new."""

POWER = 0.8
MINIMUM_ROWS = 30
"""Effective rows that each sample needs for any check."""

FEWEST_REQUESTS = 30

_FEWEST_BINS, _BINS = 5, 10
_SMALLEST_EXPECTED = 5
_MOST_VALUES = 20
_EXAMPLES = 3
_LEAST_COMPARED = 0.25
_NEAR_THE_END = 0.05
_NEVER = 1e-14
_EXACT_IN_FLOATS = 2**53


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


def compare(
    reference: pd.DataFrame | Mapping[str, pd.Series],
    recent: pd.DataFrame,
    requests: Sequence[object] | np.ndarray | None = None,
    reference_requests: Sequence[object] | np.ndarray | None = None,
) -> list[Feature]:
    """Every column of the recent rows; drifted ones first, the largest PSI first.

    Args:
        reference: the data that the model was made for; its columns may differ in length.
        recent: what the model received lately. A column that the reference lacks is not tested.
        requests: for each recent row the request that it came with; without it, rows are taken
            as independent.
        reference_requests: the same for the rows of the reference.
    """
    groups, old_groups = _codes(requests), _codes(reference_requests)
    features = _adjust(
        _test(str(name), reference[name], recent[name], old_groups, groups)
        if name in reference
        else _absent(str(name), recent[name])
        for name in recent.columns
    )
    order = list(Verdict)
    return sorted(
        features, key=lambda f: (order.index(f.verdict), -(f.psi if isfinite(f.psi) else 0.0))
    )


@dataclass(frozen=True)
class Bucket:
    """A part of a window, from `start` to before `end`, against the reference."""

    start: pd.Timestamp
    end: pd.Timestamp
    feature: Feature


def over_time(
    name: str,
    reference: pd.Series,
    recent: pd.Series,
    at: Sequence[object],
    edges: pd.DatetimeIndex,
    requests: Sequence[object] | np.ndarray | None = None,
    reference_requests: Sequence[object] | np.ndarray | None = None,
) -> list[Bucket]:
    """Compare one column with the reference bucket by bucket.

    Args:
        name: the column.
        reference: its values in the reference.
        recent: its values in a window.
        at: the time of each recent row, UTC.
        edges: where buckets begin and the last one ends, ascending.
        requests: see `compare`.
        reference_requests: see `compare`.

    Returns:
        A bucket for each pair of edges. Significance is corrected for all of them together.
    """
    where = edges.searchsorted(pd.DatetimeIndex(at), side="right") - 1
    groups, old_groups = _codes(requests), _codes(reference_requests)
    features = _adjust(
        _test(
            name,
            reference,
            recent[where == i],
            old_groups,
            None if groups is None else groups[where == i],
        )
        for i in range(len(edges) - 1)
    )
    return [Bucket(a, b, f) for a, b, f in zip(edges[:-1], edges[1:], features, strict=True)]


def psi(reference: np.ndarray, recent: np.ndarray) -> float:
    """The population stability index of two vectors of counts over the same bins.

    Half a row is added to each bin, so that an empty one gives a finite number.
    """
    before = (reference + 0.5) / (reference + 0.5).sum()
    after = (recent + 0.5) / (recent + 0.5).sum()
    return float(((after - before) * np.log(after / before)).sum())


@cache
def rows_needed(bins: int) -> float:
    """Rows n * m / (n + m) from which on a large change is found with a probability of `POWER`.

    PSI * n * m / (n + m) is then noncentral chi-squared; the noncentrality is the true PSI times
    n * m / (n + m).
    """
    freedom = bins - 1
    critical = stats.chi2.isf(SIGNIFICANCE, freedom)
    found: float = optimize.brentq(
        lambda shift: stats.ncx2.sf(critical, freedom, shift) - POWER, 1e-3, 1e4
    )
    return found / LARGE_CHANGE


# ---- one column -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """The values of one sample that are there, and the requests that they came with."""

    values: np.ndarray
    groups: np.ndarray | None

    @property
    def requests(self) -> float:
        """The effective number of requests; of rows, where each has a request of its own.

        One large request counts for little next to many small ones (Kish, Survey Sampling, 1965).
        """
        if self.groups is None or len(self.groups) == 0:
            return float(len(self.values))
        sizes = np.unique(self.groups, return_counts=True)[1].astype(float)
        return float(sizes.sum() ** 2 / (sizes**2).sum())

    def count_requests(self) -> int:
        """How many requests the values came with."""
        return len(self.values) if self.groups is None else len(np.unique(self.groups))

    def count_once_a_request(self, codes: np.ndarray, size: int) -> np.ndarray:
        """How many rows each value has, rows of one request with the same value taken as one.

        Args:
            codes: the value of each row, 0 to `size` - 1.
            size: how many values there are.
        """
        if self.groups is not None:
            codes = np.unique(self.groups * size + codes) % size
        return np.bincount(codes, minlength=size)

    def likeness(self, codes: np.ndarray, bins: int) -> _Likeness:
        """How alike the rows of one request are, bin by bin.

        Args:
            codes: the bin of each row.
            bins: how many there are.
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
        # Where only small requests have rows in a bin, the large ones may all do so next time.
        weight = ((table > 0) * (sizes * (sizes - 1.0))[:, None]).sum(axis=0) / pairs
        known = np.where(there, np.minimum(1.0, weight / np.where(there, shares, 1.0)), 0.0)
        return _Likeness(shares, alike, known, pairs / rows)


@dataclass(frozen=True)
class _Likeness:
    """The intraclass correlation of each bin in one sample.

    `shares` and `alike` are the share of rows and the correlation, `known` how much the sample
    tells of it, from 0 to 1; `others` is how many other rows the request of a row has on average.
    """

    shares: np.ndarray
    alike: np.ndarray
    known: np.ndarray
    others: float

    def design(self, other: _Likeness) -> float:
        """The design effect, 1 or more; what this sample does not tell, the other one may.

        What neither tells counts as if a request had all its rows in a bin or none.
        """
        unknown = other.known * other.alike + (1 - other.known)
        alike = self.known * self.alike + (1 - self.known) * unknown
        effects = (1 - self.shares) * (1 + alike * self.others)
        return max(1.0, float(effects.sum()) / max(1, len(self.shares) - 1))


def _effective(
    samples: Sequence[_Sample], codes: Sequence[np.ndarray], bins: int
) -> list[tuple[float, float]]:
    """For each of two samples the effective rows, and requests where rows share them, or infinity.

    Args:
        samples: the reference and the recent one.
        codes: the bin of each row of either.
        bins: how many there are.
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


def _test(
    name: str,
    reference: pd.Series,
    recent: pd.Series,
    old_groups: np.ndarray | None,
    groups: np.ndarray | None,
) -> Feature:
    gaps = [column.isna().to_numpy(dtype=bool) for column in (reference, recent)]
    (old_kind, before_values), (new_kind, after_values) = (
        _read(column[~gap]) for column, gap in zip((reference, recent), gaps, strict=True)
    )
    read = _same_precision((reference, recent), (before_values, after_values))
    kind, (old, new), mismatch = _common((old_kind, new_kind), read)
    present = [column[~gap] for column, gap in zip((reference, recent), gaps, strict=True)]
    values = _exact(present, (old, new)) if kind is Kind.NUMBER else None
    before, after = (
        _Sample(exact, None if group is None else group[~gap])
        for exact, group, gap in zip(
            values or [column.to_numpy() for column in (old, new)],
            (old_groups, groups),
            gaps,
            strict=True,
        )
    )
    feature = Feature(
        name,
        kind,
        old,
        new,
        rows=(len(reference), len(recent)),
        missing=(_share_missing(gaps[0]), _share_missing(gaps[1])),
    )
    checks = [_missing_check(gaps, (old_groups, groups))]
    if mismatch:
        untested = mismatch
    elif kind is Kind.EMPTY:
        untested = "every value is missing in both samples"
    elif kind is Kind.NESTED:
        untested = "arrays are not compared"
    else:
        feature, check, untested = _values_check(feature, before, after)
        ordered = feature.numeric and len(np.unique(before.values)) > _MOST_VALUES
        check_outside = _range_check if ordered else _new_check
        strange = check_outside(feature, before, after)
        checks += [check, strange]
    if len(reference) == 0 or len(recent) == 0:
        untested = f"no rows in the {'reference' if len(reference) == 0 else 'recent sample'}"
    return replace(feature, checks=tuple(c for c in checks if c), untested=untested)


def _absent(name: str, recent: pd.Series) -> Feature:
    gaps = recent.isna()
    kind, column = _read(recent[~gaps])
    empty = column.iloc[:0]
    share = float(gaps.mean()) if len(gaps) else 0.0
    why = "the reference has no such column"
    return Feature(name, kind, empty, column, (0, len(recent)), (nan, share), untested=why)


def _values_check(
    feature: Feature, before: _Sample, after: _Sample
) -> tuple[Feature, Check | None, str]:
    """The feature with its PSI, the check of its values, or why there is none."""
    if min(len(before.values), len(after.values)) == 0:
        which = "reference" if len(before.values) == 0 else "recent sample"
        return feature, None, f"every value is missing in the {which}"
    bins = _bins(before, after, feature.numeric)
    size = bins.count
    (m, old_requests), (n, requests) = _effective((before, after), (bins.before, bins.after), size)
    if few := _too_few(before, after, m, n, rows_needed(bins.fewest)):
        return feature, None, few
    if bins.compared < _LEAST_COMPARED:
        rare = f"only {bins.compared:.0%} of the rows have a frequent one"
        return feature, None, f"its values are too rare to compare, as ids are: {rare}"
    if size < 2:
        return replace(feature, psi=0.0, noise=0.0), None, ""
    old, new = (
        np.bincount(codes, minlength=size) * (effective / len(codes))
        for codes, effective in ((bins.before, m), (bins.after, n))
    )
    index, freedom = psi(old, new), size - 1
    noise = freedom * (1 / n + 1 / m)
    statistic = index * _harmonic(m, n)
    # F with infinitely many degrees in its denominator is chi-squared / freedom.
    clusters = min(old_requests, requests)
    p = (
        stats.f.sf(statistic / freedom, freedom, freedom * (clusters - 1))
        if isfinite(clusters)
        else stats.chi2.sf(statistic, freedom)
    )
    text = f"PSI {index:.2f}, {noise:.2f} expected by chance"
    if bins.compared < 1:
        text += f"; values rarer than the frequent {bins.compared:.0%} count as one"
    check = Check("values", index - noise, CHANGE, statistic, float(p), text)
    return replace(feature, psi=index, noise=noise), check, ""


def _too_few(before: _Sample, after: _Sample, m: float, n: float, needed: float) -> str:
    """Why these effective rows cannot show that nothing has changed; empty if they can."""
    if _harmonic(m, n) >= needed and min(n, m) >= MINIMUM_ROWS:
        return ""
    if m <= needed or m < MINIMUM_ROWS:
        rows, least = _counted("reference", before, m), max(ceil(2 * needed), MINIMUM_ROWS)
        return f"too few rows in the reference: {rows}; {least} in each sample are enough"
    least = max(ceil(needed * m / (m - needed)), MINIMUM_ROWS)
    return f"too few rows: {_counted('recent', after, n)}; at least {least} are needed"


def _share_missing(gap: np.ndarray) -> float:
    return float(gap.mean()) if len(gap) else 0.0


def _harmonic(m: float, n: float) -> float:
    return n * m / (n + m) if n + m else 0.0


def _counted(which: str, sample: _Sample, effective: float) -> str:
    rows = len(sample.values)
    if effective > rows - 0.5:
        return f"{rows} with a value" if which == "reference" else f"{rows} recent with a value"
    requests = sample.count_requests()
    return f"{rows} of {requests} requests, worth {int(effective)} independent rows"


def _share_sizes(
    hits: Sequence[np.ndarray], samples: Sequence[_Sample]
) -> list[tuple[int, int]] | None:
    """Effective (hits, rows) of both samples; None if either has too few rows for any check."""
    if min(len(hit) for hit in hits) == 0:
        return None
    sizes = []
    effective = _effective(samples, [hit.astype(int) for hit in hits], 2)
    for hit, (rows, _) in zip(hits, effective, strict=True):
        if rows < MINIMUM_ROWS:
            return None
        sizes.append((round(float(hit.mean()) * int(rows)), int(rows)))
    return sizes


def _missing_check(gaps: Sequence[np.ndarray], groups: Sequence[np.ndarray | None]) -> Check | None:
    if not any(gap.any() for gap in gaps):
        return None
    samples = [_Sample(gap, group) for gap, group in zip(gaps, groups, strict=True)]
    sizes = _share_sizes(gaps, samples)
    if sizes is None:
        return None
    (old, m), (new, n) = sizes
    result = stats.fisher_exact([[old, m - old], [new, n - new]])
    before, after = (float(gap.mean()) for gap in gaps)
    text = f"{_percent(after)} missing, {_percent(before)} in the reference"
    return Check("missing", abs(after - before), SHARE, after - before, float(result.pvalue), text)


def _range_check(feature: Feature, before: _Sample, after: _Sample) -> Check | None:
    if min(len(before.values), len(after.values)) == 0:
        return None
    low, high = before.values.min(), before.values.max()
    below, above = after.values < low, after.values > high
    # How alike the extreme rows of one request are shows in those near either end.
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
            # One odd request can have all the extreme rows, so requests must differ as well.
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


def _new_check(feature: Feature, before: _Sample, after: _Sample) -> Check | None:
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
    p = max(float(exact), _new_by_chance(*of_values))
    name = _moment if feature.kind is Kind.MOMENT else _short
    examples = ", ".join(name(value) for value in pd.unique(after.values[new])[:_EXAMPLES])
    chance = f", {_percent(expected)} expected" if old else ""
    text = f"{_percent(share)} with values that the reference never had{chance}: {examples}"
    return Check("new values", share - expected, SHARE, share, float(p), text)


def _new_by_chance(old: np.ndarray, new: np.ndarray) -> float:
    """The probability of so many recent rows, or more, whose value the reference lacks.

    Rows are dealt to the samples at random. The distribution of the sum over all values is the
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


# ---- bins -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bins:
    """The bin of each value of both samples, 0 to `count` - 1.

    `compared` is the share of values whose bin is not that of all rare values; `fewest` is how
    many bins the smallest samples that are tested have.
    """

    before: np.ndarray
    after: np.ndarray
    count: int
    compared: float
    fewest: int


def _bins(before: _Sample, after: _Sample, ordered: bool) -> _Bins:
    """Few different values: a bin for each frequent one. Many: quantiles of both samples.

    Small samples have fewer bins, so that a large change is still found.
    """
    both = np.concatenate([before.values, after.values])
    rows = len(before.values)
    codes, values = pd.factorize(both)
    enough = _harmonic(before.requests, after.requests)
    if ordered and len(values) > _MOST_VALUES:
        codes, share = _by_quantiles(both, _affordable(enough, _BINS)), 1.0
    else:
        smaller = min(rows, len(both) - rows) / len(both)
        codes, share = _by_count(codes, smaller, _affordable(enough, _MOST_VALUES))
    _, codes = np.unique(codes, return_inverse=True)
    # In a handful of rows there are few different values of anything.
    known = len(values) if len(both) >= MINIMUM_ROWS else _FEWEST_BINS
    fewest = int(np.clip(known, 2, _FEWEST_BINS))
    return _Bins(codes[:rows], codes[rows:], int(codes.max()) + 1, share, fewest)


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


# ---- kinds of values --------------------------------------------------------------------------


def _read(present: pd.Series) -> tuple[Kind, pd.Series]:
    """The kind of values without gaps, and the values as `Feature` holds them.

    Covers what a Parquet file may hold, as pandas reads it: booleans, integers, floats, decimals,
    text, bytes, dates, times of day, timestamps, durations, dictionaries, lists, structs, nulls.
    """
    kinds = pd.api.types
    if isinstance(present.dtype, pd.CategoricalDtype):
        present = present.astype(object)
    if present.empty:
        return Kind.EMPTY, present.astype(object)
    if kinds.is_bool_dtype(present.dtype):
        return Kind.FLAG, present.astype(object).map(str)
    if kinds.is_datetime64_any_dtype(present.dtype):
        return Kind.MOMENT, _microseconds(present)
    if kinds.is_timedelta64_dtype(present.dtype):
        return Kind.NUMBER, present.dt.total_seconds()
    if kinds.is_numeric_dtype(present.dtype) and not kinds.is_complex_dtype(present.dtype):
        return Kind.NUMBER, present.astype(float)
    if isinstance(present.dtype, pd.StringDtype):
        return Kind.TEXT, present.astype(object)
    for types, kind, convert in _OBJECTS:
        if all(isinstance(value, types) for value in present):
            return kind, convert(present)
    if any(isinstance(value, list | tuple | dict | set | np.ndarray) for value in present):
        return Kind.NESTED, present
    return Kind.TEXT, present.map(str).astype(object)


def _microseconds(present: pd.Series) -> pd.Series:
    moments = pd.to_datetime(present, utc=True)
    return moments.astype("datetime64[us, UTC]").astype("int64")


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")  # type: ignore[operator]


def _seconds(value: dt.time) -> float:
    return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6


# The log has bytes as base64.
_OBJECTS: tuple[tuple[tuple[type, ...], Kind, Callable[[pd.Series], pd.Series]], ...] = (
    ((str,), Kind.TEXT, lambda present: present.astype(object)),
    ((bool, np.bool_), Kind.FLAG, lambda present: present.map(str).astype(object)),
    ((numbers.Real, Decimal), Kind.NUMBER, lambda present: present.map(_float).astype(float)),
    ((dt.date,), Kind.MOMENT, _microseconds),
    ((dt.time,), Kind.NUMBER, lambda present: present.map(_seconds).astype(float)),
    ((dt.timedelta,), Kind.NUMBER, lambda present: pd.to_timedelta(present).dt.total_seconds()),
    ((bytes,), Kind.TEXT, lambda present: present.map(lambda b: base64.b64encode(b).decode())),
)


def _exact(sources: Sequence[pd.Series], columns: Sequence[pd.Series]) -> list[np.ndarray] | None:
    """Whole numbers beyond what floats tell apart, as they are; None where floats are enough."""
    if all(column.abs().max() <= _EXACT_IN_FLOATS for column in columns if len(column)):
        return None
    objects = [source.astype(object) for source in sources]
    if not all(isinstance(value, numbers.Integral) for column in objects for value in column):
        return None
    return [np.array([int(value) for value in column], dtype=object) for column in objects]


def _same_precision(
    sources: Sequence[pd.Series], columns: Sequence[pd.Series]
) -> Sequence[pd.Series]:
    """Values as the less precise column has them: 0.1 as float32 is another number than 0.1."""
    for kind in (np.float16, np.float32):
        if any(source.dtype == kind for source in sources):
            return [
                column.astype(kind).astype(float) if column.dtype == float else column
                for column in columns
            ]
    return columns


def _common(
    kinds: Sequence[Kind], columns: Sequence[pd.Series]
) -> tuple[Kind, Sequence[pd.Series], str]:
    """One kind for both samples; the reason where they have none in common."""
    found = set(kinds) - {Kind.EMPTY}
    if len(found) < 2:
        return (found or {Kind.EMPTY}).pop(), columns, ""
    if found == {Kind.FLAG, Kind.NUMBER}:
        as_numbers = [
            (c == "True").astype(float) if kind is Kind.FLAG else c
            for kind, c in zip(kinds, columns, strict=True)
        ]
        return Kind.NUMBER, as_numbers, ""
    if found == {Kind.NESTED, Kind.TEXT}:
        # The log has arrays as JSON.
        return Kind.NESTED, columns, ""
    different = f"{kinds[0]} in the reference, {kinds[1]} in the recent sample"
    return Kind.TEXT, [column.map(str) for column in columns], f"not comparable: {different}"


# ---- all columns ------------------------------------------------------------------------------


def _adjust(found: Iterable[Feature]) -> list[Feature]:
    """The features with each p-value corrected by Holm's method."""
    features = list(found)
    raw = np.array([check.p for feature in features for check in feature.checks])
    order = np.argsort(raw, kind="stable")
    steps = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw))))
    adjusted = np.empty(len(raw))
    adjusted[order] = np.minimum(steps, 1.0)
    left = iter(adjusted)
    return [
        replace(f, checks=tuple(replace(c, adjusted=float(next(left))) for c in f.checks))
        for f in features
    ]


def _codes(requests: Sequence[object] | np.ndarray | None) -> np.ndarray | None:
    if requests is None:
        return None
    codes: np.ndarray
    codes, names = pd.factorize(np.asarray(requests))
    # Rows that name no request have one each.
    unknown = codes < 0
    codes[unknown] = len(names) + np.arange(unknown.sum())
    return codes


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.1 or 0.99 < share < 1 else f"{share:.0%}"


def _moment(microseconds: int) -> str:
    return f"{pd.Timestamp(int(microseconds), unit='us'):%d %b %Y %H:%M}"


def _short(value: object, digits: int = 6) -> str:
    text = f"{value:.{digits}g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"
