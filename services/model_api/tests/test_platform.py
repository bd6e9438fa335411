"""The service as a process of its own, against a real MLflow server."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import mlflow
import mlflow.sklearn
import pandas as pd
import pytest
from conftest import AUTHORIZED, Process, eventually, mlflow_server, model_api
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier

FRAME = pd.DataFrame({"width": [1.0, 2.0, 3.0, 4.0], "count": [1, 2, 3, 4]})
LABELS = ["small", "small", "large", "large"]
ROWS = FRAME.to_dict("records")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def service(registry: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with model_api(tmp_path_factory.mktemp("service"), registry.url) as server:
        yield server


def register(url: str, name: str, model: object, **changes: object) -> str:
    """Log a fitted model, register it, return its version."""
    mlflow.set_tracking_uri(url)
    with mlflow.start_run():
        arguments = {
            "signature": infer_signature(FRAME, LABELS),
            "input_example": FRAME,
            "pip_requirements": ["scikit-learn"],
            "skops_trusted_types": ["sklearn.tree._tree.Tree"],
        }
        info = mlflow.sklearn.log_model(model, name="model", **arguments | changes)
        return mlflow.register_model(info.model_uri, name).version


def constant(label: str) -> DummyClassifier:
    return DummyClassifier(strategy="constant", constant=label).fit(FRAME, LABELS)


def promote(url: str, name: str, version: str) -> None:
    MlflowClient(url, url).set_registered_model_alias(name, "champion", version)


def predict(service: Process, name: str) -> httpx.Response:
    return httpx.post(
        f"{service.url}/models/{name}/predict", json={"inputs": ROWS}, headers=AUTHORIZED, timeout=5
    )


def serves(service: Process, name: str, version: str) -> bool:
    answer = predict(service, name)
    return answer.status_code == 200 and answer.json()["model"]["version"] == version


def status(service: Process, name: str) -> dict:
    listing = httpx.get(f"{service.url}/models", headers=AUTHORIZED, timeout=5).json()
    return next(model for model in listing["models"] if model["name"] == name)


def test_a_moved_alias_is_followed_and_no_request_is_lost(
    registry: Process, service: Process
) -> None:
    name = "moving"
    first = register(registry.url, name, constant("small"))
    second = register(registry.url, name, constant("large"))
    assert predict(service, name).status_code == 404
    promote(registry.url, name, first)
    eventually(lambda: serves(service, name, first))

    answers: list[tuple[int, str, str]] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(headers=AUTHORIZED) as client:
            while not done.is_set():
                answer = client.post(
                    f"{service.url}/models/{name}/predict", json={"inputs": ROWS[:1]}
                )
                body = answer.json()
                answers.append(
                    (answer.status_code, body["model"]["version"], body["predictions"][0])
                )

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for version in (second, first, second):
        promote(registry.url, name, version)
        moved = time.monotonic()
        eventually(lambda v=version: serves(service, name, v))
        assert time.monotonic() - moved < 5
    done.set()
    for asker in askers:
        asker.join()
    assert len(answers) > 20
    # Never an error, never one version's answer under the other's name.
    assert set(answers) == {(200, first, "small"), (200, second, "large")}


def test_a_forest_answers_as_it_did_where_it_was_trained(
    registry: Process, service: Process
) -> None:
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(FRAME, LABELS)
    version = register(registry.url, "forest", forest)
    promote(registry.url, "forest", version)
    eventually(lambda: serves(service, "forest", version))
    answer = httpx.post(
        f"{service.url}/models/forest/predict?probabilities=true",
        json={"inputs": ROWS},
        headers=AUTHORIZED,
    ).json()
    assert answer["predictions"] == forest.predict(FRAME).tolist()
    expected = [
        dict(zip(forest.classes_, row, strict=True)) for row in forest.predict_proba(FRAME).tolist()
    ]
    assert answer["probabilities"] == expected


def test_other_flavors_are_served_too(registry: Process, service: Process) -> None:
    version = register(
        registry.url, "indirect", constant("small"), pyfunc_predict_fn="predict_proba"
    )
    promote(registry.url, "indirect", version)
    eventually(lambda: serves(service, "indirect", version))
    assert predict(service, "indirect").json()["predictions"] == [[0.0, 1.0]] * 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_example": None}, "no input example"),
        ({"signature": infer_signature(FRAME.rename(columns={"width": "w"}), LABELS)}, "w"),
    ],
)
def test_a_version_that_is_not_fit_never_serves(
    registry: Process, service: Process, changes: dict, reason: str
) -> None:
    name = "guarded"
    good = register(registry.url, name, constant("small"))
    promote(registry.url, name, good)
    eventually(lambda: serves(service, name, good))
    bad = register(registry.url, name, constant("large"), **changes)
    promote(registry.url, name, bad)
    eventually(lambda: status(service, name)["last_error"])
    assert status(service, name)["last_error"]["version"] == bad
    assert reason in status(service, name)["last_error"]["reason"]
    assert serves(service, name, good)
    promote(registry.url, name, good)
    eventually(lambda: status(service, name)["last_error"] is None)


def test_a_version_with_a_torn_file_never_serves(registry: Process, service: Process) -> None:
    name = "torn"
    good = register(registry.url, name, constant("small"))
    promote(registry.url, name, good)
    eventually(lambda: serves(service, name, good))
    bad = register(registry.url, name, constant("large"))
    source = MlflowClient(registry.url, registry.url).get_model_version(name, bad).source
    model_id = source.removeprefix("models:/")
    [saved] = registry.log.parent.glob(f"artifacts/**/{model_id}/artifacts/model.skops")
    saved.write_bytes(b"torn")
    promote(registry.url, name, bad)
    eventually(lambda: status(service, name)["last_error"])
    assert serves(service, name, good)


def test_a_registry_that_hangs_or_dies_stops_no_prediction(tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as registry:
        version = register(registry.url, "steady", constant("small"))
        promote(registry.url, "steady", version)
        with model_api(tmp_path, registry.url) as service:
            eventually(lambda: serves(service, "steady", version))

            os.killpg(registry.process.pid, signal.SIGSTOP)
            end = time.monotonic() + 4
            slowest = 0.0
            while time.monotonic() < end:
                begin = time.monotonic()
                assert serves(service, "steady", version)
                slowest = max(slowest, time.monotonic() - begin)
            assert slowest < 1
            eventually(lambda: _registry_error(service))
            os.killpg(registry.process.pid, signal.SIGCONT)
            eventually(lambda: _registry_error(service) is None)

            os.killpg(registry.process.pid, signal.SIGKILL)
            eventually(lambda: _registry_error(service))
            assert serves(service, "steady", version)
            assert httpx.get(f"{service.url}/health/ready").status_code == 200

        with model_api(tmp_path, registry.url) as fresh:
            eventually(lambda: "refused" in httpx.get(f"{fresh.url}/health/ready").text)
            assert httpx.get(f"{fresh.url}/health/ready").status_code == 503
            answer = predict(fresh, "steady")
            assert answer.status_code == 503
            assert "retry-after" in answer.headers


def test_it_stops_on_sigterm_and_logs_single_lines(registry: Process, tmp_path: Path) -> None:
    with model_api(tmp_path, registry.url) as service:
        httpx.get(f"{service.url}/health/ready")
        httpx.get(f"{service.url}/models")
        service.process.terminate()
        assert service.process.wait(timeout=15) == -signal.SIGTERM
        log = service.log.read_text()
    assert '"GET /models HTTP/1.1" 401' in log
    assert "/health/" not in log
    assert "Traceback" not in log


def _registry_error(service: Process) -> str | None:
    listing = httpx.get(f"{service.url}/models", headers=AUTHORIZED, timeout=5).json()
    return listing["registry_error"]
