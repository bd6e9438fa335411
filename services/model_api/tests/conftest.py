"""What the tests share: settings, a registry in memory, small models, real servers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pandas as pd
import pytest
from mlflow.types import DataType

from model_api.model import Model
from model_api.schema import Column, RowSchema
from model_api.settings import Settings

KEY = "0123456789abcdef" * 4
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


def make_settings(**changes: Any) -> Settings:
    """Return settings that point nowhere and poll often."""
    values = {"tracking_uri": "http://127.0.0.1:9", "key": KEY, "poll_seconds": 0.02}
    return Settings(**values | changes)


def make_model(version: str = "1", **changes: Any) -> Model:
    """Return a model that adds its two inputs."""
    values: dict[str, Any] = {
        "name": "sum",
        "version": version,
        "run_id": f"run-{version}",
        "schema": RowSchema([Column("a", DataType.double, True), Column("n", DataType.long, True)]),
        "estimator": lambda frame: (frame["a"] + frame["n"]).to_numpy(),
        "probabilities": None,
        "example": pd.DataFrame({"a": [1.5, 2.0], "n": [1, 2]}),
    }
    return Model(**values | changes)


class MemoryRegistry:
    """A registry whose answers a test sets; an exception in place of a value is raised."""

    def __init__(self) -> None:
        self.aliases: dict[str, str | None] | Exception = {}
        self.models: dict[tuple[str, str], Model | Exception] = {}
        self.loads: list[tuple[str, str]] = []

    def champions(self) -> dict[str, str | None]:
        """Return the aliases."""
        if isinstance(self.aliases, Exception):
            raise self.aliases
        return dict(self.aliases)

    def load(self, name: str, version: str) -> Model:
        """Return the model."""
        self.loads.append((name, version))
        model = self.models[name, version]
        if isinstance(model, Exception):
            raise model
        return model


@pytest.fixture
def registry() -> MemoryRegistry:
    """Return a registry whose model ``sum`` has the champion 1."""
    memory = MemoryRegistry()
    memory.aliases = {"sum": "1"}
    memory.models["sum", "1"] = make_model("1")
    return memory


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the condition's first true value; fail if it has none within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"not true within {seconds} s")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url: str) -> bool:
    """Tell whether the URL answers 200."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


class Process:
    """A server process; ``url`` is where it listens."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log


@contextmanager
def running(
    command: list[str], environment: dict[str, str], folder: Path, port: int, health: str
) -> Iterator[Process]:
    """Run a server until the block ends; wait for its health path first."""
    log = folder / f"{port}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            cwd=folder,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    server = Process(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + 90
        while not answers(server.url + health):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command} did not come up:\n{log.read_text()}")
            time.sleep(0.1)
        yield server
    finally:
        # The whole group: MLflow's command starts its workers as processes of their own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Process]:
    """Run a real MLflow server with an empty registry."""
    executable = os.environ.get("LASTRO_MLFLOW_SERVER")
    if not executable:
        pytest.fail(
            "LASTRO_MLFLOW_SERVER is not set: install locks/mlflow/<version>.txt into an"
            " environment of its own and set it to that environment's bin/mlflow"
        )
    port = free_port()
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with running([executable, "server"], environment, folder, port, "/health") as server:
        yield server


@contextmanager
def model_api(folder: Path, tracking_uri: str) -> Iterator[Process]:
    """Run the service as it runs in production."""
    port = free_port()
    environment = {
        "MODEL_API_KEY": KEY,
        "MODEL_API_PORT": str(port),
        "MODEL_API_POLL_SECONDS": "0.3",
        "MODEL_API_REGISTRY_TIMEOUT_SECONDS": "2",
        "MLFLOW_TRACKING_URI": tracking_uri,
    }
    command = [sys.executable, "-m", "model_api"]
    with running(command, environment, folder, port, "/health/live") as server:
        yield server
