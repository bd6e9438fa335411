"""The plots: runs compared, probabilities, pipelines, and two samples of a feature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from dashboard.airflow import DagRun, Task
from dashboard.drift import Bucket, Feature, Kind, Verdict
from dashboard.tracking import Run

# Marks have one colour on light and dark pages: each has a contrast of 3 or more to both.
TEAL, ORANGE = "#17857e", "#cf7420"
QUIET = "#7f9097"
SAMPLE_COLORS = TEAL, ORANGE
"""The reference and the recent sample."""

STATE_COLORS = {
    "success": "#2f8f5b",
    "running": "#4a7fc4",
    "failed": "#d0504a",
    "queued": "#7c8b92",
    "upstream_failed": "#cf7420",
    "up_for_retry": "#ad8117",
    "skipped": "#a883ab",
}
"""Airflow's states; any other one is drawn as a queued one."""

STATE_MARKS = {"success": "✔", "failed": "✖", "running": "▶", "upstream_failed": "✖"}

VERDICT_COLORS = {
    Verdict.DRIFTED: ORANGE,
    Verdict.STABLE: "#2f8f5b",
    Verdict.UNTESTED: "#8b9aa0",
}

DRIFT_VIEWS = {
    "values": "PSI above chance",
    "missing": "Missing",
    "range": "Outside the range",
    "new values": "New values",
}
"""Checks of `drift` that are drawn over time, and what their size is."""

MOST_CATEGORIES = 12
"""Categories an axis or a histogram shows apart."""

LEAST_SHOWN = 0.25
"""The share of rows that these must have: a plot of ids is one bar of others."""

_LEGEND = alt.Legend(orient="bottom", columns=4)


def ink() -> tuple[str, str]:
    """The colour of text in a plot and of what is behind it, on this visitor's page.

    Streamlit gives its theme to axes and legends, and not to text among the marks.
    """
    return ("#e4ecee", "#10191e") if st.context.theme.type == "dark" else ("#1b2a33", "#ffffff")


def shades() -> alt.SchemeParams:
    """Colours from low to high: yellow to blue, without those that fade into the page."""
    dark = st.context.theme.type == "dark"
    return alt.SchemeParams(name="viridis", extent=[0.3, 1.0] if dark else [0.0, 0.95])


def labels(runs: Sequence[Run]) -> dict[str, str]:
    """Run id -> a name that is unique among these runs."""
    names = [run.name for run in runs]
    return {
        run.id: run.name if names.count(run.name) == 1 else f"{run.name} ({run.id[:6]})"
        for run in runs
    }


def bars(runs: Sequence[Run], metrics: Sequence[str]) -> alt.Chart:
    """One panel per metric, each with its own scale; one bar per run."""
    named = labels(runs)
    table = pd.DataFrame(
        [
            {"run": named[run.id], "metric": metric, "value": run.metrics[metric]}
            for run in runs
            for metric in metrics
            if metric in run.metrics
        ],
        columns=["run", "metric", "value"],
    )
    bar = (
        alt.Chart(table, width=210, height=max(70, 26 * len(runs)))
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X("value:Q", title=None, axis=alt.Axis(tickCount=4)),
            y=alt.Y("run:N", title=None, sort=list(named.values())),
            color=_color(named, legend=None),
            tooltip=["run:N", "metric:N", alt.Tooltip("value:Q", format=".5g")],
        )
    )
    return bar.facet(
        facet=alt.Facet("metric:N", title=None, sort=list(metrics)), columns=3
    ).resolve_scale(x="independent")


def scatter(runs: Sequence[Run], x: str, y: str, chosen: Sequence[Run]) -> alt.LayerChart:
    """Every run as a point of two metrics, the chosen ones in colour."""
    named = labels(chosen)
    table = pd.DataFrame(
        [
            {
                "run": named.get(run.id, "other runs"),
                "name": run.name,
                "x": run.metrics[x],
                "y": run.metrics[y],
                "chosen": run.id in named,
            }
            for run in runs
            if x in run.metrics and y in run.metrics
        ],
        columns=["run", "name", "x", "y", "chosen"],
    )
    base = alt.Chart(table, height=320).encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(zero=False)),
        y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False)),
        tooltip=["name:N", alt.Tooltip("x:Q", title=x), alt.Tooltip("y:Q", title=y)],
    )
    others = base.transform_filter("!datum.chosen").mark_circle(size=45, color=QUIET, opacity=0.55)
    points = (
        base.transform_filter("datum.chosen")
        .mark_circle(size=140)
        .encode(color=_color(named, legend=_LEGEND))
    )
    return others + points


def curves(
    points: Sequence[tuple[str, int, float]], chosen: Sequence[Run], metric: str
) -> alt.Chart:
    """A metric along its steps, one line per run that has any."""
    named = labels(chosen)
    table = pd.DataFrame(
        [{"run": named[run], "step": step, "value": value} for run, step, value in points],
        columns=["run", "step", "value"],
    )
    return (
        alt.Chart(table, height=300)
        .mark_line(point=len(points) <= 40 * len(chosen), strokeWidth=2)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("value:Q", title=metric, scale=alt.Scale(zero=False)),
            color=_color(named, legend=_LEGEND),
            tooltip=["run:N", "step:Q", alt.Tooltip("value:Q", format=".5g")],
        )
    )


