"""The HTTP contract, on a registry in memory."""

from collections.abc import Iterator

import pytest
from conftest import AUTHORIZED, MemoryRegistry, eventually, make_model, make_settings
from fastapi.testclient import TestClient

from model_api.app import create_app

ROW = {"a": 1.5, "n": 2}
PREDICT = "/models/sum/predict"


@pytest.fixture
def client(registry: MemoryRegistry) -> Iterator[TestClient]:
    app = create_app(make_settings(max_rows=5, max_body_bytes=1000), registry)
    with TestClient(app, headers=AUTHORIZED) as client:
        eventually(lambda: client.get("/models").json()["models"])
        eventually(lambda: client.get("/models").json()["models"][0]["version"])
        yield client


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [ROW, {"a": 0, "n": 1}]},
        {"dataframe_records": [ROW, {"a": 0, "n": 1}]},
        {"dataframe_split": {"columns": ["n", "a"], "data": [[2, 1.5], [1, 0]], "index": [7, 8]}},
    ],
)
def test_predictions_name_the_model(client: TestClient, body: dict) -> None:
    answer = client.post(PREDICT, json=body)
    assert answer.status_code == 200
    assert answer.json() == {
        "predictions": [3.5, 1.0],
        "model": {"name": "sum", "version": "1", "alias": "champion", "run_id": "run-1"},
    }


def test_probabilities_are_told_on_demand(client: TestClient, registry: MemoryRegistry) -> None:
    refused = client.post(PREDICT, params={"probabilities": True}, json={"inputs": [ROW]})
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:model-api:no-probabilities"
    registry.models["sum", "2"] = make_model(
        "2", probabilities=lambda frame: [{"low": 0.25, "high": 0.75}] * len(frame)
    )
    registry.aliases = {"sum": "2"}
    eventually(lambda: client.get("/models").json()["models"][0]["version"] == "2")
    answer = client.post(PREDICT, params={"probabilities": True}, json={"inputs": [ROW]})
    assert answer.json()["probabilities"] == [{"low": 0.25, "high": 0.75}]
    assert "probabilities" not in client.post(PREDICT, json={"inputs": [ROW]}).json()


def test_a_prediction_that_is_no_number_is_null(
    client: TestClient, registry: MemoryRegistry
) -> None:
    registry.models["sum", "2"] = make_model("2", estimator=lambda f: [float("nan")] * len(f))
    registry.aliases = {"sum": "2"}
    eventually(lambda: client.get("/models").json()["models"][0]["version"] == "2")
    assert client.post(PREDICT, json={"inputs": [ROW]}).json()["predictions"] == [None]


@pytest.mark.parametrize("path", ["/models", PREDICT, "/models/other/predict"])
@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer ",
        "Bearer wrong",
        "Basic YTpi",
        "Bearer \xe9",
        AUTHORIZED["Authorization"][:-1],
    ],
)
def test_nothing_is_told_without_the_key(client: TestClient, path: str, header: str | None) -> None:
    client.headers.pop("Authorization")
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    method = "GET" if path == "/models" else "POST"
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:model-api:unauthorized"


