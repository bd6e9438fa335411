"""Try it: a form made from the served model's signature, and the predictions of its aliases."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import board, charts
from dashboard.fields import Field, Kind, options, same, shown, to_row
from dashboard.services import Refused, ServiceError
from dashboard.serving import CHAMPION, Answer, ServedVersion, predict_path
from dashboard.session import Session, current
from dashboard.ui import empty, engine_badge, heading, plain, unavailable
from dashboard.untyped import Json

COLUMNS = 4

NO_VALUE = "(no value)"
FORM = "try_form_"
"""Prefix of the keys of the fields."""

_LAST = "try_it_last"
"""The last form sent, its inputs and the answers."""

_PLACEHOLDERS = {Kind.MOMENT: "2026-11-24T06:00:00"}

type Outcome = Answer | ServiceError
"""The answer of an alias, or the error."""


def page(session: Session) -> None:
    """Draw the page."""
    heading("Try it", "Send one input row to a served model and see its prediction.")
    serving = board.serving(session)
    if serving.problem:
        unavailable(serving.problem)
        return
    models = {name: model for name, model in serving.models.items() if model.serving()}
    if not models:
        empty(
            "No model serves yet",
            f"Trigger the `wine` DAG in Airflow, or point the alias **{CHAMPION}** to a version in "
            "MLflow. The model API then loads it within seconds.",
            ":material/play_circle:",
        )
        return
    left, right = st.columns([1, 1.6], vertical_alignment="bottom")
    name = left.selectbox("Model", list(models), key="try_model", persist_state="session")
    served = models[name].serving()
    aliases = list(served)
    if len(aliases) > 1:
        aliases = (
            right.pills(
                "Alias (choose two to compare)",
                aliases,
                selection_mode="multi",
                default=aliases[:1],
                format_func=lambda alias: f"{alias} (v{served[alias].number})",
                key=f"try_alias_{name}",
            )
            or list(served)[:1]
        )
    first = served[aliases[0]]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(
            f"Version {plain(first.number)} serves as {plain(aliases[0])}. "
            "The form contains its logged example.",
            width="content",
        )
        engine_badge(first)
    # The length of the name ensures that no key is a prefix of another version's key.
    key = f"{len(name)}_{name}_{first.number}_"
    _forget_other_forms(key)
    inputs, slots = _form(key, first) if first.fields else _json_form(key, first)
    if inputs is not None:
        st.session_state[_LAST] = (key, inputs, _predict(session, name, aliases, inputs))
    last_key, last_inputs, outcomes = st.session_state.get(_LAST, (None, None, {}))
    inputs = last_inputs if last_key == key else first.example
    outcomes = outcomes if last_key == key else {}
    outcomes = {alias: outcome for alias, outcome in outcomes.items() if alias in aliases}
    for outcome in outcomes.values():
        if isinstance(outcome, Refused):
            _mark(slots, outcome.fields)
    if outcomes:
        columns = st.columns(len(outcomes))
        for column, (alias, outcome) in zip(columns, outcomes.items(), strict=True):
            with column.container(border=True, height="stretch"):
                _show(alias, outcome)
    _curl(session, name, aliases[0], inputs)


# ---- the form ---------------------------------------------------------------------------------


def _form(key: str, version: ServedVersion) -> tuple[Json, dict[str, DeltaGenerator]]:
    """The rows to send (None until the visitor sends the form), and a place below each field."""
    fields, example = version.fields, version.row
    values, slots = {}, {}
    with st.form(f"try_{key}"):
        for start in range(0, len(fields), COLUMNS):
            line = fields[start : start + COLUMNS]
            for column, field in zip(st.columns(COLUMNS), line, strict=False):
                with column:
                    values[field.name] = _field(
                        field, example.get(field.name), f"{FORM}{key}{field.name}"
                    )
                    slots[field.name] = st.empty()
        pressed = st.form_submit_button("Predict", type="primary", icon=":material/play_arrow:")
    if not pressed:
        return None, slots
    row, problems = to_row(fields, values, example)
    _mark(slots, problems)
    if problems:
        st.session_state.pop(_LAST, None)
    return (None if problems else [row]), slots


def _json_form(key: str, version: ServedVersion) -> tuple[Json, dict[str, DeltaGenerator]]:
    """Like `_form`, for a model of tensors, which are entered as JSON."""
    with st.form(f"try_{key}"):
        example = json.dumps(version.example)
        text = st.text_area("Inputs (JSON)", example, height=200, key=f"{FORM}{key}inputs")
        problem = st.empty()
        pressed = st.form_submit_button("Predict", type="primary", icon=":material/play_arrow:")
    if not pressed:
        return None, {}
    try:
        return json.loads(text), {}
    except (ValueError, RecursionError) as error:
        problem.caption(f":red[:material/error: This is not JSON: {plain(error)}]")
        return None, {}


def _field(field: Field, example: Json, key: str) -> Json:
    """The text entered or the option chosen, for `to_row`."""
    label = plain(field.name) + ("" if field.required else " (optional)")
    common = {"key": key, "help": f"Type: {field.type}", "persist_state": "session"}
    entered: Json
    text = shown(field, example)
    if field.kind in (Kind.BOOLEAN, Kind.CHOICE):
        choices = options(field, example)
        entered = st.selectbox(
            label,
            choices,
            index=next((i for i, choice in enumerate(choices) if same(choice, example)), None),
            format_func=_names(choices),
            **common,
        )
    elif field.kind is Kind.JSON:
        entered = st.text_area(f"{label} (JSON)", text, **common)
    elif "\n" in text or "\r" in text:
        entered = st.text_area(label, text, **common)
    else:
        placeholder = _PLACEHOLDERS.get(field.kind)
        entered = st.text_input(label, text, placeholder=placeholder, **common)
    return entered


def _named(name: Callable[[Json], str], choice: Json) -> str:
    return NO_VALUE if choice is None else name(choice)


def _names(choices: list[Json]) -> Callable[[Json], str]:
    """A function that gives each choice a unique name, by which Streamlit identifies it."""
    ways: tuple[Callable[[Json], str], ...] = (str, json.dumps)
    for name in ways:
        named = [name(choice) for choice in choices if choice is not None]
        if len(set(named)) == len(named) and NO_VALUE not in named:
            return partial(_named, name)
    return repr


def _forget_other_forms(key: str) -> None:
    """Keep the entries for one version only, so that forms do not accumulate in the session."""
    for name in list(st.session_state):
        other = isinstance(name, str) and name.startswith(FORM) and not name.startswith(FORM + key)
        if other:
            del st.session_state[name]


def _mark(slots: Mapping[str, DeltaGenerator], problems: Mapping[str, str]) -> None:
    for field, problem in problems.items():
        if field in slots:
            slots[field].caption(f":red[:material/error: {plain(problem)}]")


def _predict(
    session: Session, name: str, aliases: Sequence[str], inputs: Json
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    with st.spinner("Predicting"):
        for alias in aliases:
            try:
                outcomes[alias] = session.apis[0].predict(name, alias, inputs)
            except ServiceError as error:
                outcomes[alias] = error
    return outcomes


# ---- the answer -------------------------------------------------------------------------------


def _show(alias: str, outcome: Outcome) -> None:
    if isinstance(outcome, ServiceError):
        st.error(f"**No prediction from {plain(alias)}.**", icon=":material/error:")
        st.markdown("\n".join(f"- {plain(line)}" for line in str(outcome).splitlines()))
        return
    if not outcome.predictions:
        st.info(
            f"**No prediction from {plain(alias)}:** the request had no row.",
            icon=":material/info:",
        )
        return
    st.metric("Prediction", _value(outcome.predictions[0]))
    run = f", run {outcome.run_id[:8]}" if outcome.run_id else ""
    st.caption(f"{plain(alias)}, version {plain(outcome.version)}{plain(run)}")
    if outcome.probabilities:
        st.altair_chart(
            charts.probabilities(outcome.probabilities[0]), alt="Probability of each class"
        )


def _value(value: Json) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _curl(session: Session, name: str, alias: str, inputs: Json) -> None:
    url = session.settings.model_api_public_url or session.settings.model_api_url
    body = json.dumps({"inputs": inputs})
    with st.expander("The same from a shell", icon=":material/terminal:"):
        st.code(
            f"curl {shlex.quote(f'{url}/{predict_path(name, alias)}')} \\\n"
            '  --header "Authorization: Bearer $MODEL_API_KEY" \\\n'
            "  --header 'Content-Type: application/json' \\\n"
            f"  --data {shlex.quote(body)}",
            language="bash",
            wrap_lines=True,
        )
        st.caption("Set `MODEL_API_KEY` to your own key.")


if __name__ == "__main__" and (session := current()):
    page(session)
