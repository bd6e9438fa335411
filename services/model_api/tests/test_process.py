"""The service as in production: real processes, with versions that were really prepared."""

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pytest
import schemathesis
from conftest import HTTP, Process, eventually, free_port, running
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from lastro_pytest import examples
from mlflow.models import infer_signature
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)
from serving import AUTHORIZED, KEY, runners, write_keys
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from model_api.common.state import Alias, Model, Prepared, State, StateFolder
from model_api.preparing.prepare import prepare_downloaded

FRAME = pd.DataFrame({"width": [0.5, 1.0, 2.0, 4.0], "height": [1.0, 2.0, 1.0, 3.0]})
COLOURS = pd.DataFrame({"colour": ["red", "blue", "red", "green"], "count": [1, 2, 3, 4]})
LABELS = ["small", "small", "large", "large"]
EXCLUDED = [negative_data_rejection, positive_data_acceptance]
RECORD = {"width": 3.0, "height": 2.0}


# Code as MLflow stores it, and not a class of this module, which the service does not have.
SLEEPER = """
import time
import mlflow

class Sleeper(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep(2 if (model_input["x"] == -123456.75).any() else 0.02)
        return model_input["x"].tolist()

mlflow.models.set_model(Sleeper())
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the follower writes it, with the models sizes, colours and sleeper."""
    folder = tmp_path_factory.mktemp("prepared")
    saved = folder / "saved"
    code = folder / "sleeper.py"
    code.write_text(SLEEPER)
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
        python_model=str(code),
        signature=infer_signature(some, [0.5, 1.5]),
        input_example=some,
        pip_requirements=["pandas"],
    )
    for name in ("sizes", "colours", "sleeper"):
        prepare_downloaded(
            saved / name, folder / "prepared" / name, name=name, version="1", run_id="r" * 32
        )
    return folder


def state_of(folder: Path, prepared: Path, *names: str) -> Path:
    """Return a folder in which only these models serve, so that the others take no time to load."""
    folder.mkdir()
    (folder / "prepared").symlink_to(prepared / "prepared")
    now = datetime.now(UTC)
    # No follower runs here: it must not count as silent before the tests end.
    state = State(polled_at=now + timedelta(days=1))
    for name in names:
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
    variables = {
        "MODEL_API_KEYS_FILE": str(write_keys(folder / "keys.json")),
        "MODEL_API_PORT": str(port),
        "MODEL_API_STATE_DIRECTORY": str(state),
        "MODEL_API_RUNTIME_DIRECTORY": str(folder / "runtime"),
        "MODEL_API_RUNNERS_DIRECTORY": str(folder / "runners"),
    }
    command = [sys.executable, "-m", "model_api"]
    with (
        runners(state, folder / "runners"),
        running(command, variables | environment, folder, port, "/health/ready") as service,
    ):
        yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("service")
    state = state_of(folder / "state", prepared, "sizes", "colours")
    with model_api(folder, state) as service:
        yield service


