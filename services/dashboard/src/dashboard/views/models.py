"""Models: registered versions, the serving one, and promotions."""

from __future__ import annotations

from contextlib import suppress

import pandas as pd
import streamlit as st
from lastro_promotion import Report, aliases
from streamlit.delta_generator import DeltaGenerator

from dashboard import board, promotion
from dashboard.promotion import Change
from dashboard.services import ServiceError, SignInRefused
from dashboard.serving import CHAMPION, Held, ServedAlias, ServedModel
from dashboard.session import Session, current
from dashboard.tracking import ModelVersion, RegisteredModel, Run
from dashboard.ui import (
    ago,
    empty,
    engine_badge,
    failed_load,
    heading,
    plain,
    run_link,
    version_link,
)

VERSIONS_WITH_METRICS = 20
"""Limited because each costs one request."""

FOLLOW_SECONDS = 90
"""How long the page follows a moved alias until it takes effect."""

_CHANGE, _FOLLOWED = "models_change", "models_followed"


def page(session: Session) -> None:
    """Draw the page."""
    heading("Models", "Registered versions, which one serves, and who promoted it.")
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
    versions = board.versions(session, name)
    if not versions:
        empty(
            "No versions yet",
            "Register one from a run: trigger the DAG that trains this model, "
            "or call `mlflow.register_model`.",
            ":material/deployed_code:",
        )
        return
    if name in st.session_state.get(_FOLLOWED, {}):
        _follow(session, name)
    if served:
        failed_load(served)
    _aliases(session, model, versions, served, serving)
    st.subheader("Versions", anchor=False)
    _versions(session, model, versions, served)
    _history(model)
    if change := st.session_state.get(_CHANGE):
        _confirm(session, change)


# ---- the serving versions, and the buttons that change them ------------------------------------


def _aliases(
    session: Session,
    model: RegisteredModel,
    versions: list[ModelVersion],
    served: ServedModel | None,
    serving: board.Serving,
) -> None:
    followed = served.aliases if served else {}
    names = sorted({CHAMPION, *model.aliases, *followed}, key=lambda name: (name != CHAMPION, name))
    for alias in names:
        with st.container(border=True):
            now, version, buttons = st.columns([3, 1.1, 1.9], vertical_alignment="bottom")
            with now:
                _alias(alias, model, served, followed.get(alias), serving.problem)
            _buttons(session, alias, model, versions, version, buttons)


def _alias(
    alias: str,
    model: RegisteredModel,
    served: ServedModel | None,
    state: ServedAlias | None,
    problem: ServiceError | None,
) -> None:
    target = model.aliases.get(alias)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"#### {plain(alias)}", width="content")
        if target:
            st.badge(f"points to v{plain(target)}", color="gray")
        if problem:
            st.badge("serving version unknown", color="orange")
        elif state and state.serves:
            st.badge(f"serves v{plain(state.serves)}", color="green", icon=":material/check:")
            if served and state.serves in served.versions:
                engine_badge(served.versions[state.serves])
        else:
            st.badge("no version serves", color="gray")
    if problem:
        st.caption(plain(problem))
    elif state is None:
        st.caption("Promote a version. The model API then loads it within seconds.")
    elif state.failure:
        st.caption(f":red[Version {plain(state.failure.version)} could not be loaded.]")
    elif state.wanted != state.serves:
        st.caption(f"Version {plain(state.wanted)} is being loaded.")
    else:
        engine = served.versions.get(state.serves or "") if served else None
        note = f" {plain(engine.note)}" if engine and engine.note else ""
        st.caption(f"Since {ago(state.since)}.{note}")


def _reports(session: Session, name: str, alias: str) -> tuple[Report, ...]:
    """The reports on an alias from the hosts that can be reached."""
    found = []
    for api in session.apis:
        with suppress(ServiceError):
            held: Held = session.read(*board.loaded_models(api, session))
            of_model = next((m.aliases for m in held.models if m.name == name), {})
            if (served := of_model.get(alias)) and served.report:
                found.append(served.report)
    return tuple(found)