def probabilities(by_class: Mapping[str, float]) -> alt.LayerChart:
    """One bar per class, the likeliest first."""
    table = pd.DataFrame({"class": by_class.keys(), "probability": by_class.values()})
    base = alt.Chart(table, height=max(60, 32 * len(table))).encode(
        x=alt.X("probability:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=None),
        y=alt.Y("class:N", title=None, sort="-x"),
        tooltip=["class:N", alt.Tooltip("probability:Q", format=".4f")],
    )
    text = alt.Text("probability:Q", format=".1%")
    return base.mark_bar(cornerRadiusEnd=3, size=18) + base.mark_text(
        align="left", dx=6, color=ink()[0]
    ).encode(text=text)


def parallel(
    runs: Sequence[Run], dimensions: Sequence[str], color: str, chosen: Sequence[Run]
) -> alt.LayerChart:
    """Parallel coordinates: a line per run through its params and metrics.

    Args:
        runs: those with a value on every axis are drawn.
        dimensions: `params.<name>` and `metrics.<name>`, the axes from left to right.
        color: the dimension that colours the lines; it must be a number for some run.
        chosen: runs drawn thick.
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
    """A run's `params.<name>` or `metrics.<name>`; a param that is a number, as one."""
    kind, _, name = key.partition(".")
    if kind == "metrics":
        found = run.metrics.get(name)
        return found if found is not None and math.isfinite(found) else None
    return number_or_text(run.params.get(name))


def number_or_text(text: str | None) -> float | str | None:
    """A param as a finite number where it is one."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else text


class Axis:
    """Places the values of one dimension between 0 and 1.

    Numbers lie linearly, or by their logarithm where they span more than two orders of
    magnitude; anything else lies evenly, in alphabetical order.
    """

    def __init__(self, values: pd.Series) -> None:
        """Take the range of these values."""
        self._numbers = all(isinstance(value, float) for value in values) and len(values) > 0
        if self._numbers:
            numbers = values.astype(float)
            self._low, self._high = float(numbers.min()), float(numbers.max())
            self._log = self._low > 0 and self._high / self._low > 100
        else:
            self._names = sorted({_name(value) for value in values})

    def place(self, value: float | str) -> float:
        """Where a value lies."""
        if not self._numbers:
            return _share(self._names.index(_name(value)), 0, len(self._names) - 1)
        number = float(value)
        if self._log:
            return _share(math.log(number), math.log(self._low), math.log(self._high))
        return _share(number, self._low, self._high)

    def marks(self) -> list[tuple[float, str]]:
        """Labels of the axis and where they lie."""
        if not self._numbers:
            step = -(-len(self._names) // MOST_CATEGORIES)
            return [(self.place(name), name) for name in self._names[::step]]
        if self._low == self._high:
            return [(0.5, f"{self._low:.4g}")]
        shares = [i / 4 for i in range(5)]
        if self._log:
            low, high = math.log(self._low), math.log(self._high)
            return [(share, f"{math.exp(low + share * (high - low)):.2g}") for share in shares]
        return [(share, f"{self._low + share * (self._high - self._low):.4g}") for share in shares]


def dag_runs(runs: Sequence[DagRun]) -> alt.Chart:
    """The duration of each run as a bar along time, coloured by its state; a row for each DAG."""
    table = pd.DataFrame(
        {
            "DAG": run.dag,
            "run": run.id,
            "number": str(i),
            "started": run.started,
            "seconds": run.seconds or 0.0,
            "state": run.state,
        }
        for i, run in enumerate(reversed(runs))
    )
    return (
        alt.Chart(table, height=200)
        .mark_bar(cornerRadiusEnd=2, size=max(4, min(22, 700 // len(runs))))
        .encode(
            x=alt.X("number:O", sort=None, axis=None),
            y=alt.Y("seconds:Q", title="seconds", axis=alt.Axis(tickCount=4)),
            color=_state_color(run.state for run in runs),
            tooltip=[
                "DAG:N",
                "run:N",
                "state:N",
                alt.Tooltip("started:T", format="%d %b %H:%M:%S"),
                alt.Tooltip("seconds:Q", format=".1f"),
            ],
        )
    )


def gantt(tasks: Sequence[Task]) -> alt.Chart:
    """When each task ran, in the order in which they started."""
    now = datetime.now(UTC)
    table = pd.DataFrame(
        {
            "task": task.name,
            "from": task.started,
            "to": task.ended or now,
            "state": task.state,
            "seconds": task.seconds,
        }
        for task in tasks
        if task.started
    )
    return (
        alt.Chart(table, height=34 * len(table) + 90)
        .mark_bar(cornerRadius=3, size=16)
        .encode(
            x=alt.X("from:T", title=None, axis=alt.Axis(format="%H:%M:%S", tickCount=6)),
            x2="to:T",
            y=alt.Y(
                "task:N", title=None, sort=None, axis=alt.Axis(labelLimit=220, labelOverlap=False)
            ),
            color=_state_color(task.state for task in tasks if task.started),
            tooltip=["task:N", "state:N", alt.Tooltip("seconds:Q", format=".1f")],
        )
    )


def drawable(feature: Feature) -> bool:
    """Whether `samples` can draw it: both samples have values, not arrays, and not all rare."""
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
        feature: one that is `drawable`.
        labels: what to call the reference and the recent sample.
    """
    if feature.numeric:
        return _histograms(feature, labels)
    return _categories(feature, labels)


def over_time(buckets: Sequence[Bucket], view: str) -> alt.LayerChart:
    """The size of one check in each bucket, coloured by the verdict; untested ones at the bottom.

    Args:
        buckets: what `drift.over_time` gives; at least one of them has that check.
        view: a key of `DRIFT_VIEWS`.
    """
    rows, limit = [], 0.0
    for bucket in buckets:
        check = bucket.feature.check(view)
        limit = max(limit, check.limit if check else 0.0)
        verdict = Verdict.UNTESTED
        if check is not None:
            verdict = Verdict.DRIFTED if check.alarm else Verdict.STABLE
        rows.append(
            {
                "from": bucket.start,
                "to": bucket.end,
                "at": bucket.start + (bucket.end - bucket.start) / 2,
                "size": max(0.0, check.size) if check else 0.0,
                "verdict": str(verdict),
                "rows": bucket.feature.rows[1],
                "why": check.text if check else bucket.feature.why,
            }
        )
    table = pd.DataFrame(rows)
    high = max(limit * 1.5, float(table["size"].max()) * 1.1)
    share = view != "values"
    days = (table["to"].max() - table["from"].min()).total_seconds() > 2 * 86400
    form = "%d %b" if days else "%d %b %H:%M"
    base = alt.Chart(table, height=220).encode(
        x=alt.X(
            "at:T",
            title=None,
            axis=alt.Axis(format=form, tickCount=8, labelOverlap=True),
            scale=alt.Scale(
                type="utc", domain=[_utc(table["from"].min()), _utc(table["to"].max())]
            ),
        ),
        y=alt.Y(
            "size:Q",
            title=DRIFT_VIEWS[view],
            scale=alt.Scale(domain=[0, high], nice=False),
            axis=alt.Axis(tickCount=4, format="%" if share else ".2~f"),
        ),
        tooltip=[
            alt.Tooltip("utcfrom:N", title="from (UTC)"),
            alt.Tooltip("rows:Q"),
            alt.Tooltip("verdict:N"),
            alt.Tooltip("why:N"),
        ],
    )
    base = base.transform_calculate(utcfrom="utcFormat(datum.from, '%d %b %H:%M')")
    line = base.transform_filter(f"datum.verdict != '{Verdict.UNTESTED}'").mark_line(
        color=VERDICT_COLORS[Verdict.UNTESTED], strokeWidth=1.5
    )
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        color=alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(
                domain=[str(v) for v in VERDICT_COLORS], range=list(VERDICT_COLORS.values())
            ),
            legend=alt.Legend(orient="top"),
        ),
        shape=alt.Shape(
            "verdict:N",
            scale=alt.Scale(
                domain=[str(v) for v in VERDICT_COLORS], range=["triangle-up", "circle", "cross"]
            ),
        ),
    )
    rule = (
        alt.Chart(pd.DataFrame({"limit": [limit]}))
        .mark_rule(strokeDash=[5, 4], color=ORANGE)
        .encode(y="limit:Q")
    )
    return rule + line + points


