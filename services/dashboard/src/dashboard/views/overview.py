"""Overview: which versions serve, how the services are, what ran last."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import board
from dashboard.services import Refused
from dashboard.serving import ServedModel
from dashboard.session import Session, current
from dashboard.tracking import RegisteredModel
from dashboard.ui import ago, empty, failed_load, heading, metrics_line, number, plain, run_link

METRICS_PER_MODEL = 4


def page(session: Session) -> None:
    """Draw the page."""
    heading("Overview", "Which model versions serve, how the services are, and what ran last.")
    models = board.registered_models(session)
    serving = board.serving(session)
    _numbers(session, models, serving)
    st.subheader("Models", anchor=False)
    if serving.problem:
        st.warning(
            f"What serves right now is unknown. {plain(serving.problem)}",
            icon=":material/cloud_off:",
        )
    if serving.registry_error:
        st.warning(
            "The model API cannot follow MLflow right now: what serves goes on, a moved alias "
            "takes effect later. The reason is in the model API's log.",
            icon=":material/sync_problem:",
        )
    for model in models:
        _model(session, model, serving)
    if not models:
        empty(
            "No registered models yet",
            "Trigger the `wine` DAG in Airflow: it trains, registers and promotes one.",
            ":material/deployed_code:",
        )
    st.subheader("Latest runs", anchor=False)
    _latest_runs(session)


def _numbers(session: Session, models: list[RegisteredModel], serving: board.Serving) -> None:
    served = sum(1 for model in serving.models.values() if model.version)
    failing = sum(1 for model in serving.models.values() if model.failure)
    api = board.api_state(session)
    mlflow = "away" if board.MLFLOW in session.old else "healthy"
    columns = st.columns(4)
    columns[0].metric("Registered models", len(models), border=True, height="stretch")
    columns[1].metric(
        "Serving now",
        "unknown" if serving.problem else served,
        delta=f"{failing} failed to load" if failing else None,
        delta_color="inverse",
        delta_arrow="off",
        border=True,
        height="stretch",
    )
    for column, name, state in ((columns[2], "MLflow", mlflow), (columns[3], "Model API", api)):
        good = state in ("healthy", "ready")
        column.metric(
            name,
            state.capitalize(),
            border=True,
            height="stretch",
            icon=":material/check_circle:" if good else ":material/error:",
        )


def _model(session: Session, model: RegisteredModel, serving: board.Serving) -> None:
    served = serving.models.get(model.name)
    version = (served.version if served else None) or model.aliases.get(serving.alias)
    with st.container(border=True):
        name, state, aliases, metrics = st.columns(
            [2.4, 1.5, 1.5, 3.2], vertical_alignment="center"
        )
        name.markdown(f"**{plain(model.name)}**")
        if model.description:
            name.caption(plain(model.description))
        with state:
            _state(served, serving.problem is not None)
        with aliases.container(gap="xsmall"):
            for alias, target in sorted(model.aliases.items()):
                st.badge(f"{plain(alias)} → v{plain(target)}", color="gray")
            if not model.aliases:
                st.caption("no alias")
        with metrics:
            _metrics(session, model, version, serving.alias)
        if served and served.failure:
            failed_load(served)


def _state(served: ServedModel | None, unknown: bool) -> None:
    if served and served.version:
        st.badge(f"serves v{plain(served.version)}", color="green", icon=":material/check:")
        st.caption(f"since {ago(served.since)}")
    elif served and not served.failure:
        st.badge(f"loads v{plain(served.wanted)}", color="blue", icon=":material/hourglass_top:")
    elif unknown:
        st.badge("unknown", color="orange")
    else:
        st.badge("does not serve", color="gray")


def _metrics(session: Session, model: RegisteredModel, version: str | None, alias: str) -> None:
    if version is None:
        st.caption(f"Set the alias **{plain(alias)}** to a version to have it served.")
        return
    run_id = next(
        (v.run_id for v in board.versions(session, model.name) if v.version == version), None
    )
    try:
        run = board.run(session, run_id) if run_id else None
    except Refused:
        run = None
    if run is None or not run.metrics:
        st.caption("Its run has no metrics.")
        return
    shown = sorted(run.metrics.items())[:METRICS_PER_MODEL]
    for column, (key, value) in zip(st.columns(METRICS_PER_MODEL), shown, strict=False):
        column.caption(plain(key))
        column.markdown(f"**{plain(number(value))}**")


def _latest_runs(session: Session) -> None:
    runs = board.recent_runs(session)
    if not runs:
        empty(
            "No runs yet",
            "Trigger the `wine` DAG in Airflow, or log a run to MLflow from a notebook.",
            ":material/science:",
        )
        return
    names = {experiment.id: experiment.name for experiment in board.experiments(session)}
    table = pd.DataFrame(
        {
            "Run": run.name,
            "Experiment": names.get(run.experiment_id, run.experiment_id),
            "Status": run.status.capitalize(),
            "Started": ago(run.started),
            "Metrics": metrics_line(run.metrics),
            "Link": run_link(session.settings, run.experiment_id, run.id),
        }
        for run in runs
    )
    if not session.settings.mlflow_public_url:
        table = table.drop(columns="Link")
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "Metrics": st.column_config.TextColumn(width="large"),
            "Link": st.column_config.LinkColumn("", display_text="Open", width="small"),
        },
    )


if __name__ == "__main__" and (session := current()):
    page(session)
