"""The HTTP contract, over real connections, with a store in memory."""

import logging
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from conftest import eventually
from serving import (
    AUTHORIZED,
    KEY,
    MemoryStore,
    MemoryVersion,
    metric,
    send_raw,
    served,
)

ROW = {"a": 1.5, "n": 2}
PREDICT = "/models/sum/predict"
MEGABYTE = 1024**2


def refuse(batch: Any) -> list[Any]:
    raise ValueError("Found unknown categories ['mauve'] in column 0 during transform")


def fail(batch: Any) -> list[Any]:
    raise RuntimeError(f"internals {batch.array()}")


def fill(store: MemoryStore) -> MemoryStore:
    """Fill a store with the tests' versions, and nothing else."""
    store.__init__(  # type: ignore[misc]
        MemoryVersion("3", classes=["low", "high"]),
        MemoryVersion(name="refusing", answer=refuse),
        MemoryVersion(name="failing", answer=fail),
    )
    return store


@pytest.fixture
def store() -> MemoryStore:
    return fill(MemoryStore())


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[httpx.Client, MemoryStore]]:
    store = MemoryStore()
    folder = tmp_path_factory.mktemp("service")
    with served(folder, store, max_rows=5, max_body_bytes=100_000) as client:
        yield client, store


@pytest.fixture
def filled(service: tuple[httpx.Client, MemoryStore]) -> MemoryStore:
    """The store of the service that `client` uses."""
    return fill(service[1])


@pytest.fixture
def client(service: tuple[httpx.Client, MemoryStore], filled: MemoryStore) -> httpx.Client:
    client = service[0]
    client.headers.update(AUTHORIZED)
    return client


# ---- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        [ROW, {"a": 0, "n": 1}],
        {"inputs": [ROW, {"a": 0, "n": 1}]},
        {"instances": [[1.5, 2], [0, 1]]},
        {"dataframe_records": [ROW, {"a": 0, "n": 1}]},
        {"dataframe_split": {"columns": ["n", "a"], "data": [[2, 1.5], [1, 0]], "index": [7, 8]}},
    ],
)
def test_predictions_name_the_model(client: httpx.Client, body: Any) -> None:
    answer = client.post("/models/sum/predict", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "predictions": [3.5, 1.0],
        "model": {"name": "sum", "version": "3", "alias": "champion", "run_id": "a" * 32},
    }


@pytest.mark.parametrize(
    ("path", "alias", "version"),
    [
        ("aliases/champion", "champion", "3"),
        ("aliases/challenger", "challenger", "4"),
        ("versions/3", None, "3"),
        ("versions/4", None, "4"),
    ],
)
@pytest.mark.parametrize("last", ["predict", "invocations"])
def test_any_alias_and_any_version_answers(
    client: httpx.Client, filled: MemoryStore, path: str, alias: str, version: str, last: str
) -> None:
    filled.aliases["sum", "challenger"] = MemoryVersion("4")
    answer = client.post(f"/models/sum/{path}/{last}", json={"inputs": [ROW]})
    assert answer.status_code == 200
    assert answer.json()["model"]["alias"] == alias
    assert answer.json()["model"]["version"] == version


def test_an_alias_that_moves_is_followed_by_the_next_request(
    client: httpx.Client, filled: MemoryStore
) -> None:
    for number in ("3", "4", "3"):
        filled.aliases["sum", "champion"] = MemoryVersion(number)
        assert client.post(PREDICT, json=[ROW]).json()["model"]["version"] == number


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", False),
        ("probabilities=true", True),
        ("probabilities=False", False),
        ("probabilities=0", False),
    ],
)
def test_probabilities_are_returned_on_demand(client: httpx.Client, query: str, told: bool) -> None:
    answer = client.post(f"{PREDICT}?{query}", json=[ROW]).json()
    assert answer.get("probabilities") == ([{"low": 0.5, "high": 0.5}] if told else None)


def test_the_list_shows_the_serving_versions(client: httpx.Client, filled: MemoryStore) -> None:
    filled.failure = {"version": "9", "reason": "no such artifact", "attempts": 2, "at": "..."}
    listing = client.get("/models").json()
    assert [model["name"] for model in listing["models"]] == ["failing", "refusing", "sum"]
    assert listing["models"][2]["aliases"]["champion"]["failure"]["reason"] == "no such artifact"
    assert listing["registry_error"] is None


def test_it_is_ready_when_the_store_is(client: httpx.Client, filled: MemoryStore) -> None:
    assert client.get("/health/ready").json() == {"status": "ready"}
    filled.not_ready_reason = "the models are being loaded"
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the models are being loaded"
    assert client.get("/health/live").json()["status"] == "alive"


# ---- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("POST", PREDICT),
        ("POST", "/models/other/predict"),
        ("GET", "/nothing"),
        ("GET", "/docs/../models"),
    ],
)
@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer wrong", "Basic YTpi", "Bearer \xe9", f"Bearer {KEY[:-1]}", KEY],
)
def test_nothing_is_revealed_without_a_key(
    client: httpx.Client, method: str, path: str, header: str | None
) -> None:
    del client.headers["Authorization"]
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:model-api:unauthorized"


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/docs", "/docs/docs.js", "/docs/swagger-ui.js"]
)
def test_health_and_the_empty_page_are_open(client: httpx.Client, path: str) -> None:
    del client.headers["Authorization"]
    assert client.get(path).status_code == 200


