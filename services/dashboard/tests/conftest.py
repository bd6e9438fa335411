"""A real MLflow server with basic authentication, a stand-in for the model API, and the app.

Set LASTRO_MLFLOW_SERVER to the `mlflow` executable of an environment with `mlflow[auth]`.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import session

APP = Path(dashboard.__file__).with_name("app.py")
ADMIN = ("admin", "admin-password-of-tests")
BEARER = "bearer-key-of-tests"
AIRFLOW_LOGIN = {"username": "dashboard", "password": "airflow-password-of-tests"}


PATIENCE = 120.0
"""Seconds; the limit only ends a test that hangs."""


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages wait longer, because MLflow is slow on a busy machine."""
    monkeypatch.setattr(session, "WAIT_SECONDS", 60.0)


@dataclass
class MLflow:
    """The running server, and methods to fill it as one of its users."""

    url: str

    def call(self, login: tuple[str, str], method: str, path: str, **options: Any) -> Any:
        """Make a REST call that must succeed."""
        response = httpx.request(
            method, f"{self.url}/api/2.0/mlflow/{path}", auth=login, timeout=120, **options
        )
        assert response.is_success, response.text
        return response.json() if response.content else None

    def create_user(self, name: str) -> tuple[str, str]:
        """Create a user without permissions; return the login."""
        login = (name, f"password-of-{name}-{secrets.token_hex(4)}")
        body = {"username": login[0], "password": login[1]}
        self.call(ADMIN, "POST", "users/create", json=body)
        return login

    def create_experiment(self, login: tuple[str, str], name: str) -> str:
        """Create an experiment that only its creator may read; return its id."""
        return self.call(login, "POST", "experiments/create", json={"name": name})["experiment_id"]

    def create_run(
        self,
        login: tuple[str, str],
        experiment_id: str,
        name: str,
        metrics: dict[str, list[float]],
        params: dict[str, str] | None = None,
        start: int = 0,
        status: str = "FINISHED",
    ) -> str:
        """Create a run with each metric's values by step; return its id."""
        begin = 1_790_000_000_000 + start * 60_000
        body = {"experiment_id": experiment_id, "run_name": name, "start_time": begin}
        run_id = self.call(login, "POST", "runs/create", json=body)["run"]["info"]["run_id"]
        batch = {
            "run_id": run_id,
            "metrics": [
                {"key": key, "value": value, "step": step, "timestamp": begin + step}
                for key, values in metrics.items()
                for step, value in enumerate(values)
            ],
            "params": [{"key": key, "value": value} for key, value in (params or {}).items()],
        }
        self.call(login, "POST", "runs/log-batch", json=batch)
        done = {"run_id": run_id, "status": status, "end_time": begin + 12_500}
        self.call(login, "POST", "runs/update", json=done)
        return run_id

    def create_model(self, login: tuple[str, str], name: str, run_ids: list[str]) -> None:
        """Register a model with one version per run."""
        self.call(login, "POST", "registered-models/create", json={"name": name})
        for run_id in run_ids:
            run = self.call(login, "GET", "runs/get", params={"run_id": run_id})["run"]
            body = {"experiment_id": run["info"]["experiment_id"], "source_run_id": run_id}
            logged = self.call(login, "POST", "logged-models", json=body)["model"]["info"]
            model_id = logged["model_id"]
            body = {"name": name, "source": f"models:/{model_id}", "model_id": model_id}
            body["run_id"] = run_id
            self.call(login, "POST", "model-versions/create", json=body)

    def log_artifact(self, login: tuple[str, str], run_id: str, path: str, content: bytes) -> None:
        """Store an artifact of a run in MLflow."""
        run = self.call(login, "GET", "runs/get", params={"run_id": run_id})["run"]
        place = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        path = f"../mlflow-artifacts/artifacts/{place}/{path}"
        self.call(login, "PUT", path, content=content)

    def model(self, login: tuple[str, str], name: str) -> dict[str, Any]:
        """A registered model as MLflow returns it."""
        answer = self.call(login, "GET", "registered-models/get", params={"name": name})
        return answer["registered_model"]

    def allow(self, user: str, what: str, name: str, permission: str) -> None:
        """Give a user READ, EDIT or MANAGE on an `experiment` (by id) or `registered_model`."""
        body = {"username": user, "permission": permission}
        body |= {"resource_type": what, "resource_id": name}
        self.call(ADMIN, "POST", "../../3.0/mlflow/users/permissions/grant", json=body)

    def set_alias(self, login: tuple[str, str], model: str, alias: str, version: str) -> None:
        """Point an alias to a version."""
        body = {"name": model, "alias": alias, "version": version}
        self.call(login, "POST", "registered-models/alias", json=body)


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    """A real MLflow server with basic authentication; users cannot read the data of others."""
    executable = os.environ.get("LASTRO_MLFLOW_SERVER")
    if not executable:
        pytest.fail(
            "LASTRO_MLFLOW_SERVER is not set: set it to the `mlflow` executable of an "
            "environment with mlflow[auth]."
        )
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    (home / "auth.ini").write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{home}/auth.db\n"
        f"admin_username = {ADMIN[0]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    env = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(home / "artifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WORKERS": "1",
    }
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [executable, "server", "--app-name", "basic-auth"],
            cwd=home,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: answers(f"http://127.0.0.1:{port}/health"),
            lambda: f"MLflow did not start:\n{(home / 'log').read_text()}",
            alive=lambda: server.poll() is None,
        )
        yield MLflow(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(120)


def answers(url: str) -> bool:
    """Whether a GET gives 200."""
    try:
        return httpx.get(url, timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(
    condition: Callable[[], bool],
    complaint: Callable[[], str],
    alive: Callable[[], bool] = lambda: True,
    seconds: float = 300,
) -> None:
    """Poll a condition; fail with the complaint after the timeout or if the process ended."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end or not alive():
            pytest.fail(complaint())
        time.sleep(0.2)


@dataclass
class Process:
    """A running dashboard: its URL, process and log."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def running(home: Path, mlflow_url: str, **environment: str) -> Iterator[Process]:
    """Run `python -m dashboard` like the hosts, with an unreachable model API.

    Args:
        home: an empty folder.
        mlflow_url: MLflow's address.
        environment: further settings.
    """
    port = free_port()
    env = os.environ | {
        "HOME": str(home),
        "MLFLOW_TRACKING_URI": mlflow_url,
        "MODEL_API_URL": "http://127.0.0.1:9",
        "MODEL_API_KEY": "key-of-the-process-test",
        "DASHBOARD_PORT": str(port),
        "DASHBOARD_COOKIE_SECRET": "cookie-secret-of-the-process-test",
        **environment,
    }
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard"], cwd=home, env=env, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: answers(f"{url}/_stcore/health"),
            lambda: f"the dashboard did not start:\n{log.read_text()}",
            alive=lambda: process.poll() is None,
        )
        yield Process(url, process, log)
    finally:
        process.terminate()
        process.wait(120)


@contextmanager
def serving_requests(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread until the block ends, polling for its end faster than the default 0.5 s."""
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield
    server.shutdown()


class Gate(ThreadingHTTPServer):
    """Forwards requests to MLflow while `open`, otherwise drops them unanswered.

    While `go_on` is clear, it holds back requests with `held` in their path.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _GateHandler)
        self.target, self.open, self.seen = httpx.URL(target), True, 0
        self.held, self.go_on = "", threading.Event()
        self.go_on.set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _GateHandler(BaseHTTPRequestHandler):
    server: Gate

    def _forward(self) -> None:
        self.server.seen += 1
        if self.server.held in self.path:
            self.server.go_on.wait(PATIENCE)
        if not self.server.open:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        link = http.client.HTTPConnection(self.server.target.host, self.server.target.port)
        link.request(self.command, self.path, body, dict(self.headers))
        answer = link.getresponse()
        data = answer.read()
        link.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(data)))
        with suppress(BrokenPipeError):  # The dashboard has cancelled the request.
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = _forward

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class ModelApi:
    """The answers of the stand-in for the model API, and the requests it got."""

    url: str
    models: list[dict[str, Any]] = field(default_factory=list)
    ready: bool = True
    registry_error: str | None = None
    polled_at: datetime | None = None
    on_models: Callable[[], None] = lambda: None
    answer: tuple[int, dict[str, Any]] = (500, {})
    refusal_of_probabilities: tuple[int, dict[str, Any]] | None = None
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """Alias -> its answer; `answer` for all others."""
    sent: list[dict[str, Any]] = field(default_factory=list)

    def answer_to(self, path: str) -> tuple[int, dict[str, Any]]:
        """The answer of the alias in the path."""
        alias = path.partition("/aliases/")[2].partition("/")[0]
        return self.answers.get(alias, self.answer)


