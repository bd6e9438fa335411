"""Compare two samples: all columns over a whole window, or one column part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan

import numpy as np
import pandas as pd

from dashboard.drift.bins import MOST_VALUES
from dashboard.drift.checks import check_missing, check_new_values, check_range, check_values
from dashboard.drift.samples import ColumnSample, request_codes
from dashboard.drift.values import common_kind, exact_integers, read_values, same_precision
from dashboard.drift.verdicts import Feature, Kind, Verdict


def compare(
    reference: pd.DataFrame | Mapping[str, pd.Series],
    recent: pd.DataFrame,
    requests: Sequence[object] | np.ndarray | None = None,
    reference_requests: Sequence[object] | np.ndarray | None = None,
) -> list[Feature]:
    """Compare every column of the recent rows; drifted columns come first, then by PSI.

    Args:
        reference: the data that the model was made for; its columns may differ in length.
        recent: the rows that the model received recently. A column that the reference lacks is not
            tested.
        requests: the request of each recent row; by default, rows are independent.
        reference_requests: the same for the rows of the reference.
    """
    groups, old_groups = request_codes(requests), request_codes(reference_requests)
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
    """A part of a window, from `start` to before `end`, compared with the reference."""

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
        edges: the start of each bucket and the end of the last one, ascending.
        requests: see `compare`.
        reference_requests: see `compare`.

    Returns:
        A bucket for each pair of edges. Significance is corrected for all buckets together.
    """
    where = edges.searchsorted(pd.DatetimeIndex(at), side="right") - 1
    groups, old_groups = request_codes(requests), request_codes(reference_requests)
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


def _test(
    name: str,
    reference: pd.Series,
    recent: pd.Series,
    old_groups: np.ndarray | None,
    groups: np.ndarray | None,
) -> Feature:
    gaps = [column.isna().to_numpy(dtype=bool) for column in (reference, recent)]
    (old_kind, before_values), (new_kind, after_values) = (
        read_values(column[~gap]) for column, gap in zip((reference, recent), gaps, strict=True)
    )
    read = same_precision((reference, recent), (before_values, after_values))
    kind, (old, new), mismatch = common_kind((old_kind, new_kind), read)
    present = [column[~gap] for column, gap in zip((reference, recent), gaps, strict=True)]
    values = exact_integers(present, (old, new)) if kind is Kind.NUMBER else None
    before, after = (
        ColumnSample(exact, None if group is None else group[~gap])
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
    checks = [check_missing(gaps, (old_groups, groups))]
    if mismatch:
        untested = mismatch
    elif kind is Kind.EMPTY:
        untested = "every value is missing in both samples"
    elif kind is Kind.NESTED:
        untested = "arrays are not compared"
    else:
        feature, check, untested = check_values(feature, before, after)
        ordered = feature.numeric and len(np.unique(before.values)) > MOST_VALUES
        check_outside = check_range if ordered else check_new_values
        strange = check_outside(feature, before, after)
        checks += [check, strange]
    if len(reference) == 0 or len(recent) == 0:
        untested = f"no rows in the {'reference' if len(reference) == 0 else 'recent sample'}"
    return replace(feature, checks=tuple(c for c in checks if c), untested=untested)


def _absent(name: str, recent: pd.Series) -> Feature:
    gaps = recent.isna()
    kind, column = read_values(recent[~gaps])
    empty = column.iloc[:0]
    share = float(gaps.mean()) if len(gaps) else 0.0
    why = "the reference has no such column"
    return Feature(name, kind, empty, column, (0, len(recent)), (nan, share), untested=why)


def _share_missing(gap: np.ndarray) -> float:
    return float(gap.mean()) if len(gap) else 0.0


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