def workers(service: Process) -> list[int]:
    """Return the ids of the worker processes."""
    path = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    children = [int(pid) for pid in path.read_text().split()]
    return [p for p in children if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


def post(service: Process, name: str, body: Any, query: str = "") -> httpx.Response:
    url = f"{service.url}/models/{name}/predict{query}"
    return HTTP.post(url, json=body, headers=AUTHORIZED)


def test_real_models_answer(service: Process) -> None:
    answer = post(service, "sizes", [RECORD, {"width": 0.1, "height": 1}], "?probabilities=true")
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == ["large", "small"]
    assert [sorted(row) for row in answer.json()["probabilities"]] == [["large", "small"]] * 2
    assert answer.json()["model"]["run_id"] == "r" * 32


def test_a_worker_answers_bodies_that_only_mlflow_reads(service: Process) -> None:
    # HTTP opens one connection per request, so more than one worker imports MLflow.
    for name, rows in [
        ("sizes", "width,height,x\n3.0,2,y\n"),
        ("colours", "count,colour\n1,red\n"),
    ]:
        answer = HTTP.post(
            f"{service.url}/models/{name}/invocations",
            content=rows,
            headers=AUTHORIZED | {"Content-Type": "text/csv"},
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"]["name"] == name
    for line in service.log.read_text().splitlines():
        assert line.startswith("{"), line


def test_an_unseen_category_names_row_and_field(service: Process) -> None:
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
        # Each on its own connection, so that any worker may take it.
        assert post(service, "sizes", [RECORD]).status_code == 200
    eventually(lambda: _count(service) == before + 40)


def _count(service: Process) -> float:
    text = HTTP.get(f"{service.url}/metrics", headers=AUTHORIZED).text
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


def test_a_killed_worker_comes_back(tmp_path: Path, prepared: Path) -> None:
    state = state_of(tmp_path / "state", prepared, "sizes")
    with model_api(tmp_path, state) as service:
        first = eventually(lambda: len(workers(service)) == 2 and workers(service))
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: len(workers(service)) == 2 and first[0] not in workers(service))
        # The new worker takes no connection before it can answer.
        for _ in range(100):
            assert post(service, "sizes", [RECORD]).status_code == 200
        # The dead worker's gauges are gone.
        eventually(
            lambda: (
                HTTP.get(f"{service.url}/metrics", headers=AUTHORIZED).status_code == 200
                and not list((tmp_path / "runtime/metrics").glob(f"gauge_live*_{first[0]}.db"))
            )
        )


def test_a_blocked_worker_is_kept(service: Process) -> None:
    before = eventually(lambda: len(workers(service)) == 2 and workers(service))
    os.kill(before[0], signal.SIGSTOP)
    # Longer than uvicorn's own limit of 5 s, as on a host that is short of CPU.
    time.sleep(12)
    os.kill(before[0], signal.SIGCONT)
    assert workers(service) == before
    for _ in range(20):
        assert post(service, "sizes", [RECORD]).status_code == 200


def test_requests_in_flight_are_answered_before_it_ends(tmp_path: Path, prepared: Path) -> None:
    state = state_of(tmp_path / "state", prepared, "sleeper")
    with model_api(tmp_path, state, MODEL_API_WORKERS="1") as service:
        answers: list[httpx.Response] = []
        asked = threading.Thread(
            target=lambda: answers.append(post(service, "sleeper", [{"x": -123456.75}]))
        )
        asked.start()
        eventually(lambda: "model_api_predictions_running 1.0" in _metrics(service) or answers)
        assert not answers, answers[0].text
        service.process.terminate()
        asked.join()
        assert service.process.wait(timeout=120) == 0
        assert [answer.status_code for answer in answers] == [200]
        for line in service.log.read_text().splitlines():
            assert line.startswith("{"), line
            assert json.loads(line)["level"] in ("info", "warning", "error"), line
        with pytest.raises(httpx.ConnectError):
            HTTP.get(f"{service.url}/health/live")


def _metrics(service: Process) -> str:
    return HTTP.get(f"{service.url}/metrics", headers=AUTHORIZED).text


# ---- the OpenAPI document ---------------------------------------------------------------------


def test_answers_match_the_document(service: Process) -> None:
    document = schemathesis.openapi.from_url(f"{service.url}/openapi.json", headers=AUTHORIZED)
    operations = [result.ok() for result in document.get_all_operations()]
    assert {"/models", "/metrics", "/models/sizes/predict", "/models/{name}/predict"} <= {
        operation.path for operation in operations
    }
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=examples(15),
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case) -> None:
                # The key is always sent, and a model may refuse values that its types allow.
                case.call_and_validate(headers=AUTHORIZED, timeout=20, excluded_checks=EXCLUDED)

            with suppress(Unsatisfiable):
                check()


def test_each_model_has_its_own_paths(service: Process) -> None:
    document = HTTP.get(f"{service.url}/openapi.json", headers=AUTHORIZED).json()
    for name, frame in {"sizes": FRAME, "colours": COLOURS}.items():
        assert f"/models/{name}/aliases/champion/predict" in document["paths"]
        content = document["paths"][f"/models/{name}/predict"]["post"]["requestBody"]["content"]
        example = content["application/json"]["example"]
        assert [list(row) for row in example["inputs"]] == [list(frame.columns)] * len(frame)
        assert post(service, name, example).status_code == 200
        assert all(column in json.dumps(content["application/json"]["schema"]) for column in frame)
    assert KEY not in json.dumps(document)