@dataclass
class Airflow:
    """The answers of the stand-in for Airflow, with the members that the dashboard reads."""

    url: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    health: dict[str, Any] = field(
        default_factory=lambda: {
            name: {"status": "healthy"}
            for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
        }
    )
    tokens: list[str] = field(default_factory=list)


class _JsonHandler(BaseHTTPRequestHandler):
    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        kind = "application/json" if status < 400 else "application/problem+json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _AirflowHandler(_JsonHandler):
    airflow: Airflow

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/auth/token" or body != AIRFLOW_LOGIN:
            self._send(401, {"detail": "Invalid credentials"})
            return
        self.airflow.tokens.append(secrets.token_hex(8))
        self._send(201, {"access_token": self.airflow.tokens[-1]})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/v2/monitor/health":
            self._send(200, self.airflow.health)
        elif self.headers.get("Authorization") not in {f"Bearer {t}" for t in self.airflow.tokens}:
            self._send(401, {"detail": "Not authenticated"})
        elif path == "/api/v2/dags/~/dagRuns":
            self._send(200, {"dag_runs": self.airflow.runs, "total_entries": 0})
        else:
            run = unquote(path.split("/")[-2])
            self._send(200, {"task_instances": self.airflow.tasks[run], "total_entries": 0})


class _ApiHandler(_JsonHandler):
    api: ModelApi

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            self._send(200 if self.api.ready else 503, {"detail": "no model is loaded"})
        elif self._authorized() and self.path == "/models":
            self.api.on_models()
            polled = self.api.polled_at or datetime.now(UTC)
            body = {"registry_error": self.api.registry_error, "polled_at": polled.isoformat()}
            self._send(200, body | {"models": self.api.models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._authorized():
            self.api.sent.append({"path": self.path, "body": body})
            refused = self.api.refusal_of_probabilities
            asked = "probabilities=true" in self.path
            self._send(*(refused if refused and asked else self.api.answer_to(self.path)))

    def _authorized(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {BEARER}":
            return True
        self._send(401, {"title": "Unauthorized"})
        return False


@pytest.fixture
def model_api() -> Iterator[ModelApi]:
    """A stand-in for the model API over real HTTP."""
    handler = type("Handler", (_ApiHandler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.api = ModelApi(f"http://127.0.0.1:{server.server_port}")
        with serving_requests(server):
            yield handler.api


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    """A stand-in for Airflow over real HTTP, and the settings for it."""
    handler = type("Handler", (_AirflowHandler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.airflow = Airflow(f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AIRFLOW_API_URL", handler.airflow.url)
        monkeypatch.setenv("AIRFLOW_API_USERNAME", AIRFLOW_LOGIN["username"])
        monkeypatch.setenv("AIRFLOW_API_PASSWORD", AIRFLOW_LOGIN["password"])
        monkeypatch.setenv("AIRFLOW_URL", "https://airflow.example.com")
        with serving_requests(server):
            yield handler.airflow


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty prediction log on disk, and the setting for it."""
    monkeypatch.setenv("DASHBOARD_PREDICTION_LOG_URL", f"file://{tmp_path}/predictions")
    return tmp_path / "predictions"


def log_predictions(
    log: Path,
    model: str,
    version: str,
    at: datetime,
    rows: pd.DataFrame,
    files: int = 1,
    rows_per_request: int = 1,
) -> None:
    """Write rows of inputs and `prediction`, starting at `at`, like the model API's log."""
    folder = log / f"model={quote(model, safe='')}" / f"version={version}" / f"date={at.date()}"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        part = rows.iloc[i::files]
        path = folder / f"{secrets.token_hex(8)}.parquet"
        first = at.replace(microsecond=0)
        times = [first + timedelta(milliseconds=j) for j in range(len(part))]
        own = {
            "at": pa.array(times, pa.timestamp("ms", "UTC")),
            "request_id": pa.array(
                [f"{path.stem}-{j // rows_per_request}" for j in range(len(part))]
            ),
            "row": pa.array([0] * len(part), pa.int32()),
            "alias": pa.array(["champion"] * len(part)),
        }
        columns = {name: pa.array(part[name], from_pandas=True) for name in part}
        pq.write_table(pa.table(own | columns), path)
        os.utime(path, (at.timestamp() + 20,) * 2)


@pytest.fixture
def gate(mlflow: MLflow) -> Iterator[Gate]:
    """MLflow behind a gate that a test can close."""
    with Gate(mlflow.url) as server, serving_requests(server):
        yield server


@pytest.fixture
def app(gate: Gate, model_api: ModelApi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Opens the app as a new visitor, signed in if a login is given."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gate.url)
    monkeypatch.setenv("MODEL_API_URL", model_api.url)
    monkeypatch.setenv("MODEL_API_KEY", BEARER)
    monkeypatch.setenv("MLFLOW_PUBLIC_URL", "https://mlflow.example.com")
    st.cache_resource.clear()

    def visit(login: tuple[str, str] | None = None) -> AppTest:
        at = AppTest.from_file(str(APP), default_timeout=120).run()
        return sign_in(at, *login) if login else at

    return visit


def sign_in(at: AppTest, username: str, password: str) -> AppTest:
    """Fill in the form and press the button."""
    name, secret = at.text_input
    name.set_value(username)
    secret.set_value(password)
    return at.button[0].click().run()


def go(at: AppTest, page: str) -> AppTest:
    """Open a page of the navigation."""
    return at.switch_page(f"views/{page}.py").run()


def shown(at: AppTest) -> str:
    """All text on the page."""
    parts: list[str] = []
    kinds = ("title", "subheader", "markdown", "caption", "info", "success", "warning", "error")
    for kind in kinds:
        parts += [element.value for element in at.get(kind)]
    parts += [code.value for code in at.code]
    parts += [f"{metric.label}: {metric.value} {metric.delta}" for metric in at.metric]
    parts += [widget.label for widget in (*at.text_input, *at.selectbox, *at.number_input)]
    parts += [str(option) for box in at.selectbox for option in box.options]
    parts += [element.value.to_string() for element in at.dataframe]
    parts += [element.message for element in at.exception]
    return "\n".join(parts).replace("\\", "")


def press(at: AppTest, label: str) -> AppTest:
    """Click the button with this label."""
    return next(button for button in at.button if button.label == label).click().run()


# ---- the data of the tests ------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Two users with their own experiments and models, and a third without any."""

    alice: tuple[str, str]
    bob: tuple[str, str]
    carol: tuple[str, str]
    runs: dict[str, str]


@pytest.fixture(scope="session")
def world(mlflow: MLflow) -> World:
    alice, bob, carol = (mlflow.create_user(name) for name in ("alice", "bob", "carol"))
    wine = mlflow.create_experiment(alice, "wine")
    runs = {
        name: mlflow.create_run(alice, wine, name, metrics, params, start, status)
        for start, (name, metrics, params, status) in enumerate(
            [
                (
                    "small-forest",
                    {"accuracy": [0.91], "loss": [0.4, 0.3, 0.2]},
                    {"trees": "20"},
                    "FINISHED",
                ),
                (
                    "large-forest",
                    {"accuracy": [0.97], "loss": [0.3, 0.2, 0.1]},
                    {"trees": "200"},
                    "FINISHED",
                ),
                ("broken", {}, {"trees": "-1", "seed": "7"}, "FAILED"),
            ]
        )
    }
    mlflow.create_model(
        alice,
        "wine-classifier",
        [runs["small-forest"], runs["large-forest"]],
    )
    mlflow.set_alias(alice, "wine-classifier", "champion", "1")
    tag = {"run_id": runs["large-forest"], "key": "dataset_hash", "value": "cafe"}
    mlflow.call(alice, "POST", "runs/set-tag", json=tag)
    study = mlflow.create_experiment(bob, "bobs-study")
    mine = mlflow.create_run(bob, study, "bobs-run", {"r2": [0.5]})
    mlflow.create_model(bob, "bobs-model", [mine])
    return World(alice, bob, carol, runs)


def wines(rows: int, alcohol: float = 13.0, red: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Logged inputs and predictions of the wine classifier."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "alcohol": draw.normal(alcohol, 1.0, rows),
            "colour": np.where(draw.random(rows) < red, "red", "white"),
            "prediction": draw.choice(["barolo", "barbera"], rows),
        }
    )


INPUTS = [
    {"name": "alcohol", "type": "double", "required": True},
    {"name": "bottles", "type": "long", "required": True},
    {"name": "note", "type": "string", "required": False},
    {"name": "colour", "type": "string", "required": False},
    {"name": "bottled", "type": "datetime", "required": False},
    {"name": "organic", "type": "boolean", "required": False},
]


def held(name: str, number: str, run_id: str, **more: object) -> dict[str, object]:
    """A version as the model API returns it."""
    return {
        "name": name,
        "version": number,
        "run_id": run_id,
        "signature": {"inputs": INPUTS, "outputs": None, "params": None},
        "example": [{"alcohol": 14.23, "bottles": 3}],
        "classes": None,
        "engine": "onnx",
        "engine_note": "answers as scikit-learn does",
        "requirements": [],
        "categories": {"colour": ["red", "white"]},
        "prepared_at": "2026-09-01T10:00:00+00:00",
        **more,
    }


def alias(version: str | None, wanted: str | None = None, reason: str = "") -> dict[str, object]:
    """An alias as the model API returns it; with a `reason`, `wanted` could not be loaded."""
    wanted = wanted or version
    at = "2026-09-01T10:00:00+00:00"
    return {
        "version": version,
        "since": at if version else None,
        "wanted_version": wanted,
        "moved_at": at,
        "previous_version": None,
        "failure": {"version": wanted, "reason": reason, "attempts": 2, "at": at}
        if reason
        else None,
        "history": [],
    }


@pytest.fixture
def serving(world: World, model_api: ModelApi) -> ModelApi:
    """The model API with one model of alice and one of bob."""
    model_api.models = [
        {
            "name": "wine-classifier",
            "aliases": {"champion": alias("1")},
            "versions": {"1": held("wine-classifier", "1", world.runs["small-forest"])},
            "failures": [],
        },
        {
            "name": "bobs-model",
            "aliases": {"champion": alias("1")},
            "versions": {"1": held("bobs-model", "1", "b" * 32, example=[])},
            "failures": [],
        },
    ]
    return model_api
