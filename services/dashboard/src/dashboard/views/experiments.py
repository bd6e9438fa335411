"""Experiments: find runs and compare their metrics, parameters and learning curves."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
import streamlit as st

from dashboard import board, charts
from dashboard.services import Refused
from dashboard.session import Session, current
from dashboard.tracking import NEWEST, PAGE_RUNS, Experiment, Run, RunPage
from dashboard.ui import empty, heading, plain, run_link

MAX_COMPARED = 10
DIFFERS = "rgba(207, 116, 32, 0.2)"
"""Background of parameters that differ; transparent, to work on light and dark pages."""

SHOWN_METRICS = 6
SHOWN_AXES, SHOWN_AXES_METRICS = 4, 3


_TOKENS = "experiments_tokens"


def page(session: Session) -> None:
    """Draw the page."""
    heading("Experiments", "Find runs, select some in the table, and compare them below.")
    experiments = board.experiments(session)
    if not experiments:
        empty(
            "No experiments that you may see",
            "Trigger the `wine` DAG in Airflow, or ask an MLflow admin for read permission.",
            ":material/science:",
        )
        return
    experiment, found, filtered = _find(session, experiments)
    if found is None:
        return
    if not found.runs:
        if filtered:
            empty("No run matches", "Change or clear the filters above.", ":material/filter_alt:")
        else:
            empty(
                f"No runs in {plain(experiment.name)} yet",
                "Trigger the `wine` DAG in Airflow, or log a run to MLflow from a notebook.",
                ":material/science:",
            )
        return
    chosen = _table(session, found)
    _compare(session, list(found.runs), chosen)


# ---- finding ----------------------------------------------------------------------------------


def _find(
    session: Session, experiments: list[Experiment]
) -> tuple[Experiment, RunPage | None, bool]:
    where, name, state, order = st.columns([1.4, 1.4, 0.9, 1.4])
    experiment = where.selectbox(
        "Experiment",
        experiments,
        index=_last_used(session, experiments),
        format_func=lambda item: item.name,
        key="experiment",
        persist_state="session",
    )
    newest = board.runs(session, experiment.id, "", NEWEST, None).runs
    contains = name.text_input("Run name contains", key="run_name", persist_state="session")
    status = state.selectbox(
        "Status",
        [None, *sorted({run.status for run in newest})],
        format_func=lambda status: status.capitalize() if status else "Any",
        key="run_status",
        persist_state="session",
    )
    orders = _orders(_by_frequency(run.metrics for run in newest))
    order_by = order.selectbox(
        "Order", list(orders), format_func=orders.get, key="run_order", persist_state="session"
    )
    search = st.text_input(
        "MLflow search",
        key="run_query",
        persist_state="session",
        placeholder="metrics.accuracy > 0.9 and params.max_depth = '5'",
        help="MLflow's search syntax over metrics, params, tags and attributes.",
    )
    query = _query(search, contains, status)
    try:
        found = _page(session, experiment.id, query, order_by)
    except Refused as error:
        st.error(f"MLflow cannot parse this search: {plain(error)}", icon=":material/error:")
        return experiment, None, True
    return experiment, found, bool(query)


def _query(search: str, contains: str, status: str | None) -> str:
    """The filters as one condition in MLflow's syntax, which has no escape for a quote."""
    parts = [search.strip()] if search.strip() else []
    if contains.strip():
        pattern = contains.strip().replace("'", "_")
        parts.append(f"attributes.run_name ILIKE '%{pattern}%'")
    if status:
        parts.append(f"attributes.status = '{status}'")
    return " and ".join(parts)


def _orders(metrics: Iterable[str]) -> dict[str, str]:
    orders = {NEWEST: "Newest first", "attributes.start_time ASC": "Oldest first"}
    for metric in metrics:
        orders[f"metrics.`{metric}` DESC"] = f"Highest {metric}"
        orders[f"metrics.`{metric}` ASC"] = f"Lowest {metric}"
    return orders


def _page(session: Session, experiment: str, query: str, order_by: str) -> RunPage:
    """The current page of runs; a new search starts at the first page."""
    search = (experiment, query, order_by)
    if st.session_state.get(_TOKENS, (None,))[0] != search:
        st.session_state[_TOKENS] = (search, [None])
    tokens = st.session_state[_TOKENS][1]
    return board.runs(session, experiment, query, order_by, tokens[-1])


def _last_used(session: Session, experiments: list[Experiment]) -> int:
    """The index of the experiment with the newest run; 0 without runs."""
    newest = {run.experiment_id for run in board.recent_runs(session)[:1]}
    return next((i for i, item in enumerate(experiments) if item.id in newest), 0)


def _table(session: Session, found: RunPage) -> list[Run]:
    runs = found.runs
    metrics = _by_frequency(run.metrics for run in runs)
    params = _varied_first(runs, _by_frequency(run.params for run in runs))
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
    # A selection consists of row numbers: the key ties it to exactly these rows in this order.
    rows = hashlib.sha256("".join(run.id for run in runs).encode()).hexdigest()[:16]
    event = st.dataframe(
        table,
        hide_index=True,
        height=330 if len(runs) > 8 else "auto",
        placeholder="-",
        column_config=config,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"runs_{rows}",
    )
    _pager(found)
    return [runs[row] for row in event.selection.rows if row < len(runs)]


