"""Shared by the tests: a real MLflow server with an empty registry."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an MLflow server for the whole session; return its URL."""
    executable = os.environ.get("LASTRO_MLFLOW_SERVER")
    if not executable:
        pytest.fail(
            "LASTRO_MLFLOW_SERVER is not set: install locks/mlflow/<version>.txt into an"
            " environment of its own and set it to that environment's bin/mlflow"
        )
    folder: Path = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = folder / "server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [executable, "server"],
            env=os.environ | environment,
            cwd=folder,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while not _answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the MLflow server did not come up:\n{log.read_text()}")
            time.sleep(0.2)
        yield url
    finally:
        # The whole group: MLflow's command starts its workers as processes of their own.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def tracking(mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point MLflow's client at the server; return its URL."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return mlflow_url