def _utc(moment: pd.Timestamp) -> alt.DateTime:
    moment = moment.tz_convert(UTC)
    return alt.DateTime(
        year=moment.year,
        month=moment.month,
        date=moment.day,
        hours=moment.hour,
        minutes=moment.minute,
        utc=True,
    )


def _shown(feature: Feature, values: pd.Series) -> pd.Series:
    """The values that have a place in a plot: infinities have none."""
    return values[np.isfinite(values.astype(float))] if feature.numeric else values


def _histograms(feature: Feature, labels: tuple[str, str]) -> alt.Chart:
    parts = [_shown(feature, sample) for sample in (feature.reference, feature.recent)]
    both = pd.concat(parts).to_numpy(dtype=float)
    # A few extreme values would leave all others in one bin.
    low, high = np.quantile(both, [0.001, 0.999], method="nearest")
    # Never the difference of two values: it may be more than a float holds.
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


def _state_color(states: Iterable[str]) -> alt.Color:
    domain = list(dict.fromkeys(states))
    colors = [STATE_COLORS.get(state, STATE_COLORS["queued"]) for state in domain]
    return alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(domain=domain, range=colors),
        legend=alt.Legend(orient="top", symbolType="square"),
    )


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _name(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value


def _color(named: Mapping[str, str], legend: alt.Legend | None) -> alt.Color:
    """The same colour for a run in every plot of the same selection."""
    return alt.Color(
        "run:N", title=None, legend=legend, scale=alt.Scale(domain=list(named.values()))
    )
