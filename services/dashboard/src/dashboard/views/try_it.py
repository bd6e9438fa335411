"""Try it: a form made from the served model's signature, and its prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboard import board, charts
from dashboard.fields import LARGEST_INTEGER, Field, Kind, to_row
from dashboard.services import ServiceError
from dashboard.serving import Answer
from dashboard.session import Session, current
from dashboard.ui import away, empty, heading, plain

COLUMNS = 4

_LAST = "try_it_last"


def page(session: Session) -> None:
    """Draw the page."""
    heading("Try it", "Send one input row to a served model and see what it predicts.")
    serving = board.serving(session)
    if serving.problem:
        away(serving.problem)
        return
    models = {name: model for name, model in serving.models.items() if model.version}
    if not models:
        empty(
            "No model serves yet",
            f"Trigger the `wine` DAG in Airflow, or set the alias **{plain(serving.alias)}** to a "
            "version in MLflow: the model API then loads it within seconds.",
            ":material/play_circle:",
        )
        return
    name = st.selectbox("Model", list(models), key="try_model", persist_state="session")
    model = models[name]
    example = board.input_example(session, name, model.version)
    st.caption(
        f"Version {plain(model.version)} serves. "
        + ("The form holds the example logged with it." if example else "")
    )
    values = _form(f"{name}_{model.version}", model.fields or (), example)
    if values is not None:
        _predict(session, name, model.fields or (), values)
    problem, answer = st.session_state.get(_LAST, {}).get(name, (None, None))
    if problem:
        _show_problem(problem)
    elif answer:
        _show(answer)


def _form(key: str, fields: Sequence[Field], example: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the visitor entered, None before they press the button."""
    values = {}
    with st.form(f"try_{key}"):
        for start in range(0, len(fields), COLUMNS):
            row = fields[start : start + COLUMNS]
            for column, field in zip(st.columns(COLUMNS), row, strict=False):
                with column:
                    values[field.name] = _field(
                        field, example.get(field.name), f"try_{key}_{field.name}"
                    )
        pressed = st.form_submit_button("Predict", type="primary", icon=":material/play_arrow:")
    return values if pressed else None


def _field(field: Field, example: Any, key: str) -> Any:
    label = plain(field.name) + ("" if field.required else " (optional)")
    common: dict[str, Any] = {"key": key, "help": f"Type: {field.type}", "persist_state": "session"}
    match field.kind:
        case Kind.NUMBER:
            value = None if example is None else float(example)
            return st.number_input(label, value=value, step=_step(value), format="%g", **common)
        case Kind.INTEGER:
            return st.number_input(
                label,
                value=None if example is None else int(example),
                min_value=-LARGEST_INTEGER,
                max_value=LARGEST_INTEGER,
                step=1,
                **common,
            )
        case Kind.BOOLEAN:
            index = None if example is None else int(not example)
            return st.selectbox(label, [True, False], index=index, **common)
        case Kind.MOMENT:
            moment = datetime.fromisoformat(example) if isinstance(example, str) else None
            return st.datetime_input(label, value=moment, key=key, help=common["help"])
        case Kind.TEXT:
            return st.text_input(label, "" if example is None else str(example), **common)


def _step(value: float | None) -> float:
    """A step one digit finer than the example's first digit: 0.01 for 0.28, 100 for 1065."""
    if not value or not math.isfinite(value):
        return 0.1
    return 10.0 ** (math.floor(math.log10(abs(value))) - 1)


def _predict(session: Session, name: str, fields: Sequence[Field], values: dict[str, Any]) -> None:
    last = st.session_state.setdefault(_LAST, {})
    try:
        with st.spinner("Predicting"):
            last[name] = (None, session.models.predict(name, [to_row(fields, values)]))
    except (ServiceError, ValueError) as error:
        last[name] = (str(error), None)


def _show_problem(problem: str) -> None:
    with st.container(border=True):
        st.error("**No prediction.**", icon=":material/error:")
        st.markdown("\n".join(f"- {plain(line)}" for line in problem.splitlines()))


def _show(answer: Answer) -> None:
    with st.container(border=True):
        prediction, version, alias, run = st.columns([1.6, 1, 1, 1.4])
        prediction.metric("Prediction", _value(answer.predictions[0]))
        version.metric("Model version", answer.version)
        alias.metric("Alias", answer.alias)
        run.metric("Run", (answer.run_id or "-")[:8], help=answer.run_id)
        if answer.probabilities:
            st.altair_chart(
                charts.probabilities(answer.probabilities[0]), alt="Probability of each class"
            )


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__" and (session := current()):
    page(session)
