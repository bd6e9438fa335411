"""The service as it runs in production: real processes, on versions that were really prepared."""

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pytest
import schemathesis
from conftest import Process, eventually, free_port, running
from mlflow.models import infer_signature
from serving import AUTHORIZED, KEY, write_keys
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from model_api.preparing import prepare_downloaded
from model_api.state import Alias, Model, Prepared, State, StateFolder

FRAME = pd.DataFrame({"width": [0.5, 1.0, 2.0, 4.0], "height": [1.0, 2.0, 1.0, 3.0]})
COLOURS = pd.DataFrame({"colour": ["red", "blue", "red", "green"], "count": [1, 2, 3, 4]})
LABELS = ["small", "small", "large", "large"]
RECORD = {"width": 3.0, "height": 2.0}


class Sleeper(mlflow.pyfunc.PythonModel):
    """Takes two seconds for the input -123456.75, which nobody draws by chance."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        """Sleep, and return the input."""
        import time

        time.sleep(2 if (model_input["x"] == -123456.75).any() else 0.02)
        return model_input["x"].tolist()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the follower leaves it, with the models sizes, colours and sleeper."""
    folder = tmp_path_factory.mktemp("state")
    saved = folder / "saved"
    some = pd.DataFrame({"x": [0.5, 1.5]})
    mlflow.sklearn.save_model(
        LogisticRegression().fit(FRAME, LABELS),
        saved / "sizes",
        signature=infer_signature(FRAME, LABELS),
        input_example=FRAME,
        pip_requirements=["scikit-learn"],
    )
    mlflow.sklearn.save_model(
        make_pipeline(OneHotEncoder(), LogisticRegression()).fit(COLOURS, LABELS),
        saved / "colours",
        signature=infer_signature(COLOURS, LABELS),
        input_example=COLOURS,
        pip_requirements=["scikit-learn"],
    )
    mlflow.pyfunc.save_model(
        saved / "sleeper",
        python_model=Sleeper(),
        signature=infer_signature(some, [0.5, 1.5]),
        input_example=some,
        pip_requirements=["pandas"],
    )
    now = datetime.now(UTC)
    state = State(polled_at=now)
    for name in ("sizes", "colours", "sleeper"):
        prepare_downloaded(
            saved / name, folder / "prepared" / name, name=name, version="1", run_id="r" * 32
        )
        state.models[name] = Model(
            created=1,
            latest=1,
            aliases={"champion": Alias("1", now, serves="1", since=now)},
            versions={"1": Prepared(f"prepared/{name}", "test")},
        )
    StateFolder(folder).write(state)
    return folder


@contextmanager
def model_api(folder: Path, state: Path, **environment: str) -> Iterator[Process]:
    """Run the service on a state, until all its models are loaded."""
    port = free_port()
    settings = {
        "MODEL_API_KEYS_FILE": str(write_keys(folder / "keys.json")),
        "MODEL_API_PORT": str(port),
        "MODEL_API_STATE_DIRECTORY": str(state),
        "MODEL_API_RUNTIME_DIRECTORY": str(folder / "runtime"),
    }
    command = [sys.executable, "-m", "model_api"]
    with running(command, settings | environment, folder, port, "/health/ready") as service:
        yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Iterator[Process]:
    with model_api(tmp_path_factory.mktemp("service"), state) as service:
        yield service


