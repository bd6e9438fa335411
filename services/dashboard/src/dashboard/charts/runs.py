"""Runs compared by their metrics: bars, a scatter plot, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from dashboard.charts.colors import QUIET
from dashboard.tracking import Run

_LEGEND = alt.Legend(orient="bottom", columns=4)


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
    """Every run as a point of two metrics; chosen runs are coloured."""
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
    """A metric by step, with one line per run."""
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


def _color(named: Mapping[str, str], legend: alt.Legend | None) -> alt.Color:
    """A scale that gives a run the same colour in every plot of the same selection."""
    return alt.Color(
        "run:N", title=None, legend=legend, scale=alt.Scale(domain=list(named.values()))
    )
