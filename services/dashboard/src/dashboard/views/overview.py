"""Overview: the serving versions, the health of the services, the latest runs."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from dashboard import board, health
from dashboard.health import Health
from dashboard.services import Unavailable
from dashboard.serving import CHAMPION, ServedAlias, ServedModel
from dashboard.session import Session, State, current
from dashboard.tracking import RegisteredModel, Run
from dashboard.ui import (
    ago,
    empty,
    engine_badge,
    failed_load,
    heading,
    metrics_line,
    number,
    plain,
    run_link,
    unavailable,
)

METRICS_PER_MODEL = 3
SERVICES_PER_ROW = 5


def page(session: Session) -> None:
    """Draw the page."""
    heading("Overview", "Serving model versions, health of the services, and latest runs.")
    serving = board.serving(session)
    _failures(serving)
    services = st.container()
    _section("Models", lambda: _models(session, serving))
    _section("Latest runs", lambda: _latest_runs(session))
    # Last, so that the cards show the outcome of the requests of all sections.
    with services:
        _services(session, serving)


def _section(title: str, draw: Callable[[], None]) -> None:
    """Draw a section; if its service does not answer, the page continues."""
    st.subheader(title, anchor=False)
    with st.container():
        try:
            draw()
        except Unavailable as error:
            unavailable(error)


def _failures(serving: board.Serving) -> None:
    for served in serving.models.values():
        failed_load(served)
    if serving.registry_error:
        st.warning(
            "The model API cannot poll MLflow right now. It continues to serve its versions; moved "
            "aliases take effect later. The log of the model API has the reason.",
            icon=":material/sync_problem:",
        )


def _services(session: Session, serving: board.Serving) -> None:
    served = {
        (model.name, version.number)
        for model in serving.models.values()
        for version in model.serving().values()
    }
    log = health.of_prediction_log(session, sorted(served), serving.problem)
    found = [*health.of_services(session), log]
    for start in range(0, len(found), SERVICES_PER_ROW):
        row = found[start : start + SERVICES_PER_ROW]
        columns = st.columns(len(row) if start == 0 else SERVICES_PER_ROW)
        for column, card in zip(columns, row, strict=False):
            with column.container(border=True, height="stretch", gap="xsmall"):
                _service(card)


def _service(health: Health) -> None:
    color, icon = {
        True: ("green", ":material/check_circle:"),
        False: ("red", ":material/error:"),
        None: ("gray", ":material/circle:"),
    }[health.good]
    if health.state == State.SLOW:
        color, icon = "orange", ":material/hourglass_top:"
    st.caption(plain(health.name))
    st.markdown(f":{color}[{icon}] **{plain(health.state.capitalize())}**")
    if health.parts:
        marks = (
            f":{'green' if good else 'red'}[●]&nbsp;{plain(name).replace(' ', '&nbsp;')}"
            for name, good in health.parts.items()
        )
        st.caption("&ensp; ".join(marks))
    elif health.note:
        st.caption(plain(health.note))


def _models(session: Session, serving: board.Serving) -> None:
    models = board.registered_models(session)
    if serving.problem:
        st.warning(
            f"The serving versions are unknown right now. {plain(serving.problem)}",
            icon=":material/cloud_off:",
        )
    if not models:
        empty(
            "No registered models yet",
            "Trigger the `wine` DAG in Airflow: it trains, registers and promotes one.",
            ":material/deployed_code:",
        )
        return
    problem = None
    runs = {}
    try:
        runs = _runs(session, models, serving)
    except Unavailable as error:
        problem = error
    for model in sorted(models, key=lambda model: model.name not in serving.models):
        with st.container(border=True):
            _model(model, serving, runs.get(model.name), problem)


def _runs(
    session: Session, models: list[RegisteredModel], serving: board.Serving
) -> dict[str, Run | None]:
    """Model -> the run whose metrics represent it."""
    board.prepare_versions(session, (model.name for model in models))
    run_ids = {model.name: _run_id(session, model, serving) for model in models}
    runs = board.known_runs(session, run_ids.values())
    return {name: runs.get(run_id or "") for name, run_id in run_ids.items()}


def _run_id(session: Session, model: RegisteredModel, serving: board.Serving) -> str | None:
    """The run of the version whose metrics represent the model."""
    served = serving.models.get(model.name)
    champion = served.serving().get(CHAMPION) if served else None
    version = champion.number if champion else model.aliases.get(CHAMPION)
    found = board.versions(session, model.name)
    return next((v.run_id for v in found if v.version == version), None)


def _model(
    model: RegisteredModel, serving: board.Serving, run: Run | None, problem: Unavailable | None
) -> None:
    served = serving.models.get(model.name)
    name, aliases, metrics = st.columns([2, 4, 2.6], vertical_alignment="center")
    with name.container(gap=None):
        st.markdown(f"**{plain(model.name)}**")
        if model.description:
            st.caption(plain(model.description))
    with aliases.container(gap="xsmall"):
        if served and served.aliases:
            for state in sorted(
                served.aliases.values(), key=lambda a: (a.name != CHAMPION, a.name)
            ):
                _alias(served, state)
        elif model.aliases and serving.problem is not None:
            for alias, version in sorted(model.aliases.items()):
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    st.markdown(f"**{plain(alias)}** → v{plain(version)}", width="content")
                    st.badge("unknown", color="orange")
        else:
            st.badge("does not serve", color="gray")
            st.caption(f"Point the alias **{CHAMPION}** to a version to serve it.")
    with metrics:
        if problem:
            st.caption(f"The metrics are not known yet. {plain(problem)}")
        else:
            _metrics(run)


def _alias(served: ServedModel, alias: ServedAlias) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.markdown(f"**{plain(alias.name)}**", width="content")
        version = served.versions.get(alias.serves or "")
        if alias.serves:
            st.badge(f"serves v{plain(alias.serves)}", color="green", icon=":material/check:")
        elif alias.failure:
            st.badge("does not serve", color="red", icon=":material/close:")
        if alias.failure:
            st.badge(f"v{plain(alias.failure.version)} failed", color="red")
        elif alias.wanted != alias.serves:
            st.badge(
                f"loading v{plain(alias.wanted)}", color="blue", icon=":material/hourglass_top:"
            )
        if version:
            engine_badge(version)
        if alias.since:
            st.caption(f"since {ago(alias.since)}", width="content")


def _metrics(run: Run | None) -> None:
    if run is None or not run.metrics:
        st.caption("The run logged no metrics." if run else "No metrics.")
        return
    shown = sorted(run.metrics.items())[:METRICS_PER_MODEL]
    for column, (key, value) in zip(st.columns(METRICS_PER_MODEL), shown, strict=False):
        with column.container(gap=None):
            st.caption(plain(key))
            st.markdown(f"**{plain(number(value))}**")


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