# ---- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "kind", "row", "field"),
    [
        (b'[{"a": "x", "n": 1}]', 422, "invalid-rows", 0, "a"),
        (b'[{"a": 1, "n": 1}, {"a": true, "n": 1}]', 422, "invalid-rows", 1, "a"),
        (b'[{"a": NaN, "n": 1}]', 422, "invalid-rows", 0, "a"),
        (b'[{"a": 1, "n": 1.5}]', 422, "invalid-rows", 0, "n"),
        (b'[{"a": 1}]', 422, "invalid-rows", 0, "n"),
        (b'[{"a": 1, "n": 1, "z": 0}]', 422, "invalid-rows", 0, "z"),
        (b'[{"a": 1, "n": 1' + b"0" * 5000 + b"}]", 422, "invalid-rows", 0, "n"),
        (b'[{"a": 1e999, "n": 1}]', 422, "invalid-rows", 0, "a"),
        (b"[]", 422, "invalid-body", None, None),
        (b"{}", 422, "invalid-body", None, None),
        (b"", 400, "invalid-json", None, None),
        (b'{"inputs": [', 400, "invalid-json", None, None),
        (b'[{"a": 1, "n": 1, "\xff": 1}]', 400, "invalid-json", None, None),
        (b"[" * 50_000, 400, "invalid-json", None, None),
        (b'{"inputs":' * 9_000, 400, "invalid-json", None, None),
        (b"[" + b'{"a":1,"n":1},' * 5 + b'{"a":1,"n":1}]', 413, "too-many-rows", None, None),
        (b"x" * 100_001, 413, "body-too-large", None, None),
        (b"\x00\x01\x02" * 30_000, 400, "invalid-json", None, None),
    ],
)
def test_bad_bodies_are_explained(
    client: httpx.Client, body: bytes, status: int, kind: str, row: int | None, field: str | None
) -> None:
    answer = client.post(PREDICT, content=body)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:model-api:{kind}"), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["instance"] == PREDICT
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    if field is not None:
        assert [(e["row"], e["field"]) for e in problem["errors"]] == [(row, field)]
    assert client.post(PREDICT, json=[ROW]).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_megabytes_of_garbage_are_answered(client: httpx.Client, declared: bool) -> None:
    parts = [b"\x9d" * MEGABYTE] * 10
    answer = client.post(PREDICT, content=b"".join(parts) if declared else iter(parts))
    assert answer.status_code == 413
    assert "100000 bytes" in answer.json()["detail"]
    assert client.post(PREDICT, json=[ROW]).status_code == 200


def test_rows_that_the_model_refuses_are_a_client_error(client: httpx.Client) -> None:
    answer = client.post("/models/refusing/predict", json=[ROW])
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:model-api:invalid-rows"
    assert "unknown categories ['mauve']" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({"Content-Type": "text/csv"}, 415, "Content-Type: application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"Content-Type": "application/json; charset=latin-1"}, 415, "UTF-8"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, "Encoding"),
        ({"Content-Type": "application/json; charset=UTF-8"}, 200, None),
        ({"Content-Type": "Application/JSON"}, 200, None),
        ({}, 200, None),
    ],
)
def test_only_json_is_accepted(
    client: httpx.Client, headers: dict, status: int, word: str | None
) -> None:
    answer = client.post(PREDICT, content=b'[{"a": 1, "n": 2}]', headers=headers)
    assert answer.status_code == status
    if word is not None:
        assert word in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/models/other/predict", 404, "unknown-model"),
        ("POST", "/models/sum/aliases/other/predict", 404, "unknown-model"),
        ("POST", "/models/sum/versions/9/predict", 503, "not-loaded"),
        ("POST", "/models//predict", 404, "not-found"),
        ("POST", "/models/sum/predict/", 404, "not-found"),
        ("GET", "/nothing", 404, "not-found"),
        ("GET", PREDICT, 405, "method-not-allowed"),
        ("DELETE", PREDICT, 405, "method-not-allowed"),
        ("DELETE", "/models", 405, "method-not-allowed"),
        ("POST", f"{PREDICT}?probabilities=perhaps", 422, "invalid-parameters"),
        ("POST", f"{PREDICT}?probabilites=true", 422, "invalid-parameters"),
        ("POST", "/models/refusing/predict?probabilities=true", 422, "no-probabilities"),
    ],
)
def test_an_unknown_path_or_model_is_a_problem_document(
    client: httpx.Client, method: str, path: str, status: int, kind: str
) -> None:
    content = b'[{"a": 1, "n": 2}]' if method == "POST" else None
    answer = client.request(method, path, content=content, follow_redirects=False)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:model-api:{kind}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"] in ("POST", "GET")
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1


