"""Tests of the HTTP side that need their own app: limits, keys, timers, logs.

All apps of a process share the gauges' files, because in production a process has one app: a second
app would overwrite the first one's values.
"""

import gc
import json
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pandas as pd
import pytest
from conftest import eventually
from mlflow.models import infer_signature
from mlflow.pyfunc import PythonModel
from saved_models import KINDS, save
from serving import KEY, MemoryStore, MemoryVersion, metric, send_raw, served, write_keys

from model_api.http.app import DRAINING
from model_api.http.keys import Keys
from model_api.http.metrics import Metrics
from model_api.http.protocol import Protocol
from model_api.model.version import Version, open_version
from model_api.preparing.prepare import prepare_downloaded

ROW = {"a": 1.5, "n": 2}
PREDICT = "/models/sum/predict"
LONG = "/models/long/predict"


class Hold:
    """A prediction that waits for its release, at the latest at the end of the block."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, batch: Any) -> list[Any]:
        self.begun.release()
        self.go.wait()
        return [0] * batch.rows

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(MemoryVersion("3"))


@pytest.fixture
def own_client(tmp_path: Path, store: MemoryStore) -> Iterator[httpx.Client]:
    with served(tmp_path, store) as client:
        yield client


def test_a_host_about_to_stop_is_not_ready_but_answers(
    own_client: httpx.Client, tmp_path: Path
) -> None:
    assert own_client.get("/health/ready").status_code == 200
    (tmp_path / DRAINING).touch()
    answer = own_client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "this host is about to restart"
    assert own_client.post(PREDICT, json=[ROW]).status_code == 200


def test_keys_are_exchanged_without_a_restart(
    own_client: httpx.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = own_client

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return client.get("/models", headers=headers).status_code

    new = "fedcba9876543210" * 4
    assert status(new) == 401
    write_keys(tmp_path / "keys.json", {"name": "new", "key": new}, {"name": "tests", "key": KEY})
    eventually(lambda: status(new) == 200)
    odd = {"name": "odd", "key": "short"}
    write_keys(tmp_path / "keys.json", odd, {"name": "new", "key": new})
    eventually(lambda: status(KEY) == 401)
    assert status(new) == 200
    client.headers["Authorization"] = f"Bearer {new}"
    eventually(lambda: metric(client, "model_api_keys_file_broken") == 1)
    write_keys(tmp_path / "keys.json", {"name": "new", "key": new})
    eventually(lambda: metric(client, "model_api_keys_file_broken") == 0)
    [line] = [record for record in caplog.records if "is ignored" in record.message]
    assert "fewer than 32 characters" in line.message
    assert "short" not in line.message.replace(str(tmp_path), "")


def test_a_key_is_limited_to_its_rate(tmp_path: Path, store: MemoryStore) -> None:
    write_keys(
        tmp_path / "keys.json",
        {"name": "slow", "key": KEY, "requests_per_second": 0.01, "burst": 3},
        {"name": "free", "key": "fedcba9876543210" * 4},
    )
    with served(tmp_path, store) as client:
        assert [client.post(PREDICT, json=[ROW]).status_code for _ in range(3)] == [200] * 3
        refused = client.post(PREDICT, json=[ROW])
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:model-api:rate-limited"
        assert 90 < int(refused.headers["retry-after"]) <= 100
        assert client.get("/models").status_code == 429
        client.headers["Authorization"] = "Bearer " + "fedcba9876543210" * 4
        assert client.post(PREDICT, json=[ROW]).status_code == 200
        assert metric(client, "model_api_requests_total", key="slow", status="429") == 1
        assert metric(client, "model_api_requests_total", key="slow", status="200") == 3


def test_a_body_that_never_arrives_times_out(tmp_path: Path, store: MemoryStore) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    with served(tmp_path, store, body_seconds=0.3) as client:
        received = send_raw(client, f"{head}Content-Length: 20\r\n\r\n[{{".encode())
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"urn:model-api:body-timeout" in received


HEAD = f"GET /models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode()
UNREAD = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "dribble", "received"),
    [
        (b"", b"", b""),
        (HEAD, b"", b"HTTP/1.1 408 "),
        (HEAD, b"x", b"HTTP/1.1 408 "),
        (b"", b"\r\n", b""),
        (HEAD + b"\r\n" + HEAD, b"x", b"HTTP/1.1 200 "),
        (HEAD + b"\r\n", b"\r\n", b"HTTP/1.1 200 "),
        (UNREAD, b"x", b"HTTP/1.1 401 "),
        (HEAD + b"X: " + b"x" * 300_000, b"x", b"HTTP/1.1 431 "),
    ],
    ids=["silent", "half", "slow", "blank", "second", "between", "unread", "endless"],
)
def test_a_connection_that_completes_no_request_is_closed(
    own_client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    sent: bytes,
    dribble: bytes,
    received: bytes,
) -> None:
    monkeypatch.setattr(Protocol, "head_seconds", 0.5)
    address = (own_client.base_url.host, own_client.base_url.port)
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        connection.settimeout(0.05)
        answer = b""
        for _ in range(600):
            with suppress(ConnectionError, TimeoutError):
                if not (chunk := connection.recv(65536)):
                    break
                answer += chunk
                continue
            # More often than uvicorn closes idle connections.
            with suppress(ConnectionError):
                connection.sendall(dribble)
        else:
            pytest.fail("it is still open")
    assert answer.startswith(received)
    assert bool(answer) == bool(received)
    assert own_client.get("/models").status_code == 200


def test_a_client_that_is_slow_but_sends_requests_keeps_its_connection(
    own_client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "head_seconds", 2.0)
    address = (own_client.base_url.host, own_client.base_url.port)
    request = HEAD + b"\r\n"
    with socket.create_connection(address, 20) as connection:
        # For longer than one request may take.
        for _ in range(5):
            for part in (request[:10], request[10:60], request[60:]):
                connection.sendall(part)
                time.sleep(0.2)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_answer_may_take_longer_than_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "head_seconds", 0.2)
    hold = Hold()
    store = MemoryStore(MemoryVersion(name="long", answer=hold, seconds=1))
    with served(tmp_path, store) as client, asking(client, 1, hold) as statuses:
        time.sleep(1)
        assert statuses == []
        hold.go.set()
        eventually(lambda: statuses == [200])


@contextmanager
def asking(client: httpx.Client, times: int, hold: Hold) -> Iterator[list[int]]:
    """Request long predictions, each in a thread; yield the list that collects their statuses."""
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(client.post(LONG, json=[ROW], timeout=None).status_code)

    askers = [threading.Thread(target=ask) for _ in range(times)]
    try:
        with hold:
            for asker in askers:
                asker.start()
            hold.begun.acquire()
            yield statuses
    finally:
        for asker in askers:
            asker.join()


def test_a_long_prediction_blocks_no_other_request(tmp_path: Path) -> None:
    hold = Hold()
    store = MemoryStore(MemoryVersion(), MemoryVersion(name="long", answer=hold, seconds=1))
    with served(tmp_path, store) as client, asking(client, 1, hold):
        assert client.post(PREDICT, json=[ROW]).status_code == 200


def test_a_full_queue_answers_retry_later(tmp_path: Path) -> None:
    hold = Hold()
    store = MemoryStore(MemoryVersion(name="long", answer=hold, seconds=1))
    # The limit is long, so that the waiting request is answered and does not time out.
    with served(tmp_path, store, threads=1, queue=1, prediction_seconds=600) as client:
        with asking(client, 2, hold) as statuses:
            eventually(lambda: metric(client, "model_api_predictions_waiting") == 1)
            assert metric(client, "model_api_requests_in_flight") == 2
            refused = client.post(LONG, json=[ROW])
            assert refused.status_code == 429
            assert refused.json()["type"] == "urn:model-api:overloaded"
            assert int(refused.headers["retry-after"]) >= 1
            assert statuses == []
        assert statuses == [200, 200]
        assert client.post(LONG, json=[ROW]).status_code == 200


def test_requests_beyond_the_concurrency_are_refused(tmp_path: Path) -> None:
    hold = Hold()
    store = MemoryStore(MemoryVersion(name="long", answer=hold, seconds=1))
    with served(tmp_path, store, concurrency=1) as client, asking(client, 1, hold):
        refused = client.post(LONG, json=[ROW])
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:model-api:overloaded")


@pytest.mark.parametrize(
    ("path", "row"), [(LONG, ROW), ("/models/long/invocations", ROW | {"a": "1.5"})]
)
def test_a_prediction_that_takes_too_long_times_out(
    tmp_path: Path, path: str, row: dict[str, Any]
) -> None:
    hold = Hold()
    store = MemoryStore(MemoryVersion(name="long", answer=hold, seconds=1))
    with served(tmp_path, store, prediction_seconds=0.2) as client, hold:
        answer = client.post(path, json={"inputs": [row]})
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:model-api:prediction-timeout"


def test_every_request_is_logged_on_demand(
    tmp_path: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        served(tmp_path, store, log_requests="all") as client,
        caplog.at_level(logging.INFO, logger="model_api.requests"),
    ):
        client.post(PREDICT, json=[ROW])
    assert [r.fields["status"] for r in caplog.records if r.fields["path"] == PREDICT] == [200]


def test_repeated_refusals_leave_few_lines(
    tmp_path: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    write_keys(
        tmp_path / "keys.json",
        {"name": "tests", "key": KEY, "requests_per_second": 0.001, "burst": 1},
    )
    with (
        served(tmp_path, store) as client,
        caplog.at_level(logging.INFO, logger="model_api.requests"),
    ):
        for _ in range(100):
            assert client.post(PREDICT, json=[ROW]).status_code in (200, 429)
        del client.headers["Authorization"]
        for path in ("/models", PREDICT, "/nothing", "/" + "x" * 50_000) * 25:
            assert client.get(path).status_code == 401
        for _ in range(100):
            assert client.post("/health/live").status_code == 405
    lines = [record.fields for record in caplog.records]
    assert sorted(line["status"] for line in lines) == [401, 405, 429]
    assert all(len(str(line)) < 1000 for line in lines)


def test_predictions_are_offered_to_the_log(tmp_path: Path, store: MemoryStore) -> None:
    offered: list[tuple[Any, ...]] = []

    class Log:
        def offer(self, *record: Any) -> None:
            offered.append(record)

    with served(tmp_path, store, Log()) as client:
        answer = client.post(PREDICT, content=b'[{"a":1,"n":2}]', headers={"x-request-id": "r"})
        client.post(PREDICT, json=[{}])
    assert offered == [
        ("sum", "3", "champion", "r", b'[{"a":1,"n":2}]', answer.content),
    ]


def test_an_empty_file_does_not_break_the_metrics(tmp_path: Path, store: MemoryStore) -> None:
    # prometheus_client first creates a file, and then sets its size.
    empty = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / f"counter_{2**22}.db"
    with served(tmp_path, store) as client:
        empty.touch()
        try:
            assert client.get("/metrics").status_code == 200
            assert metric(client, "model_api_registry_up") == 1
        finally:
            empty.unlink()


class Users(PythonModel):
    """Looks up its input elsewhere and caches the input example, as feature stores do."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:
        """Wait if the user is new."""
        return [0.0 if user == "known" else elsewhere([]) for user in model_input["user"]]


