"""Pipelines: Airflow's DAG runs and the states of their tasks."""

from __future__ import annotations

import hashlib

import pandas as pd
import streamlit as st

from dashboard import board, charts
from dashboard.airflow import RUNS, DagRun
from dashboard.services import ServiceError
from dashboard.session import Session, current
from dashboard.ui import ago, dag_run_link, duration, empty, heading, not_set, plain, unavailable


def page(session: Session) -> None:
    """Draw the page."""
    heading("Pipelines", "DAG runs in Airflow, and the outcome of their tasks.")
    if session.airflow is None or not session.settings.airflow_username:
        not_set(
            "Airflow is not set up here",
            "AIRFLOW_API_URL",
            "AIRFLOW_API_USERNAME",
            "AIRFLOW_API_PASSWORD",
        )
        return
    try:
        runs = board.dag_runs(session)
    except ServiceError as error:
        unavailable(error)
        return
    if not runs:
        empty(
            "No pipeline has run yet",
            "Trigger a DAG in Airflow. Its runs appear here.",
            ":material/account_tree:",
        )
        return
    names = sorted({run.dag for run in runs})
    states = sorted({run.state for run in runs})
    where, how = st.columns([1, 2], vertical_alignment="bottom")
    dag = where.selectbox("DAG", ["All", *names], key="dag", persist_state="session")
    wanted = how.pills(
        "State",
        states,
        selection_mode="multi",
        format_func=str.capitalize,
        label_visibility="collapsed",
        key="dag_state",
        persist_state="session",
    )
    runs = [run for run in runs if dag in ("All", run.dag) and (not wanted or run.state in wanted)]
    if not runs:
        empty("No run matches", "Change the filters above.", ":material/filter_alt:")
        return
    st.altair_chart(charts.dag_runs(runs), alt="Duration of each run, coloured by its state")
    chosen = _table(session, runs)
    _tasks(session, chosen or runs[0])


def _table(session: Session, runs: list[DagRun]) -> DagRun | None:
    table = pd.DataFrame(
        {
            "DAG": run.dag,
            "state": charts.STATE_MARKS.get(run.state, "○") + " " + run.state.capitalize(),
            "started": run.started,
            "Duration": duration(run.seconds),
            "Trigger": run.kind.replace("_", " ").capitalize(),
            "By": run.by or "-",
            "Run": run.id,
            "link": dag_run_link(session.settings, run.dag, run.id),
        }
        for run in runs
    )
    if not session.settings.airflow_url:
        table = table.drop(columns="link")
    column = st.column_config
    rows = hashlib.sha256("".join(run.dag + run.id for run in runs).encode()).hexdigest()[:16]
    event = st.dataframe(
        table,
        hide_index=True,
        height=330 if len(runs) > 8 else "auto",
        placeholder="-",
        column_config={
            "state": column.TextColumn("State", width="small"),
            "started": column.DatetimeColumn("Started", format="D MMM YYYY, HH:mm:ss"),
            "Duration": column.TextColumn(width="small"),
            "link": column.LinkColumn("", display_text="Open", width="small"),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"dag_runs_{rows}",
    )
    st.caption(f"{len(runs)} of the newest {RUNS} runs. Tick one to see its tasks.")
    return next((runs[row] for row in event.selection.rows if row < len(runs)), None)


def _tasks(session: Session, run: DagRun) -> None:
    st.subheader(f"Tasks of {plain(run.dag)}, {ago(run.started)}", anchor=False)
    try:
        tasks = board.tasks(session, run)
    except ServiceError as error:
        st.warning(f"The tasks are unknown right now. {plain(error)}", icon=":material/cloud_off:")
        return
    if not tasks:
        st.caption("This run has no tasks.")
        return
    if any(task.started for task in tasks):
        st.altair_chart(charts.gantt(tasks), alt="When each task ran, coloured by its state")
    st.dataframe(
        pd.DataFrame(
            {
                "Task": task.name,
                "State": charts.STATE_MARKS.get(task.state, "○")
                + " "
                + task.state.replace("_", " ").capitalize(),
                "Duration": duration(task.seconds),
                "Attempts": task.attempt,
            }
            for task in tasks
        ),
        hide_index=True,
    )
    if link := dag_run_link(session.settings, run.dag, run.id):
        st.link_button("Open this run in Airflow", link, icon=":material/open_in_new:")


if __name__ == "__main__" and (session := current()):
    page(session)
