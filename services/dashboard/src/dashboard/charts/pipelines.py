"""Pipelines: the duration of DAG runs, and when each task ran."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import altair as alt
import pandas as pd

from dashboard.airflow import DagRun, Task
from dashboard.charts.colors import STATE_COLORS


def dag_runs(runs: Sequence[DagRun]) -> alt.Chart:
    """The duration of each run as a bar, in the order of time and coloured by state."""
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
    """The time span of each task, in the given order."""
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


def _state_color(states: Iterable[str]) -> alt.Color:
    domain = list(dict.fromkeys(states))
    colors = [STATE_COLORS.get(state, STATE_COLORS["queued"]) for state in domain]
    return alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(domain=domain, range=colors),
        legend=alt.Legend(orient="top", symbolType="square"),
    )