def elsewhere(batch: Any) -> Any:
    begun.set()
    go_on.wait(60)
    return 0.0 if isinstance(batch, list) else [0.0] * batch.rows


begun, go_on = threading.Event(), threading.Event()


def prepared(folder: Path, kind: str) -> Version:
    go_on.set()
    if kind == "pyfunc":
        example = pd.DataFrame({"user": ["known"]})
        saved = save(folder / "saved", Users(), example, infer_signature(example, [1.0]))
    else:
        saved = KINDS[kind](folder / "saved")
    prepare_downloaded(saved, folder / "ready", name="users", version="1", run_id=None)
    return open_version(folder / "ready")


@pytest.mark.parametrize("kind", ["pyfunc", "logistic"])
def test_a_model_that_waits_blocks_no_other_request(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = prepared(tmp_path, kind)
    body: Any = [{"user": "new"}]
    with served(tmp_path, MemoryStore(version)) as client:  # type: ignore[arg-type]
        if kind != "pyfunc":
            body = json.loads(version.manifest["request"])
            # It was measured as fast, and counts as fast until it is slow once.
            monkeypatch.setattr(version._engine, "predict", Slow(version._engine.predict))
            assert client.post("/models/users/predict", json=body).status_code == 200
            monkeypatch.setattr(version._engine, "predict", elsewhere)
        statuses: list[int] = []
        asker = threading.Thread(
            target=lambda: statuses.append(
                client.post("/models/users/predict", json=body).status_code
            )
        )
        begun.clear()
        go_on.clear()
        asker.start()
        try:
            assert begun.wait(30)
            assert client.get("/health/live", timeout=10).status_code == 200
            assert not statuses
        finally:
            go_on.set()
            asker.join()


class Slow:
    """A prediction that takes a while."""

    def __init__(self, predict: Callable[[Any], Any]) -> None:
        self._predict = predict

    def __call__(self, batch: Any) -> Any:
        time.sleep(0.01)
        return self._predict(batch)


def refuse(batch: Any) -> list[Any]:
    raise ValueError("not this one")


def fail(batch: Any) -> list[Any]:
    raise RuntimeError("broken")


def end(batch: Any) -> list[Any]:
    raise SystemExit(3)


def test_a_version_is_freed_once_the_store_drops_it(tmp_path: Path, store: MemoryStore) -> None:
    answers = {"add": None, "refuse": refuse, "fail": fail}
    # Without the garbage collector, which runs at any time: a version is large.
    gc.collect()
    gc.disable()
    try:
        with served(tmp_path, store) as client:
            for (name, answer), seconds in product(answers.items(), (0, 1)):
                options = {"answer": answer} if answer else {}
                version = MemoryVersion(name=name, seconds=seconds, **options)
                dropped = weakref.ref(version)
                store.aliases = {(name, alias): version for alias in ("champion", "challenger")}
                del version
                for path in ("predict", "aliases/challenger/predict", "versions/1/predict"):
                    for body in ([ROW], [{"a": "x"}]):
                        client.post(f"/models/{name}/{path}", json=body)
                store.aliases = {}
                eventually(lambda dropped=dropped: dropped() is None, 30)
    finally:
        gc.enable()


def test_a_model_that_ends_its_process_ends_only_its_request(tmp_path: Path) -> None:
    store = MemoryStore(MemoryVersion(name="long", answer=end, seconds=1))
    with served(tmp_path, store) as client:
        for _ in range(2):
            assert client.post(LONG, json=[ROW]).status_code == 500


# ---- timers -------------------------------------------------------------------------------------


def failing_at_first[**P, T](method: Callable[P, T], times: int) -> Callable[P, T]:
    """Return a method that first raises this many times, and then works."""
    left = times

    def failing(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal left
        if left:
            left -= 1
            raise RuntimeError("an unforeseen fault")
        return method(*args, **kwargs)

    return failing


def test_keys_are_read_again_after_a_fault_of_the_timer(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keys, "refresh", failing_at_first(Keys.refresh, 2))
    new = "fedcba9876543210" * 4
    with served(tmp_path, store) as client:
        write_keys(tmp_path / "keys.json", {"name": "new", "key": new})
        client.headers["Authorization"] = f"Bearer {new}"
        eventually(lambda: client.get("/models").status_code == 200)


def test_gauges_continue_after_a_fault_of_the_timer(
    tmp_path: Path,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Metrics, "sample", failing_at_first(Metrics.sample, 2))
    with served(tmp_path, store) as client:
        (tmp_path / "keys.json").unlink()
        eventually(lambda: metric(client, "model_api_keys_file_broken") == 1)
    lines = [r.message for r in caplog.records if "sampling the gauges" in r.message]
    assert lines == [
        "sampling the gauges: failed, will be retried",
        "sampling the gauges: works again, failed 2 times",
    ]
