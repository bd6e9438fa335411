"""Both samples of a column: histograms of numbers and times, bars of anything else."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from dashboard.charts.colors import SAMPLE_COLORS
from dashboard.drift import Feature, Kind

MOST_CATEGORIES = 12
"""Most categories with a bar of their own."""

LEAST_SHOWN = 0.25
"""Share of rows that these categories must have: a plot of ids would be one bar of others."""


def drawable(feature: Feature) -> bool:
    """Whether `samples` can draw it: both samples have values that are not arrays or all rare."""
    both = feature.reference, feature.recent
    if feature.kind in (Kind.NESTED, Kind.EMPTY) or not all(
        len(_shown(feature, sample)) for sample in both
    ):
        return False
    if feature.numeric:
        return True
    counts = pd.concat(both).value_counts()
    return bool(counts.iloc[:MOST_CATEGORIES].sum() >= LEAST_SHOWN * counts.sum())


def samples(feature: Feature, labels: tuple[str, str]) -> alt.Chart:
    """Both samples of a feature over the same bins, as shares of their sample.

    Args:
        feature: a `drawable` column.
        labels: the labels of the reference and the recent sample.
    """
    if feature.numeric:
        return _histograms(feature, labels)
    return _categories(feature, labels)


def _shown(feature: Feature, values: pd.Series) -> pd.Series:
    """The values that can be drawn: infinities cannot."""
    return values[np.isfinite(values.astype(float))] if feature.numeric else values


def _histograms(feature: Feature, labels: tuple[str, str]) -> alt.Chart:
    parts = [_shown(feature, sample) for sample in (feature.reference, feature.recent)]
    both = pd.concat(parts).to_numpy(dtype=float)
    # Without this limit, a few extreme values would leave all others in one bin.
    low, high = np.quantile(both, [0.001, 0.999], method="nearest")
    # No difference of two values: it could overflow a float.
    steps = np.linspace(0, 1, 25)
    edges = np.maximum.accumulate(low * (1 - steps) + high * steps)
    edges = edges if high > low else np.array([low - 0.5, low + 0.5])
    moments = feature.kind is Kind.MOMENT
    ends = pd.to_datetime(edges, unit="us") if moments else edges
    rows = []
    for label, values in zip(labels, parts, strict=True):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        shares = counts / max(1, counts.sum())
        rows += [
            {"sample": label, "from": a, "to": b, "share": share}
            for a, b, share in zip(ends[:-1], ends[1:], shares, strict=True)
        ]
    kind, form = ("T", "%d %b %Y %H:%M") if moments else ("Q", ".4g")
    scale = alt.Scale(type="utc") if moments else alt.Scale(zero=False)
    binned = {} if moments else {"bin": "binned"}
    return (
        alt.Chart(pd.DataFrame(rows), height=170)
        .mark_bar(opacity=0.5, binSpacing=0)
        .encode(
            x=alt.X(f"from:{kind}", title=None, scale=scale, **binned),
            x2="to",
            y=alt.Y("share:Q", title=None, stack=None, axis=alt.Axis(format="%", tickCount=4)),
            color=_sample_color(labels),
            tooltip=[
                "sample:N",
                alt.Tooltip(f"from:{kind}", format=form),
                alt.Tooltip(f"to:{kind}", format=form),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )


def _categories(feature: Feature, labels: tuple[str, str]) -> alt.Chart:
    shares = pd.DataFrame(
        {
            label: column.value_counts(normalize=True)
            for label, column in zip(labels, (feature.reference, feature.recent), strict=True)
        }
    ).fillna(0.0)
    shares = shares.loc[shares.max(axis=1).sort_values(ascending=False).index]
    if len(shares) > MOST_CATEGORIES:
        rest = shares.iloc[MOST_CATEGORIES - 1 :].sum().rename("(others)")
        shares = pd.concat([shares.iloc[: MOST_CATEGORIES - 1], rest.to_frame().T])
    table = (
        shares.rename_axis("value")
        .reset_index()
        .melt("value", var_name="sample", value_name="share")
    )
    return (
        alt.Chart(table, height=170)
        .mark_bar(opacity=0.75)
        .encode(
            x=alt.X(
                "value:N",
                title=None,
                sort=list(shares.index),
                axis=alt.Axis(labelAngle=0, labelLimit=70),
            ),
            xOffset=alt.XOffset("sample:N", sort=list(labels)),
            y=alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4)),
            color=_sample_color(labels),
            tooltip=["sample:N", "value:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )


def _sample_color(labels: tuple[str, str]) -> alt.Color:
    return alt.Color(
        "sample:N", legend=None, scale=alt.Scale(domain=list(labels), range=list(SAMPLE_COLORS))
    )