def test_a_request_that_is_not_http_gets_a_problem_document(client: httpx.Client) -> None:
    received = send_raw(client, b"what\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in received
    assert b"urn:model-api:invalid-http" in received


def test_a_fault_of_the_model_leaks_nothing(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.post("/models/failing/predict", json=[{"a": 123.456, "n": 2}])
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:model-api:internal-error"
    assert "internals" not in answer.text
    [record] = [r for r in caplog.records if r.message == "a prediction failed"]
    assert record.fields["error"] == "RuntimeError"
    assert record.fields["request_id"] == answer.headers["x-request-id"]
    assert any("test_app.py" in frame for frame in record.fields["where"])
    assert not any("123.456" in str(vars(record)) for record in caplog.records)


def test_a_client_that_disconnects_is_not_a_failure(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += "X-Request-Id: gone\r\n"
    address = (client.base_url.host, client.base_url.port)

    def lines() -> list[Any]:
        # A request is logged after its answer, so the previous test's last line may be here.
        fields = [(record, getattr(record, "fields", {})) for record in caplog.records]
        return [record for record, f in fields if f.get("request_id") == "gone"]

    with caplog.at_level(logging.INFO), socket.create_connection(address) as connection:
        connection.sendall(f"{head}Content-Length: 20\r\n\r\n[{{".encode())
        connection.close()
        eventually(lines)
    assert [(line.fields["status"], line.levelno) for line in lines()] == [(499, logging.INFO)]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not [record for record in errors if record.name != "model_api.requests"]


# ---- ids, metrics, logs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a/b:c~", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("\xe9", False)],
)
@pytest.mark.parametrize("path", [PREDICT, "/models/other/predict", "/models", "/health/live"])
def test_a_sane_request_id_is_kept(client: httpx.Client, given: str, kept: bool, path: str) -> None:
    method = "POST" if path.endswith("predict") else "GET"
    headers = {"x-request-id": given.encode("latin-1")}
    answer = client.request(method, path, headers=headers)
    assert (answer.headers["x-request-id"] == given) is kept


def test_made_request_ids_differ(client: httpx.Client) -> None:
    ids = {client.post(PREDICT, json=[ROW]).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"[\x21-\x7e]{8,128}", i) for i in ids)


def test_requests_are_counted_by_model_version_key_and_status(
    client: httpx.Client, filled: MemoryStore
) -> None:
    filled.aliases["sum", "champion"] = MemoryVersion("77")
    filled.failure = {"version": "78", "reason": "torn", "attempts": 4, "at": "..."}
    before = metric(client, "model_api_problems_total", kind="invalid-rows")
    for body in ([ROW], [ROW], [{}]):
        client.post(PREDICT, json=body)
    labels = {"model": "sum", "version": "77", "key": "tests"}
    assert metric(client, "model_api_requests_total", status="200", **labels) == 2
    assert metric(client, "model_api_requests_total", status="422", **labels) == 1
    assert metric(client, "model_api_prediction_seconds_count", model="sum", version="77") == 2
    assert metric(client, "model_api_problems_total", kind="invalid-rows") == before + 1
    served_by = {"model": "sum", "alias": "champion"}
    assert metric(client, "model_api_loaded", version="77", engine="test", **served_by) == 1
    assert metric(client, "model_api_load_failures", **served_by) == 4
    assert 0 <= metric(client, "model_api_alias_age_seconds", **served_by) < 60
    assert metric(client, "model_api_registry_up") == 1
    assert 0 <= metric(client, "model_api_registry_age_seconds") < 60


def test_unknown_names_make_no_series(client: httpx.Client) -> None:
    client.post("/models/stray/predict", json=[ROW])
    client.post("/models/sum/aliases/stray/predict", json=[ROW])
    client.post("/models/sum/versions/stray/predict", json=[ROW])
    assert "stray" not in client.get("/metrics").text
    assert metric(client, "model_api_requests_total", model="", status="404") >= 2


def test_failures_are_logged_and_successes_are_not(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="model_api.requests"):
        client.post(PREDICT, json=[ROW])
        assert not caplog.records
        client.post(PREDICT, json=[{"a": 123.456}], headers={"x-request-id": "that-one"})
        # The line follows the answer.
        eventually(lambda: caplog.records)
    [record] = caplog.records
    fields = record.fields
    assert fields.pop("seconds") > 0
    assert fields == {
        "path": PREDICT,
        "status": 422,
        "request_id": "that-one",
        "key": "tests",
        "client": "127.0.0.1",
        "problem": "invalid-rows",
        "model": "sum",
        "version": "3",
    }
    assert "123.456" not in str(vars(record))
    assert KEY not in str(vars(record))


def test_a_documented_path_reaches_a_model_of_any_name(
    client: httpx.Client, filled: MemoryStore
) -> None:
    name = "L'Oréal {{ ds }} a&b=c?d#e 100%25"
    filled.aliases[name, "champion"] = MemoryVersion(name=name)
    paths = client.get("/openapi.json").json()["paths"]
    mine = [path for path, entry in paths.items() if name in entry.get("post", {}).get("tags", [])]
    assert len(mine) == 2
    assert [client.post(path, json=[ROW]).status_code for path in mine] == [200, 200]