def _pager(found: RunPage) -> None:
    tokens: list[str | None] = st.session_state[_TOKENS][1]
    before = (len(tokens) - 1) * PAGE_RUNS
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        count = f"{before + 1} to {before + len(found.runs)}" if before else f"{len(found.runs)}"
        more = ", more on the next page" if found.next_token else ""
        st.caption(f"Runs: {count}{more}", width="stretch")
        if not before and not found.next_token:
            return
        st.button(
            "Previous",
            key="runs_previous",
            icon=":material/chevron_left:",
            disabled=not before,
            on_click=tokens.pop,
        )
        st.button(
            "Next",
            key="runs_next",
            icon=":material/chevron_right:",
            disabled=not found.next_token,
            on_click=tokens.append,
            args=(found.next_token,),
        )


# ---- comparing --------------------------------------------------------------------------------


def _compare(session: Session, runs: list[Run], chosen: list[Run]) -> None:
    if len(chosen) > MAX_COMPARED:
        st.info(f"Comparing the first {MAX_COMPARED} of {len(chosen)} selected runs.")
        chosen = chosen[:MAX_COMPARED]
    views: dict[str, Callable[[], None]] = {
        "Metrics": lambda: _metrics(chosen),
        "Parameters": lambda: _params(chosen),
        "Parallel coordinates": lambda: _parallel(runs, chosen),
        "Scatter plot": lambda: _scatter(runs, chosen),
        "Learning curves": lambda: _curves(session, chosen),
    }
    # Only the open tab is drawn and sends requests to MLflow.
    tabs = st.tabs(list(views), key="experiments_view", on_change="rerun")
    for tab, draw in zip(tabs, views.values(), strict=True):
        if tab.open:
            with tab:
                draw()


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


def _parallel(runs: list[Run], chosen: list[Run]) -> None:
    """Draw the selected runs if there are two or more, otherwise all on this page of the table."""
    shown = chosen if len(chosen) > 1 else runs
    metrics = [f"metrics.{key}" for key in _by_frequency(run.metrics for run in shown)]
    params = [f"params.{key}" for key in _by_frequency(run.params for run in shown)]
    varied = [key for key in params if len({charts.value(run, key) for run in shown} - {None}) > 1]
    if not metrics or len(shown) < 2:
        st.caption("Parallel coordinates need at least two runs with metrics.")
        return
    left, right = st.columns([4, 1])
    axes = left.multiselect(
        "Axes",
        [*varied, *metrics, *(key for key in params if key not in varied)],
        default=[*varied[:SHOWN_AXES], *metrics[:SHOWN_AXES_METRICS]],
        format_func=_short,
        key="parallel_axes",
    )
    color = right.selectbox("Colour", metrics, format_func=_short, key="parallel_color")
    drawn = list(dict.fromkeys([*axes, color]))
    complete = [run for run in shown if all(charts.value(run, key) is not None for key in drawn)]
    if len(drawn) < 2 or not complete:
        st.caption(
            "No run has a value on every axis. Remove some axes."
            if len(drawn) > 1
            else "Choose at least two axes."
        )
        return
    st.altair_chart(
        charts.parallel(complete, drawn, color, chosen if len(chosen) == 1 else []),
        alt="A line for each run through its parameters and metrics",
    )
    which = "selected runs" if shown is chosen else "runs on this page of the table"
    st.caption(
        f"{len(complete)} of {len(shown)} {which} have a value on every axis. Yellow lines are "
        f"low in {plain(_short(color))}, blue lines are high."
    )


def _short(key: str) -> str:
    """`learning_rate` for `params.learning_rate`."""
    return key.partition(".")[2]


def _scatter(runs: list[Run], chosen: list[Run]) -> None:
    names = _by_frequency(run.metrics for run in runs)
    if len(names) < 2:
        st.caption("These runs have fewer than two metrics.")
        return
    left, right = st.columns(2)
    x = left.selectbox("Horizontal axis", names, index=0, key="scatter_x")
    y = right.selectbox("Vertical axis", names, index=1, key="scatter_y")
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
            lambda row: [f"background-color: {DIFFERS}" if differs[row.name] else ""] * len(row),
            axis=1,
        )
    )
    if len(chosen) > 1:
        st.caption(f"{int(differs.sum())} of {len(names)} parameters differ. They are at the top.")


def _curves(session: Session, chosen: list[Run]) -> None:
    if not chosen:
        _select_some("to see their metrics by step")
        return
    names = sorted(set().union(*(run.curves for run in chosen)))
    if not names:
        st.caption("The selected runs logged each metric only once, so there are no curves.")
        return
    metric = st.selectbox("Metric", names, key="curve_metric")
    with_curve = tuple(run.id for run in chosen if metric in run.curves)
    points = board.history(session, with_curve, metric)
    st.altair_chart(charts.curves(points, chosen, metric), alt=f"{metric} by step")


def _select_some(why: str) -> None:
    st.caption(f":material/check_box: Tick runs in the table {why}.")


def _labelled(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    named = charts.labels(runs)
    return [(named[run.id], run) for run in runs]


def _varied_first(runs: Sequence[Run], params: list[str]) -> list[str]:
    return sorted(params, key=lambda key: len({run.params.get(key) for run in runs}) == 1)


def _by_frequency(items: Iterable[Iterable[str]]) -> list[str]:
    counts = Counter(key for item in items for key in item)
    return sorted(counts, key=lambda key: (-counts[key], key))


if __name__ == "__main__" and (session := current()):
    page(session)
