"""Parallel coordinates: runs as lines through their parameters and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from dashboard.charts.colors import QUIET, ink, shades
from dashboard.tracking import Run

_MOST_LABELS = 12
"""Most labels on one axis."""


def parallel(
    runs: Sequence[Run], dimensions: Sequence[str], color: str, chosen: Sequence[Run]
) -> alt.LayerChart:
    """One line per run through its params and metrics.

    Args:
        runs: the runs; only those with a value on every axis are drawn.
        dimensions: the axes from left to right: `params.<name>` and `metrics.<name>`.
        color: the dimension that colours the lines; it must be a number for some run.
        chosen: the runs to emphasize.
    """
    raw = pd.DataFrame(
        {key: [value(run, key) for run in runs] for key in dimensions},
        index=[run.id for run in runs],
    ).dropna()
    axes = {key: Axis(raw[key]) for key in dimensions}
    named, thick = {run.id: run.name for run in runs}, {run.id for run in chosen}
    lines = pd.DataFrame(
        [
            {
                "id": id_,
                "run": named[id_],
                "axis": key,
                "at": axes[key].place(row[key]),
                "color": axes[color].place(row[color]),
                "chosen": id_ in thick,
                "value": str(row[key]),
            }
            for id_, row in raw.iterrows()
            for key in dimensions
        ],
        columns=["id", "run", "axis", "at", "color", "chosen", "value"],
    )
    marks = pd.DataFrame(
        [
            {"axis": key, "at": at, "label": label}
            for key in dimensions
            for at, label in axes[key].marks()
        ],
        columns=["axis", "at", "label"],
    )
    x = alt.X(
        "axis:N",
        sort=list(dimensions),
        title=None,
        axis=alt.Axis(
            orient="top",
            labelAngle=0,
            labelExpr="replace(datum.label, /^(params|metrics)[.]/, '')",
            labelFontWeight="bold",
            labelLimit=140,
            ticks=False,
            domain=False,
            labelPadding=14,
        ),
        scale=alt.Scale(type="point", padding=0.35),
    )
    y = alt.Y("at:Q", axis=None, scale=alt.Scale(domain=[-0.04, 1.04]))
    hover = alt.selection_point(fields=["id"], on="pointerover", empty=False, clear="pointerout")
    usual = 0.75 if len(raw) <= 20 else 0.3
    line = (
        alt.Chart(lines)
        .mark_line(interpolate="monotone")
        .encode(
            x=x,
            y=y,
            detail="id:N",
            color=alt.Color(
                "color:Q",
                scale=alt.Scale(scheme=shades(), domain=[0, 1], reverse=True),
                legend=None,
            ),
            opacity=alt.when(hover)
            .then(alt.value(1.0))
            .when("datum.chosen")
            .then(alt.value(1.0))
            .otherwise(alt.value(usual)),
            strokeWidth=alt.when(hover)
            .then(alt.value(3.5))
            .when("datum.chosen")
            .then(alt.value(3))
            .otherwise(alt.value(1.2)),
            tooltip=["run:N", "axis:N", "value:N"],
        )
        .add_params(hover)
    )
    rule = (
        alt.Chart(pd.DataFrame({"axis": list(dimensions)}))
        .mark_rule(color=QUIET, strokeWidth=1)
        .encode(x=x)
    )
    text = alt.Chart(marks).encode(x=x, y=y, text="label:N")
    place = {"align": "left", "dx": 5, "fontSize": 11}
    color_of_text, behind = ink()
    halo = text.mark_text(**place, stroke=behind, strokeWidth=3, strokeOpacity=0.85)
    labels = text.mark_text(**place, color=color_of_text)
    return (rule + line + halo + labels).properties(height=380)


def value(run: Run, key: str) -> float | str | None:
    """A run's `params.<name>` or `metrics.<name>`; numeric params as numbers."""
    kind, _, name = key.partition(".")
    if kind == "metrics":
        found = run.metrics.get(name)
        return found if found is not None and math.isfinite(found) else None
    return number_or_text(run.params.get(name))


def number_or_text(text: str | None) -> float | str | None:
    """A param as a number if it is a finite one, otherwise as text."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else text


class Axis:
    """Places the values of one dimension between 0 and 1.

    Numbers are on a linear scale, or on a logarithmic one if they span more than two orders of
    magnitude. Other values are spaced evenly, in alphabetical order.
    """

    def __init__(self, values: pd.Series) -> None:
        """Span the axis over these values."""
        self._numbers = all(isinstance(value, float) for value in values) and len(values) > 0
        if self._numbers:
            numbers = values.astype(float)
            self._low, self._high = float(numbers.min()), float(numbers.max())
            self._log = self._low > 0 and self._high / self._low > 100
        else:
            self._names = sorted({_name(value) for value in values})

    def place(self, value: float | str) -> float:
        """The position of a value, 0 to 1."""
        if not self._numbers:
            return _share(self._names.index(_name(value)), 0, len(self._names) - 1)
        number = float(value)
        if self._log:
            return _share(math.log(number), math.log(self._low), math.log(self._high))
        return _share(number, self._low, self._high)

    def marks(self) -> list[tuple[float, str]]:
        """The position and text of each label of the axis."""
        if not self._numbers:
            step = -(-len(self._names) // _MOST_LABELS)
            return [(self.place(name), name) for name in self._names[::step]]
        if self._low == self._high:
            return [(0.5, f"{self._low:.4g}")]
        shares = [i / 4 for i in range(5)]
        if self._log:
            low, high = math.log(self._low), math.log(self._high)
            return [(share, f"{math.exp(low + share * (high - low)):.2g}") for share in shares]
        return [(share, f"{self._low + share * (self._high - self._low):.4g}") for share in shares]


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _name(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value
