"""The form of the page "Try it": it shows any value of an example and sends it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import BEARER, ModelApi, alias, held, press, shown
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from dashboard import fields, serving
from dashboard.fields import Field, Kind, to_row
from dashboard.session import Session
from dashboard.settings import Settings
from dashboard.tracking import RegisteredModel

PAGE = Path(serving.__file__).with_name("views") / "try_it.py"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
EDGES = [2**31 - 1, -(2**31), 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
FLOATS = st.floats() | st.sampled_from([2.0**53, 1e308, 5e-324, -0.0, 0.1 + 0.2])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "long": st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "double": FLOATS | st.integers(),
    "float": st.floats(width=32),
    "boolean": st.booleans(),
    "string": TEXTS,
    "binary": st.binary(max_size=8).map(lambda content: content.hex()),
    "datetime": st.datetimes().map(lambda at: at.isoformat()) | st.dates().map(str),
    "array": st.lists(JSONS, max_size=3),
    "map": st.dictionaries(TEXTS, JSONS, max_size=3),
    "any": JSONS,
}


def columns() -> st.SearchStrategy[list[tuple[str, bool, Any]]]:
    """One column per type in any order: its type, whether it is required, and its example."""
    one = [
        st.tuples(st.just(kind), st.booleans(), st.none() | values)
        for kind, values in VALUES.items()
    ]
    return st.tuples(*one).map(list).flatmap(st.permutations)


@pytest.fixture
def form(model_api: ModelApi) -> Iterator[Callable[..., AppTest]]:
    """Opens the page for a model with these columns and this example."""
    # One client for all forms, because creating one takes a tenth of a second.
    api = serving.ModelApi(model_api.url, BEARER)
    model = RegisteredModel("m", "", None, {"champion": "1"}, "1", {})

    def show(inputs: list[dict[str, Any]], row: dict[str, Any], **more: object) -> AppTest:
        signature = {"inputs": inputs, "outputs": None, "params": None}
        version = held("m", "1", "r" * 32, signature=signature, example=[row], **more)
        model_api.models = [
            {"name": "m", "aliases": {"champion": alias("1")}, "versions": {"1": version}}
        ]
        model_api.sent.clear()
        answered = {"name": "m", "version": "1", "alias": "champion", "run_id": None}
        model_api.answer = (200, {"predictions": [1], "model": answered})
        at = AppTest.from_file(str(PAGE), default_timeout=120)
        at.session_state["lastro_session"] = Session(
            username="x",
            settings=Settings("http://127.0.0.1:9", model_api.url, BEARER),
            tracking=SimpleNamespace(registered_models=lambda: [model]),
            apis=(api,),
        )
        return at.run()

    yield show
    api.close()


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(columns())
@example([("long", True, 2**53 + 1), ("double", True, float("nan")), ("string", False, "")])
@example([("double", True, float("inf")), ("datetime", True, "0001-01-01T00:00:00.000001")])
@example([("string", True, "two\nlines"), ("long", True, None), ("boolean", False, None)])
def test_an_unchanged_example_reaches_the_model_exactly(
    form: Callable[..., AppTest], model_api: ModelApi, drawn: list[tuple[str, bool, Any]]
) -> None:
    inputs = [
        {"name": f"c{i}", "type": kind, "required": required}
        for i, (kind, required, _) in enumerate(drawn)
    ]
    row = {f"c{i}": value for i, (_, _, value) in enumerate(drawn)}
    at = form(inputs, row, categories={})
    assert not at.exception, shown(at)
    at = press(at, "Predict")
    assert not at.exception, shown(at)
    (sent,) = model_api.sent
    # Compared as text: 1 and True, or 0.0 and -0.0, differ for a model; NaN equals itself.
    assert json.dumps(sent["body"]) == json.dumps({"inputs": [row]})


@settings(max_examples=200, deadline=None)
@given(columns())
def test_an_unchanged_field_returns_the_example_exactly(
    drawn: list[tuple[str, bool, Any]],
) -> None:
    asked = [Field(f"c{i}", kind, required) for i, (kind, required, _) in enumerate(drawn)]
    row = {f"c{i}": value for i, (_, _, value) in enumerate(drawn)}
    entered = {
        field.name: row[field.name] if field.kind is Kind.BOOLEAN else shown_text(field, row)
        for field in asked
    }
    sent, problems = to_row(asked, entered, row)
    assert not problems and json.dumps(sent) == json.dumps(row)
    # A value entered by hand into an empty form is the same.
    by_hand, _ = to_row(asked, entered, {})
    for field in asked:
        if field.kind is not Kind.NUMBER and row[field.name] not in (None, ""):
            assert json.dumps(by_hand[field.name]) == json.dumps(row[field.name])


def shown_text(field: Field, row: dict[str, Any]) -> str:
    return fields.shown(field, row[field.name])


def test_an_integer_beyond_the_browser_s_precision_is_sent_exactly(
    form: Callable[..., AppTest], model_api: ModelApi
) -> None:
    inputs = [{"name": "id", "type": "long", "required": True}]
    at = form(inputs, {"id": 7}, categories={})
    at.text_input[0].set_value(str(2**63 - 1))
    assert not press(at, "Predict").exception
    assert model_api.sent[0]["body"] == {"inputs": [{"id": 2**63 - 1}]}


def test_the_page_says_that_an_answer_has_no_predictions(
    form: Callable[..., AppTest], model_api: ModelApi
) -> None:
    """A model of tensors accepts a batch without rows."""
    at = form([{"type": "tensor"}], {})
    model_api.answer = (200, model_api.answer[1] | {"predictions": []})
    at.text_area[0].set_value("[]")
    at = press(at, "Predict")
    assert not at.exception and "the request had no row" in shown(at)


def test_an_optional_value_of_the_example_can_be_removed(
    form: Callable[..., AppTest], model_api: ModelApi
) -> None:
    inputs = [
        {"name": name, "type": kind, "required": False}
        for name, kind in (("a", "double"), ("b", "boolean"), ("c", "string"))
    ]
    at = form(inputs, {"a": 1.5, "b": True, "c": "red"}, categories={"c": ["red", "white"]})
    at.text_input[0].set_value("")
    for box in at.selectbox[1:]:
        box.select("(no value)")
    assert not press(at, "Predict").exception
    assert model_api.sent[0]["body"] == {"inputs": [{}]}


def test_forms_of_earlier_models_do_not_accumulate(
    form: Callable[..., AppTest], model_api: ModelApi
) -> None:
    at = form([{"name": "a", "type": "string", "required": True}], {"a": "x"}, categories={})
    (of_one,) = [key for key in at.session_state.to_dict() if key.startswith("try_form_")]
    model_api.models[0]["versions"] = {"2": model_api.models[0]["versions"]["1"]}
    model_api.models[0]["aliases"]["champion"] = alias("2")
    at.session_state["lastro_session"].refresh()
    at = at.run()
    (of_other,) = [key for key in at.session_state.to_dict() if key.startswith("try_form_")]
    assert of_one != of_other