def _buttons(
    session: Session,
    alias: str,
    model: RegisteredModel,
    versions: list[ModelVersion],
    where: DeltaGenerator,
    next_to_it: DeltaGenerator,
) -> None:
    now = model.aliases.get(alias)
    others = [v.version for v in versions if v.version != now]
    chosen = where.selectbox(
        "Version",
        others,
        format_func=lambda version: f"Version {version}",
        key=f"promote_version_{model.name}_{alias}",
        disabled=not others,
        placeholder="no other version",
    )
    reports = _reports(session, model.name, alias)
    target = promotion.rollback_target(model, alias, reports, {v.version for v in versions})
    back = target.version
    with next_to_it.container(horizontal=True, gap="small"):
        if st.button(
            "Promote",
            key=f"promote_{alias}",
            type="primary",
            icon=":material/rocket_launch:",
            disabled=chosen is None,
        ):
            st.session_state[_CHANGE] = Change(model.name, alias, now, chosen, False, reports)
        going_back = st.button(
            f"Roll back to v{back}" if back else "Roll back",
            key=f"roll_back_{alias}",
            icon=":material/undo:",
            disabled=back is None,
            help=plain(target.reason[:1].upper() + target.reason[1:] + "."),
        )
        if going_back and back is not None:
            st.session_state[_CHANGE] = Change(model.name, alias, now, back, True, reports)


def _forget_change() -> None:
    st.session_state.pop(_CHANGE, None)


