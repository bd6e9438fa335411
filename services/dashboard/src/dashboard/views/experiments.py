"""Experiments: find runs and compare their metrics and parameters."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd
import streamlit as st

from dashboard import board, charts
from dashboard.services import Refused
from dashboard.session import Session, current
from dashboard.tracking import MAX_RUNS, Experiment, Run
from dashboard.ui import empty, heading, plain, run_link

MAX_COMPARED = 10
SHOWN_METRICS = 6


def page(session: Session) -> None:
    """Draw the page."""
    heading("Experiments", "Find runs, select some in the table, and compare them below.")
    experiments = board.experiments(session)
    if not experiments:
        empty(
            "No experiments you may see",
            "Trigger the `wine` DAG in Airflow, or ask an MLflow admin for read permission.",
            ":material/science:",
        )
        return
    experiment, runs, filtered = _find(session, experiments)
    if runs is None:
        return
    if not runs:
        if filtered:
            empty("No run matches", "Change or clear the filters above.", ":material/filter_alt:")
        else:
            empty(
                f"No runs in {plain(experiment.name)} yet",
                "Trigger the `wine` DAG in Airflow, or log a run to MLflow from a notebook.",
                ":material/science:",
            )
        return
    chosen = _table(session, runs)
    _compare(session, runs, chosen)


def _find(
    session: Session, experiments: list[Experiment]
) -> tuple[Experiment, list[Run] | None, bool]:
    where, name, query = st.columns([1.4, 1.2, 2])
    experiment = where.selectbox(
        "Experiment",
        experiments,
        index=_last_used(session, experiments),
        format_func=lambda item: item.name,
        key="experiment",
        persist_state="session",
    )
    contains = name.text_input("Run name contains", key="run_name", persist_state="session")
    search = query.text_input(
        "MLflow search",
        key="run_query",
        persist_state="session",
        placeholder="metrics.accuracy > 0.9 and params.max_depth = '5'",
        help="MLflow's search syntax over metrics, params, tags and attributes.",
    )
    try:
        found = board.runs(session, (experiment.id,), search.strip())
    except Refused as error:
        st.error(f"MLflow cannot read this search: {plain(error)}", icon=":material/error:")
        return experiment, None, True
    if len(found) == MAX_RUNS:
        st.caption(f"The newest {MAX_RUNS} runs are shown: narrow the search for older ones.")
    statuses = sorted({run.status for run in found})
    wanted = (
        st.pills(
            "Status",
            statuses,
            selection_mode="multi",
            format_func=str.capitalize,
            label_visibility="collapsed",
            key="run_status",
            persist_state="session",
        )
        if len(statuses) > 1
        else []
    )
    runs = [
        run
        for run in found
        if contains.strip().lower() in run.name.lower() and (not wanted or run.status in wanted)
    ]
    return experiment, runs, bool(contains or search or wanted)


def _last_used(session: Session, experiments: list[Experiment]) -> int:
    """Index of the experiment with the newest run, the first one when nothing ever ran."""
    newest = {run.experiment_id for run in board.recent_runs(session)[:1]}
    return next((i for i, item in enumerate(experiments) if item.id in newest), 0)


def _table(session: Session, runs: list[Run]) -> list[Run]:
    metrics = _by_frequency(run.metrics for run in runs)
    params = _by_frequency(run.params for run in runs)
    link = session.settings.mlflow_public_url is not None
    table = pd.DataFrame(
        {
            "run": run.name,
            "status": run.status.capitalize(),
            "started": run.started,
            "seconds": run.seconds,
            **{f"metrics.{key}": run.metrics.get(key) for key in metrics},
            **{f"params.{key}": run.params.get(key) for key in params},
            "user": run.user,
            **({"link": run_link(session.settings, run.experiment_id, run.id)} if link else {}),
        }
        for run in runs
    )
    column = st.column_config
    config = {
        "run": column.TextColumn("Run", pinned=True),
        "status": column.TextColumn("Status", width="small"),
        "started": column.DatetimeColumn("Started", format="D MMM YYYY, HH:mm"),
        "seconds": column.NumberColumn("Duration", format="%.1f s", width="small"),
        "user": column.TextColumn("User", width="small"),
        "link": column.LinkColumn("", display_text="Open", width="small"),
        **{f"metrics.{key}": column.NumberColumn(key, format="%.4g") for key in metrics},
        **{f"params.{key}": column.TextColumn(key, help="Parameter") for key in params},
    }
    # A selection is row numbers: the key ties it to exactly these rows in this order.
    rows = hashlib.sha256("".join(run.id for run in runs).encode()).hexdigest()[:16]
    event = st.dataframe(
        table,
        hide_index=True,
        height=min(38 + 35 * len(runs), 330),
        placeholder="-",
        column_config=config,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"runs_{rows}",
    )
    st.caption(f"{len(runs)} runs")
    return [runs[row] for row in event.selection.rows if row < len(runs)]


def _compare(session: Session, runs: list[Run], chosen: list[Run]) -> None:
    if len(chosen) > MAX_COMPARED:
        st.info(f"Comparing the first {MAX_COMPARED} of {len(chosen)} selected runs.")
        chosen = chosen[:MAX_COMPARED]
    side_by_side, against, params, steps = st.tabs(
        ["Metrics", "One against another", "Parameters", "Along steps"]
    )
    with side_by_side:
        _metrics(chosen)
    with against:
        _scatter(runs, chosen)
    with params:
        _params(chosen)
    with steps:
        _curves(session, chosen)


def _metrics(chosen: list[Run]) -> None:
    names = _by_frequency(run.metrics for run in chosen)
    if not chosen:
        _select_some("to see their metrics side by side")
        return
    if not names:
        st.caption("The selected runs logged no metrics.")
        return
    shown = st.multiselect(
        "Metrics to compare", names, default=names[:SHOWN_METRICS], key="compared_metrics"
    )
    if shown:
        st.altair_chart(charts.bars(chosen, shown), alt="Metrics of the selected runs")


def _scatter(runs: list[Run], chosen: list[Run]) -> None:
    names = _by_frequency(run.metrics for run in runs)
    if len(names) < 2:
        st.caption("These runs have fewer than two metrics.")
        return
    left, right = st.columns(2)
    x = left.selectbox("Across", names, index=0, key="scatter_x")
    y = right.selectbox("Up", names, index=1, key="scatter_y")
    st.altair_chart(charts.scatter(runs, x, y, chosen), alt=f"{y} against {x}")


def _params(chosen: list[Run]) -> None:
    names = _by_frequency(run.params for run in chosen)
    if not chosen:
        _select_some("to see their parameters side by side")
        return
    if not names:
        st.caption("The selected runs logged no parameters.")
        return
    table = pd.DataFrame(
        {label: [run.params.get(key, "-") for key in names] for label, run in _labelled(chosen)},
        index=pd.Index(names, name="Parameter"),
    )
    differs = table.nunique(axis=1) > 1
    table = table.loc[differs.sort_values(ascending=False, kind="stable").index]
    st.dataframe(
        table.style.apply(
            lambda row: ["background-color: #fbefdf" if differs[row.name] else ""] * len(row),
            axis=1,
        )
    )
    if len(chosen) > 1:
        st.caption(f"{int(differs.sum())} of {len(names)} parameters differ; they stand on top.")


def _curves(session: Session, chosen: list[Run]) -> None:
    if not chosen:
        _select_some("to see metrics along their steps")
        return
    names = sorted(set().union(*(run.curves for run in chosen)))
    if not names:
        st.caption("The selected runs logged each metric once: there is no curve to draw.")
        return
    metric = st.selectbox("Metric", names, key="curve_metric")
    with_curve = tuple(run.id for run in chosen if metric in run.curves)
    points = board.history(session, with_curve, metric)
    st.altair_chart(charts.curves(points, chosen, metric), alt=f"{metric} along steps")


def _select_some(why: str) -> None:
    st.caption(f":material/check_box: Tick runs in the table {why}.")


def _labelled(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    named = charts.labels(runs)
    return [(named[run.id], run) for run in runs]


def _by_frequency(items: Iterable[Iterable[str]]) -> list[str]:
    counts = Counter(key for item in items for key in item)
    return sorted(counts, key=lambda key: (-counts[key], key))


if __name__ == "__main__" and (session := current()):
    page(session)
