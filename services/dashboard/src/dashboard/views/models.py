"""Models: registered versions, their aliases and metrics, and which one serves."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import board
from dashboard.services import Refused
from dashboard.serving import ServedModel
from dashboard.session import Session, current
from dashboard.tracking import ModelVersion, RegisteredModel, Run
from dashboard.ui import ago, empty, failed_load, heading, plain, version_link

VERSIONS_WITH_METRICS = 10
"""Each costs one request."""


def page(session: Session) -> None:
    """Draw the page."""
    heading("Models", "Registered versions, their aliases and metrics, and which one serves.")
    models = board.registered_models(session)
    if not models:
        empty(
            "No registered models yet",
            "Trigger the `wine` DAG in Airflow: it trains, registers and promotes one.",
            ":material/deployed_code:",
        )
        return
    serving = board.serving(session)
    by_name = {model.name: model for model in models}
    first = next((i for i, name in enumerate(by_name) if name in serving.models), 0)
    name = st.selectbox("Model", list(by_name), index=first, key="model", persist_state="session")
    model, served = by_name[name], serving.models.get(name)
    if model.description:
        st.markdown(plain(model.description))
    _serving(served, serving)
    versions = board.versions(session, name)
    st.subheader("Versions", anchor=False)
    if not versions:
        empty(
            "No versions yet",
            "Register one from a run: trigger the DAG that trains this model, "
            "or call `mlflow.register_model`.",
            ":material/deployed_code:",
        )
        return
    _versions(session, model, versions, served)


def _serving(served: ServedModel | None, serving: board.Serving) -> None:
    alias = plain(serving.alias)
    with st.container(border=True):
        if serving.problem:
            st.markdown(f"**What serves right now is unknown.** {plain(serving.problem)}")
        elif served is None or served.version is None:
            st.markdown("**No version serves.**")
            if served is None:
                st.caption(f"Set the alias **{alias}** to a version: the model API then loads it.")
        else:
            version, name, since, run = st.columns(4)
            version.metric("Serves", f"Version {served.version}")
            name.metric("Alias", serving.alias)
            since.metric("Since", ago(served.since))
            run.metric("Run", (served.run_id or "-")[:8], help=served.run_id)
        if served and served.failure:
            failed_load(served)
        elif served and served.wanted != served.version:
            st.info(
                f"**{alias}** points at version {plain(served.wanted)}: it is being loaded.",
                icon=":material/hourglass_top:",
            )


def _versions(
    session: Session,
    model: RegisteredModel,
    versions: list[ModelVersion],
    served: ServedModel | None,
) -> None:
    runs = {v.version: _run(session, v) for v in versions[:VERSIONS_WITH_METRICS]}
    metrics = sorted({key for run in runs.values() if run for key in run.metrics})
    table = pd.DataFrame(
        _row(session, model, v, served, runs.get(v.version), metrics) for v in versions
    )
    empty_columns = [key for key in ("link", "description") if not table[key].any()]
    table = table.drop(columns=empty_columns)
    column = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        placeholder="-",
        column_config={
            "version": column.NumberColumn("Version", width="small", pinned=True),
            "serves": column.TextColumn("Serves", width="small"),
            "aliases": column.ListColumn("Aliases"),
            "created": column.DatetimeColumn("Created", format="D MMM YYYY, HH:mm"),
            "status": column.TextColumn("Status", width="small"),
            "run": column.TextColumn("Run"),
            "tags": column.ListColumn("Tags"),
            "description": column.TextColumn("Description"),
            "link": column.LinkColumn("", display_text="Open", width="small"),
            **{f"metrics.{key}": column.NumberColumn(key, format="%.4g") for key in metrics},
        },
    )
    if len(versions) > VERSIONS_WITH_METRICS:
        st.caption(f"Metrics are shown for the newest {VERSIONS_WITH_METRICS} versions.")


def _row(
    session: Session,
    model: RegisteredModel,
    version: ModelVersion,
    served: ServedModel | None,
    run: Run | None,
    metrics: list[str],
) -> dict[str, object]:
    return {
        "version": int(version.version),
        "serves": "● now" if served and served.version == version.version else "",
        "aliases": model.aliases_of(version.version),
        "created": version.created,
        **{f"metrics.{key}": run.metrics.get(key) if run else None for key in metrics},
        "status": version.status.replace("_", " ").capitalize(),
        "run": run.name if run else (version.run_id or "")[:8],
        "tags": [f"{key}: {value}" for key, value in sorted(version.tags.items())],
        "description": version.description,
        "link": version_link(session.settings, model.name, version.version),
    }


def _run(session: Session, version: ModelVersion) -> Run | None:
    try:
        return board.run(session, version.run_id) if version.run_id else None
    except Refused:
        return None


if __name__ == "__main__" and (session := current()):
    page(session)