@st.dialog("Move an alias", icon=":material/rocket_launch:", on_dismiss=_forget_change)
def _confirm(session: Session, change: Change) -> None:
    before = f"version {change.before}" if change.before else "no version"
    st.markdown(
        f"**{plain(change.alias)}** of **{plain(change.model)}** changes from "
        f"**{plain(before)}** to **version {plain(change.after)}**."
    )
    st.caption(
        f"The model API loads version {plain(change.after)} next to the serving version and then "
        "switches, without dropping a request. If it cannot load the version, the current one "
        f"continues to serve. The history will show your name, {plain(session.username)}."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel", key="cancel_change"):
            _forget_change()
            st.rerun()
        confirmed = st.button("Move it", key="confirm_change", type="primary")
    if not confirmed:
        return
    try:
        with st.spinner("Moving the alias"):
            promotion.apply(session.tracking, change, session.username)
    except SignInRefused:
        _forget_change()
        raise
    except ServiceError as error:
        st.error(plain(error), icon=":material/block:")
        if not isinstance(error, promotion.HistoryLost):
            return
    _forget_change()
    session.refresh(board.MLFLOW, *(board.api_name(api, session) for api in session.apis))
    st.session_state.setdefault(_FOLLOWED, {})[change.model] = (change, session.clock())
    st.rerun()


def _follow(session: Session, name: str) -> None:
    """Follow a moved alias until it takes effect or `FOLLOW_SECONDS` have passed."""
    change, began = st.session_state[_FOLLOWED][name]
    waited = session.clock() - began
    settled = _outcome(session, change) or waited > FOLLOW_SECONDS

    def forget() -> None:
        st.session_state[_FOLLOWED].pop(name, None)

    @st.fragment(run_every=None if settled else 1.0)
    def watch() -> None:
        outcome = None
        if not settled:
            session.refresh(*(board.api_name(api, session) for api in session.apis))
            outcome = _outcome(session, change)
            if outcome or session.clock() - began > FOLLOW_SECONDS:
                st.rerun()
        outcome = outcome or _outcome(session, change)
        said = f"**{plain(change.alias)}** now points to **version {plain(change.after)}**"
        if outcome == "serves":
            st.success(f"{said}, which serves.", icon=":material/check_circle:")
        elif outcome == "failed":
            st.error(f"{said}, which could not be loaded.", icon=":material/error:")
        elif settled:
            st.warning(
                f"{said}, but the model API has not loaded it within {FOLLOW_SECONDS} s.",
                icon=":material/hourglass_disabled:",
            )
        else:
            st.info(f"{said}. The model API is loading it…", icon=":material/hourglass_top:")
        if settled:
            st.button("Dismiss", key="dismiss_followed", on_click=forget, type="tertiary")

    watch()


def _outcome(session: Session, change: Change) -> str | None:
    """The outcome of a move: `serves`, `failed`, or None while it is undecided."""
    served = board.serving(session).models.get(change.model)
    alias = served.aliases.get(change.alias) if served else None
    if alias is None:
        return None
    if alias.serves == change.after:
        return "serves"
    if alias.failure and alias.failure.version == change.after:
        return "failed"
    return None


# ---- tables -----------------------------------------------------------------------------------


def _versions(
    session: Session,
    model: RegisteredModel,
    versions: list[ModelVersion],
    served: ServedModel | None,
) -> None:
    runs = board.known_runs(session, (v.run_id for v in versions[:VERSIONS_WITH_METRICS]))
    metrics = sorted({key for run in runs.values() for key in run.metrics})
    table = pd.DataFrame(
        _row(session, model, v, served, runs.get(v.run_id or ""), metrics) for v in versions
    )
    optional = ("link", "run_link", "description", "dataset")
    unused = [key for key in optional if not table[key].any()]
    if all(v.status == "READY" for v in versions):
        unused.append("status")
    table = table.drop(columns=unused)
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
            "run": column.TextColumn("From run", help="The run that logged the version"),
            "run_link": column.LinkColumn("", display_text="Run", width="small"),
            "dataset": column.TextColumn("Dataset", help="Name and digest of the training data"),
            "tags": column.ListColumn("Tags"),
            "description": column.TextColumn("Description"),
            "link": column.LinkColumn("", display_text="Version", width="small"),
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
    serving = (
        alias.name
        for alias in (served.aliases.values() if served else ())
        if alias.serves == version.version
    )
    dataset = run.datasets if run and run.datasets else _dataset_tag(version, run)
    return {
        "version": int(version.version),
        "serves": "● now" if any(serving) else "",
        "aliases": model.aliases_of(version.version),
        "created": version.created,
        **{f"metrics.{key}": run.metrics.get(key) if run else None for key in metrics},
        "status": version.status.replace("_", " ").capitalize(),
        "run": run.name if run else (version.run_id or "")[:8],
        "run_link": run and run_link(session.settings, run.experiment_id, run.id),
        "dataset": ", ".join(dataset),
        "tags": [f"{key}: {value}" for key, value in sorted(version.tags.items())],
        "description": version.description,
        "link": version_link(session.settings, model.name, version.version),
    }


def _dataset_tag(version: ModelVersion, run: Run | None) -> tuple[str, ...]:
    tags = {**(run.tags if run else {}), **version.tags}
    return tuple(value[:12] for key, value in sorted(tags.items()) if key.startswith("dataset"))


def _history(model: RegisteredModel) -> None:
    moves = [
        {
            "alias": alias,
            "version": move.version,
            "what": "rolled back" if move.back else "promoted",
            "by": move.by,
            "at": move.at,
        }
        for alias in aliases(model.tags)
        for move in promotion.history(model, alias)
    ]
    st.subheader("Who promoted what", anchor=False)
    if not moves:
        st.caption("No promotion is recorded yet.")
        return
    column = st.column_config
    st.dataframe(
        # Times have a resolution of seconds. Within a second, the later entry is the later move.
        pd.DataFrame(moves[::-1]).sort_values("at", ascending=False, kind="stable"),
        hide_index=True,
        column_config={
            "alias": column.TextColumn("Alias"),
            "version": column.TextColumn("To version"),
            "what": column.TextColumn("Action"),
            "by": column.TextColumn("By"),
            "at": column.DatetimeColumn("When", format="D MMM YYYY, HH:mm:ss"),
        },
    )


if __name__ == "__main__" and (session := current()):
    page(session)