def test_health_and_documentation_are_open(client: TestClient) -> None:
    client.headers.pop("Authorization")
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize(
    ("body", "status", "kind", "detail"),
    [
        ('{"inputs": [', 400, "invalid-json", "not JSON"),
        ("[]", 422, "invalid-body", "exactly one of"),
        ("{}", 422, "invalid-body", "exactly one of"),
        ('{"inputs": [], "dataframe_records": []}', 422, "invalid-body", "exactly one of"),
        ('{"instances": [1]}', 422, "invalid-body", "exactly one of inputs, dataframe_records"),
        ('{"inputs": {"a": [1]}}', 422, "invalid-body", "must be a list"),
        ('{"inputs": []}', 422, "invalid-body", "no rows"),
        ('{"dataframe_split": []}', 422, "invalid-body", "columns and data"),
        ('{"dataframe_split": {"columns": ["a"]}}', 422, "invalid-body", "columns and data"),
        (
            '{"dataframe_split": {"columns": ["a", "a"], "data": []}}',
            422,
            "invalid-body",
            "a name twice",
        ),
        (
            '{"dataframe_split": {"columns": [1], "data": []}}',
            422,
            "invalid-body",
            "a list of names",
        ),
        (
            '{"dataframe_split": {"columns": ["a"], "data": 1}}',
            422,
            "invalid-body",
            "a list of rows",
        ),
        (
            '{"dataframe_split": {"columns": ["a", "n"], "data": [[1, 2], [1]]}}',
            422,
            "invalid-body",
            "row 1: must be a list of 2 values",
        ),
        ('{"inputs": [{}, {}, {}, {}, {}, {}]}', 413, "too-many-rows", "has 6 rows; at most 5"),
        ('{"inputs": "' + "x" * 1000 + '"}', 413, "body-too-large", "1000 bytes"),
    ],
)
def test_bad_bodies_are_explained(
    client: TestClient, body: str, status: int, kind: str, detail: str
) -> None:
    answer = client.post(PREDICT, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:model-api:{kind}"
    assert problem["status"] == status
    assert problem["instance"] == PREDICT
    assert detail in problem["detail"]


def test_a_body_of_undeclared_length_is_cut_off(client: TestClient) -> None:
    answer = client.post(PREDICT, content=(b"x" * 100 for _ in range(100)))
    assert answer.status_code == 413


def test_bad_rows_are_explained(client: TestClient) -> None:
    answer = client.post(PREDICT, json={"inputs": [ROW, {"a": 1, "n": 1.5}, {"n": 1, "z": 0}]})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:model-api:invalid-rows"
    assert [(e["row"], e["field"]) for e in problem["errors"]] == [(1, "n"), (2, "a"), (2, "z")]


def test_an_unknown_model_names_the_known_ones(client: TestClient) -> None:
    answer = client.post("/models/other/predict", json={"inputs": [ROW]})
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:model-api:unknown-model"
    assert "there are: sum" in answer.json()["detail"]


def test_unknown_paths_and_methods_are_problems_too(client: TestClient) -> None:
    for answer in (client.get("/nothing"), client.delete("/models")):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def test_a_fault_of_the_model_is_no_leak(registry: MemoryRegistry) -> None:
    def fail_on_three(frame):
        if (frame["n"] == 3).any():
            raise ValueError("internals")
        return [0] * len(frame)

    registry.models["sum", "1"] = make_model("1", estimator=fail_on_three)
    app = create_app(make_settings(), registry)
    with TestClient(app, headers=AUTHORIZED, raise_server_exceptions=False) as client:
        eventually(lambda: client.post(PREDICT, json={"inputs": [ROW]}).status_code == 200)
        answer = client.post(PREDICT, json={"inputs": [{"a": 0, "n": 3}]})
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:model-api:internal-error"
    assert "internals" not in answer.text


def test_without_registry_or_model_it_is_not_ready(registry: MemoryRegistry) -> None:
    registry.aliases = OSError("connection refused")
    with TestClient(create_app(make_settings(), registry), headers=AUTHORIZED) as client:
        eventually(lambda: "refused" in client.get("/health/ready").json()["detail"])
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        answer = client.post(PREDICT, json={"inputs": [ROW]})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "connection refused" in answer.json()["detail"]
        registry.aliases = {"sum": "1"}
        eventually(lambda: client.post(PREDICT, json={"inputs": [ROW]}).status_code == 200)
        assert client.get("/health/ready").status_code == 200


def test_the_list_tells_what_serves_and_what_failed(
    client: TestClient, registry: MemoryRegistry
) -> None:
    registry.models["sum", "2"] = OSError("no such artifact")
    registry.aliases = {"sum": "2"}
    eventually(lambda: client.get("/models").json()["models"][0]["last_error"])
    listing = client.get("/models").json()
    [status] = listing["models"]
    assert listing["alias"] == "champion"
    assert listing["registry_error"] is None
    assert (status["name"], status["version"], status["run_id"]) == ("sum", "1", "run-1")
    assert status["wanted_version"] == "2"
    assert status["last_error"] == {"version": "2", "reason": "no such artifact"}
    assert status["since"].endswith("+00:00")
    assert status["signature"] == [
        {"name": "a", "type": "double", "required": True},
        {"name": "n", "type": "long", "required": True},
    ]
    assert client.post(PREDICT, json={"inputs": [ROW]}).json()["model"]["version"] == "1"


def test_the_documentation_can_authorize(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    operation = document["paths"]["/models/{name}/predict"]["post"]
    assert operation["security"] == [{name: []}]
    assert "inputs" in str(operation["requestBody"])
    assert {"400", "401", "404", "413", "422", "503"} <= operation["responses"].keys()
    assert client.get("/health/live").json()["version"] == document["info"]["version"]
