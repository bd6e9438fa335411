"""MLflow's contract with limits and faults; tests/compat compares its answers with MLflow's."""

import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from serving import MemoryStore, MemoryVersion, served

from model_api.model.invocations import Invocations

PATH = "/models/sum/invocations"
COERCED = {"inputs": [{"a": "1.5", "n": 2, "extra": None}]}
INPUTS = [
    {"name": "a", "type": "double", "required": True},
    {"name": "n", "type": "long", "required": True},
]


class Log:
    """Keeps the records that it is offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[Any, ...]] = []

    def offer(self, *record: Any) -> None:
        """Keep a record."""
        self.offered.append(record)


def refuse(batch: Any) -> list[Any]:
    raise ValueError("no such wine")


def fail_to_encode(batch: Any) -> list[Any]:
    return ["\ud800"] * batch.rows


def where(batch: Any) -> list[Any]:
    return [threading.current_thread().name] * batch.rows


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Iterator[httpx.Client]:
    store = MemoryStore(
        MemoryVersion(inputs=INPUTS),
        MemoryVersion(name="refusing", answer=refuse),
        MemoryVersion(name="odd", answer=fail_to_encode),
        MemoryVersion(name="where", answer=where),
        MemoryVersion(name="never", answer=lambda batch: [np.nan] * batch.rows),
    )
    folder = tmp_path_factory.mktemp("service")
    with served(folder, store, log, max_rows=100, max_body_bytes=200_000) as client:
        yield client


WITH_MORE = [[None, 2, {"x": [1]}, 1.5], ["a", 1, 0, 0.5]]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["b", "n", "c", "a"], "data": WITH_MORE}},
        {"dataframe_records": [{"a": 1.5, "n": 2, "b": [1]}, {"n": 1, "c": "x", "a": 0.5}]},
    ],
    ids=["split", "records"],
)
def test_a_frame_with_more_columns_is_read_without_mlflow(body: Any) -> None:
    version = MemoryVersion(inputs=INPUTS)
    rows = Invocations(version).decode(json.dumps(body).encode(), 100)
    assert rows is not None
    # The prediction log gets rows in the strict contract's format.
    for batch in (rows.batch, version.decoder.decode(rows.body, 100)):
        assert batch.columns() == {"a": [1.5, 0.5], "n": [2, 1]}


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["a", "n", "b", "b"], "data": [[1.5, 2, 0, 0]]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2]]}},
        {"dataframe_records": [{"a": 1.5, "b": 2}]},
        {"inputs": [{"a": 1.5, "n": 2, "b": 0}, {"a": 1.5, "n": 2}]},
    ],
    ids=["twice", "split without one", "records without one", "inputs"],
)
def test_bodies_that_mlflow_may_refuse_are_left_to_mlflow(body: Any) -> None:
    invocations = Invocations(MemoryVersion(inputs=INPUTS))
    assert invocations.decode(json.dumps(body).encode(), 100) is None


def post(client: httpx.Client, content: bytes | str, kind: str = "application/json") -> Any:
    data = content.encode() if isinstance(content, str) else content
    return client.post(PATH, content=data, headers={"Content-Type": kind})


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8"])
def test_csv_is_answered(client: httpx.Client, kind: str) -> None:
    answer = post(client, "n,a,extra\n2,1.5,x\n1,0.5,y\n", kind)
    assert answer.status_code == 200
    assert answer.json()["predictions"] == [3.5, 1.5]
    assert answer.json()["model"]["name"] == "sum"


@pytest.mark.parametrize(
    ("content", "kind", "status", "problem", "words"),
    [
        (json.dumps([{"a": 1, "n": 2}]), "application/json", 400, "invalid-input", "list"),
        (json.dumps({"instances": [[1.5, 2]]}), "application/json", 400, "invalid-input", "'a'"),
        (json.dumps({"inputs": [{"a": 1}]}), "application/json", 400, "invalid-input", "'n'"),
        (
            json.dumps({"dataframe_records": [{"a": "x", "n": 2}]}),
            "application/json",
            400,
            "invalid-input",
            "could not convert string to float",
        ),
        ("a,n\nx,1\n", "text/csv", 400, "invalid-input", "convert"),
        ("{", "application/json", 400, "invalid-input", "JSON"),
        ("[" * 150_000, "application/json", 400, "invalid-json", "too deeply"),
        ('{"inputs": ' + "[" * 900 + "]" * 900 + "}", "application/json", 400, "invalid-input", ""),
        ("a,n\n" + "1,1\n" * 101, "text/csv", 413, "too-many-rows", "100"),
        (
            json.dumps({"dataframe_records": [{"a": "1", "n": 1}] * 101}),
            "application/json",
            413,
            "too-many-rows",
            "100",
        ),
        (
            json.dumps({"inputs": {"a": ["1"] * 101, "n": [1] * 101}}),
            "application/json",
            413,
            "too-many-rows",
            "100",
        ),
        ("a,n" + ",x" * 30_000 + "\n1,1" * 50, "text/csv", 413, "table-too-large", "cells"),
        # Pandas compares each repeated name with all earlier names, which takes seconds for some
        # kilobytes.
        ("a,n" + ",a" * 5000 + "\n1,1", "text/csv", 413, "table-too-large", "name of another"),
        (" , \na,n" + ",n" * 101 + "\n1,1", "text/csv", 413, "table-too-large", "name of another"),
        ("," * 10_003, "text/csv", 413, "table-too-large", "10004 columns"),
        (
            json.dumps({"inputs": [{"a": 1, "n": 1} | {f"k{i}": 1 for i in range(10_001)}]}),
            "application/json",
            413,
            "table-too-large",
            "10003 columns; the model has 2",
        ),
        ("x" * 200_001, "text/csv", 413, "body-too-large", "200000"),
        ("a,n\n1,1\n", "text/csv; header=present", 415, "unsupported-media-type", "header"),
        ("<a/>", "application/xml", 415, "unsupported-media-type", "text/csv"),
    ],
)
def test_refusals_by_mlflow_or_a_limit_are_explained(
    client: httpx.Client, content: str, kind: str, status: int, problem: str, words: str
) -> None:
    answer = post(client, content, kind)
    assert answer.status_code == status
    document = answer.json()
    assert document["type"] == f"urn:model-api:{problem}"
    assert words in document["detail"]
    assert len(document["detail"]) < 600


def test_some_unknown_and_repeated_columns_are_answered(client: httpx.Client) -> None:
    head = "a,n" + ",a" * 100 + "".join(f",k{i}" for i in range(1000))
    answer = post(client, f"{head}\n1.5,2{',1' * 1100}\n", "text/csv")
    assert (answer.status_code, answer.json().get("predictions")) == (200, [3.5])


@pytest.mark.parametrize("encoding", ["utf-8", "", "gzip"])
def test_content_encoding_is_ignored(client: httpx.Client, encoding: str) -> None:
    rows = json.dumps({"inputs": [{"a": 1.5, "n": 2}]})
    answer = client.post(
        PATH,
        content=rows,
        headers={"Content-Type": "application/json", "Content-Encoding": encoding},
    )
    assert (answer.status_code, answer.json().get("predictions")) == (200, [3.5])
    packed = gzip.compress(rows.encode())
    assert post(client, packed).status_code == 400


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json ;charset=UTF-8", 200),
        ("application/json; charset = utf-8", 415),
        ("application/json; Charset=utf-8", 415),
        ("application/json;", 415),
    ],
)
def test_content_types_are_read_as_mlflow_does(
    client: httpx.Client, kind: str, status: int
) -> None:
    assert post(client, '{"inputs": [{"a": 1.5, "n": 2}]}', kind).status_code == status


def test_a_body_without_a_type_is_refused(client: httpx.Client) -> None:
    request = client.build_request("POST", PATH, content=b"{}")
    request.headers.pop("content-type", None)
    assert client.send(request).status_code == 415


def test_a_table_may_not_outgrow_its_body(client: httpx.Client) -> None:
    sparse = [{f"{n}": 1 for n in range(10_001)}] + [{"a": 1, "n": 1}] * 99
    answer = post(client, json.dumps({"dataframe_records": sparse}))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:model-api:table-too-large")


def test_a_long_text_may_not_reserve_room_in_every_row(client: httpx.Client) -> None:
    texts = {"a": [1.5] * 100, "n": [1] * 100, "extra": ["x"] * 99 + ["x" * 190_000]}
    answer = post(client, json.dumps({"inputs": texts}))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:model-api:table-too-large")


def test_rows_that_the_model_refuses_are_a_client_error(client: httpx.Client) -> None:
    for body in ({"inputs": [{"a": 1.5, "n": 2}]}, {"inputs": [{"a": "1.5", "n": 2}]}):
        answer = client.post("/models/refusing/invocations", json=body)
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:model-api:model-refuses"


def test_an_answer_that_cannot_be_written_is_a_client_error(
    client: httpx.Client,
) -> None:
    answer = client.post("/models/odd/invocations", json=COERCED)
    assert answer.status_code == 400


def test_only_bodies_that_both_contracts_read_alike_are_read_in_the_event_loop(
    client: httpx.Client,
) -> None:
    def thread(body: Any) -> str:
        return client.post("/models/where/invocations", json=body).json()["predictions"][0]

    assert not thread({"inputs": [{"a": 1.5, "n": 2}]}).startswith("prediction")
    assert thread(COERCED).startswith("prediction")


def test_parameters_in_the_url_are_ignored(client: httpx.Client) -> None:
    answer = client.post(f"{PATH}?probabilities=true&x=y", json={"inputs": [{"a": 1.5, "n": 2}]})
    assert (answer.status_code, list(answer.json())) == (200, ["predictions", "model"])


def test_nan_in_an_answer_is_null(client: httpx.Client) -> None:
    for body in ({"inputs": [{"a": 1.5, "n": 2}]}, COERCED):
        assert client.post("/models/never/invocations", json=body).json()["predictions"] == [None]


def test_the_log_gets_rows_as_the_signature_has_them(client: httpx.Client, log: Log) -> None:
    del log.offered[:]
    client.post(PATH, json=COERCED)
    [(name, version, alias, _, body, answer)] = log.offered
    assert (name, version, alias) == ("sum", "1", "champion")
    assert json.loads(body) == {"inputs": [{"a": 1.5, "n": 2}]}
    assert json.loads(answer)["predictions"] == [3.5]
