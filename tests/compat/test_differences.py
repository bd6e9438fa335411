"""/invocations against MLflow's scoring server, with the same model files and the same requests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from bodies import Layout, beyond_limits, drawn, every
from conftest import SEED
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from models import MODELS
from servers import Request, Servers, difference

# MLflow and the libraries warn about coerced values, which are the point here.
pytestmark = pytest.mark.filterwarnings("ignore")

LISTED: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("differences.yaml").read_text()
)


def compare(servers: Servers, request: Request) -> int | None:
    """Return the place in the table of the difference in a request's answers, None if none.

    Fails if they differ in a way that is not listed.
    """
    theirs, ours = servers.mlflow(request), servers.ours(request)
    found = difference(theirs, ours)
    if found is None:
        return None
    for place, entry in enumerate(LISTED):
        if entry["difference"] == found and request.marks.issuperset(entry["marks"]):
            return place
    pytest.fail(f"{found}: {request}\nMLflow: {theirs}\nours:   {ours}")


def test_each_kind_of_request_is_answered_as_mlflow_answers_it(servers: Servers) -> None:
    seen = set()
    for model in MODELS:
        layout = Layout.of(model, servers.signatures[model])
        seen |= {compare(servers, request) for request in every(layout)}
    numbers = Layout.of("xgboost", servers.signatures["xgboost"])
    seen |= {compare(servers, request) for request in beyond_limits(numbers)}
    absent = [entry for place, entry in enumerate(LISTED) if place not in seen]
    assert not absent, "these are listed as differences, but there is none"


def test_requests_with_several_defects_are_answered_as_mlflow_answers_them(
    servers: Servers,
) -> None:
    layouts = [Layout.of(model, servers.signatures[model]) for model in MODELS]

    @seed(SEED)
    @settings(
        max_examples=10_000 if os.environ.get("LASTRO_FULL") else 500,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        compare(servers, data.draw(drawn(layouts)))

    each()


def test_predict_refuses_bodies_that_only_mlflow_takes(servers: Servers) -> None:
    """The two contracts differ: one coerces a value that the other reports as a fault."""
    row = {"a": "0.5", "b": 1, "c": 2, "extra": None}
    request = Request("linear", b'{"inputs": [%s]}' % str(row).replace("'", '"').encode())
    request = Request("linear", request.body.replace(b"None", b"null"))
    assert servers.ours(request).status == 200
    refused = servers.ours(request, "predict")
    assert refused.status == 422
    assert b'"field":"extra"' in refused.body


@pytest.mark.parametrize("model", ["imputer", "xgboost", "unnamed"])
@pytest.mark.parametrize("gap", [b"null", b"NaN"])
def test_predict_takes_a_gap_where_the_model_does(servers: Servers, model: str, gap: bytes) -> None:
    rows = b"[[0.5, %s, 1.0]]" % gap
    if model == "unnamed":
        body = b'{"dataframe_split": {"data": %s}}' % rows
    else:
        body = b'{"dataframe_split": {"columns": ["a", "b", "c"], "data": %s}}' % rows
    request = Request(model, body)
    theirs, ours = servers.mlflow(request), servers.ours(request, "predict")
    assert difference(theirs, ours) is None, f"{theirs}\n{ours}"


def test_predict_refuses_a_gap_where_the_model_does(servers: Servers) -> None:
    body = b'{"inputs": [{"a": 0.5, "b": null, "c": 1.0}]}'
    assert servers.ours(Request("linear", body), "predict").status == 422
