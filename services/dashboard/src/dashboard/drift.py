"""Has what a model is asked changed? Two samples, feature by feature.

Numbers are compared by the two-sample Kolmogorov-Smirnov test, categories by the chi-squared
test of homogeneity. Many features make some small p-values by chance: they are adjusted by
Benjamini and Hochberg's procedure, which bounds the share of false alarms among the alarms.

With many rows any difference becomes significant, so that the size of a change is told too: the
population stability index (PSI). Its usual reading (Lewis, An Introduction to Credit Scoring,
1994; Siddiqi, Credit Risk Scorecards, 2006, p. 137): below 0.1 no change worth a look, 0.1 to 0.25
some, above 0.25 a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import stats

MINIMUM_ROWS = 200
"""Values that each sample must have: over ten bins, fewer make a PSI of 0.1 by mere chance."""

SIGNIFICANCE = 0.05
SOME_CHANGE, LARGE_CHANGE = 0.1, 0.25
KOLMOGOROV_SMIRNOV = "Kolmogorov-Smirnov"
CHI_SQUARED = "chi-squared"

_BINS = 10
_SMALLEST_EXPECTED = 5
_MOST_CLASSES = 20
_OTHER = "(others)"


class Verdict(StrEnum):
    """What the numbers say of one feature."""

    STABLE = "stable"
    SOME = "some drift"
    LARGE = "large drift"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Feature:
    """One feature in both samples, and what the test says.

    `p` is adjusted for the number of features tested. `statistic`, `p_raw`, `p` and `psi` are
    None where nothing was tested; `why` then tells the reason. `reference` and `recent` hold the
    values without the missing ones; `missing` is their share in the two samples.
    """

    name: str
    test: str
    reference: pd.Series
    recent: pd.Series
    missing: tuple[float, float]
    statistic: float | None = None
    p_raw: float | None = None
    p: float | None = None
    psi: float | None = None
    why: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers rather than categories."""
        return self.test == KOLMOGOROV_SMIRNOV

    @property
    def verdict(self) -> Verdict:
        """Drift is a change that is both significant and large enough to matter."""
        if self.p is None or self.psi is None:
            return Verdict.UNTESTED
        if self.p >= SIGNIFICANCE or self.psi < SOME_CHANGE:
            return Verdict.STABLE
        return Verdict.LARGE if self.psi >= LARGE_CHANGE else Verdict.SOME


def compare(
    reference: pd.DataFrame, recent: pd.DataFrame, outputs: Sequence[str] = ("prediction",)
) -> list[Feature]:
    """Every column that both have, the one that changed most first.

    Args:
        reference: what the model was made for, such as a sample of its training data.
        recent: what it was asked lately.
        outputs: columns that are predictions. Their whole numbers are classes as long as there
            are at most 20 different ones; a feature's are numbers.
    """
    features = [
        _test(name, reference[name], recent[name], name in outputs)
        for name in reference.columns
        if name in recent.columns
    ]
    tested = [feature for feature in features if feature.p_raw is not None]
    if tested:
        adjusted = stats.false_discovery_control([f.p_raw for f in tested], method="bh")
        known = dict(zip((f.name for f in tested), map(float, adjusted), strict=True))
        features = [replace(f, p=known.get(f.name)) for f in features]
    return sorted(features, key=lambda f: (f.psi is None, -(f.psi or 0.0)))


def psi(reference: np.ndarray, recent: np.ndarray) -> float:
    """The population stability index of two vectors of counts over the same bins.

    Half a row is added to each bin, so that an empty one gives a finite number.
    """
    before = (reference + 0.5) / (reference + 0.5).sum()
    after = (recent + 0.5) / (recent + 0.5).sum()
    return float(((after - before) * np.log(after / before)).sum())


def _test(name: str, reference: pd.Series, recent: pd.Series, output: bool) -> Feature:
    missing = tuple(float(column.isna().mean()) for column in (reference, recent))
    reference, recent = reference.dropna(), recent.dropna()
    numeric = _numeric(reference, output) and (recent.empty or _numbers(recent))
    if numeric:
        reference, recent = (_as_numbers(column) for column in (reference, recent))
    else:
        reference, recent = (column.astype(str) for column in (reference, recent))
    feature = Feature(
        name, KOLMOGOROV_SMIRNOV if numeric else CHI_SQUARED, reference, recent, missing
    )
    for what, column in (("reference", reference), ("recent", recent)):
        if len(column) < MINIMUM_ROWS:
            few = f"too few values in the {what} sample ({len(column)} of at least {MINIMUM_ROWS})"
            return replace(feature, why=few)
    return _numbers_test(feature) if numeric else _categories_test(feature)


def _numbers_test(feature: Feature) -> Feature:
    reference, recent = feature.reference.to_numpy(), feature.recent.to_numpy()
    result = stats.ks_2samp(reference, recent, method="asymp")
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        for values in (reference, recent)
    ]
    return replace(
        feature,
        statistic=float(result.statistic),
        p_raw=float(result.pvalue),
        psi=psi(*counts),
    )


def _categories_test(feature: Feature) -> Feature:
    table = pd.DataFrame(
        {
            "reference": feature.reference.value_counts(),
            "recent": feature.recent.value_counts(),
        }
    ).fillna(0)
    # The test needs some expected rows in each cell: rare categories count as one.
    smallest = table.sum() / table.to_numpy().sum()
    rare = (table.sum(axis=1).to_numpy()[:, None] * smallest.to_numpy()).min(axis=1)
    table = table.groupby(np.where(rare < _SMALLEST_EXPECTED, _OTHER, table.index)).sum()
    counts = table.to_numpy(dtype=float)
    if len(counts) < 2:
        return replace(feature, statistic=0.0, p_raw=1.0, psi=0.0)
    result = stats.chi2_contingency(counts.T, correction=False)
    return replace(
        feature,
        statistic=float(result.statistic),
        p_raw=float(result.pvalue),
        psi=psi(counts[:, 0], counts[:, 1]),
    )


def _numeric(column: pd.Series, output: bool) -> bool:
    if not _numbers(column):
        return False
    whole = pd.api.types.is_integer_dtype(column.dtype)
    return not (output and whole and column.nunique() <= _MOST_CLASSES)


def _numbers(column: pd.Series) -> bool:
    kinds = pd.api.types
    if kinds.is_bool_dtype(column.dtype):
        return False
    return kinds.is_numeric_dtype(column.dtype) or kinds.is_datetime64_any_dtype(column.dtype)


def _as_numbers(column: pd.Series) -> pd.Series:
    """Numbers as they are, moments as seconds since 1970; infinities are left out."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = column.astype("datetime64[s, UTC]" if column.dt.tz else "datetime64[s]").astype(
            "int64"
        )
    numbers = column.astype(float)
    return numbers[np.isfinite(numbers)]