def workers(service: Process) -> list[int]:
    """Return the ids of the worker processes."""
    path = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    children = [int(pid) for pid in path.read_text().split()]
    return [p for p in children if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


def post(service: Process, name: str, body: Any, query: str = "") -> httpx.Response:
    url = f"{service.url}/models/{name}/predict{query}"
    return httpx.post(url, json=body, headers=AUTHORIZED, timeout=20)


def test_real_models_answer(service: Process) -> None:
    answer = post(service, "sizes", [RECORD, {"width": 0.1, "height": 1}], "?probabilities=true")
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == ["large", "small"]
    assert [sorted(row) for row in answer.json()["probabilities"]] == [["large", "small"]] * 2
    assert answer.json()["model"]["run_id"] == "r" * 32


def test_a_category_never_seen_names_row_and_field(service: Process) -> None:
    body = [{"colour": "red", "count": 1}, {"colour": "mauve", "count": 1}]
    answer = post(service, "colours", body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:model-api:invalid-rows"
    assert [(e["row"], e["field"]) for e in problem["errors"]] == [(1, "colour")]
    assert "mauve" in problem["errors"][0]["detail"]


def test_every_worker_counts_into_one_sum(service: Process) -> None:
    before = _count(service)
    for _ in range(40):
        # Each on a connection of its own: whichever worker takes it.
        assert post(service, "sizes", [RECORD]).status_code == 200
    assert _count(service) == before + 40


def _count(service: Process) -> float:
    text = httpx.get(f"{service.url}/metrics", headers=AUTHORIZED).text
    found = re.findall(r'model_api_requests_total{.*model="sizes".*status="200".*} (\S+)', text)
    return sum(map(float, found))


def test_garbage_is_not_held(service: Process) -> None:
    def resident() -> int:
        pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in workers(service)]
        return sum(pages) * os.sysconf("SC_PAGESIZE")

    megabyte = b"\x9d" * 1024**2
    url = f"{service.url}/models/sizes/predict"
    before = resident()
    with httpx.Client(headers=AUTHORIZED) as client:
        for _ in range(3):
            assert client.post(url, content=megabyte * 10).status_code == 413
            assert client.post(url, content=iter([megabyte] * 10)).status_code == 413
    assert resident() - before < 20 * 1024**2


def test_a_killed_worker_comes_back(tmp_path: Path, state: Path) -> None:
    with model_api(tmp_path, state) as service:
        first = eventually(lambda: len(workers(service)) == 2 and workers(service))
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: len(workers(service)) == 2 and first[0] not in workers(service))
        eventually(lambda: post(service, "sizes", [RECORD]).status_code == 200)
        # What the dead one left of its gauges is gone.
        eventually(
            lambda: (
                httpx.get(f"{service.url}/metrics", headers=AUTHORIZED).status_code == 200
                and not list((tmp_path / "runtime/metrics").glob(f"gauge_live*_{first[0]}.db"))
            )
        )


def test_requests_in_flight_are_answered_before_it_ends(tmp_path: Path, state: Path) -> None:
    with model_api(tmp_path, state) as service:
        answers: list[httpx.Response] = []
        asked = threading.Thread(
            target=lambda: answers.append(post(service, "sleeper", [{"x": -123456.75}]))
        )
        asked.start()
        eventually(lambda: "model_api_predictions_running 1.0" in _metrics(service) or answers)
        assert not answers, answers[0].text
        service.process.terminate()
        asked.join()
        assert service.process.wait(timeout=20) == 0
        assert [answer.status_code for answer in answers] == [200]
        for line in service.log.read_text().splitlines():
            assert json.loads(line)["level"] in ("info", "warning", "error")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{service.url}/health/live")


def _metrics(service: Process) -> str:
    return httpx.get(f"{service.url}/metrics", headers=AUTHORIZED).text


def test_a_worker_that_cannot_start_ends_the_service(tmp_path: Path, state: Path) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(pytest.fail.Exception, match="did not come up"),
        model_api(tmp_path, state, MODEL_API_PREDICTION_LOG_SAMPLE="many"),
    ):
        pass
    assert time.monotonic() - begun < 60


# ---- the document and what it promises --------------------------------------------------------


@pytest.fixture(scope="module")
def document(service: Process) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json", headers=AUTHORIZED)


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
def test_answers_are_what_the_document_promises(case: schemathesis.Case) -> None:
    case.call_and_validate(headers=AUTHORIZED, timeout=20)


def test_each_model_has_its_own_paths(service: Process) -> None:
    document = httpx.get(f"{service.url}/openapi.json", headers=AUTHORIZED).json()
    for name, frame in {"sizes": FRAME, "colours": COLOURS}.items():
        assert f"/models/{name}/aliases/champion/predict" in document["paths"]
        content = document["paths"][f"/models/{name}/predict"]["post"]["requestBody"]["content"]
        example = content["application/json"]["example"]
        assert [list(row) for row in example["inputs"]] == [list(frame.columns)] * len(frame)
        assert post(service, name, example).status_code == 200
        assert all(column in json.dumps(content["application/json"]["schema"]) for column in frame)
    assert KEY not in json.dumps(document)
