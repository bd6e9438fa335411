"""Shared by the tests: real servers, and waiting for conditions."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest


def eventually(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """Return the condition's first true value; fail if there is none within the time."""
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


# One connection per request, so that any worker may answer. One client per request would take ten
# times as long, because it loads the system's certificates.
HTTP = httpx.Client(timeout=20, limits=httpx.Limits(max_keepalive_connections=0))


def answers(url: str) -> bool:
    """Tell whether the URL returns 200."""
    try:
        return HTTP.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


class Process:
    """A server process that listens at ``url``."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log


@contextmanager
def running(
    command: list[str], environment: dict[str, str], folder: Path, port: int, health: str
) -> Iterator[Process]:
    """Run a server until the block ends; first wait for its health path."""
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
        deadline = time.monotonic() + 300
        while not answers(server.url + health):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command} did not come up:\n{log.read_text()}")
            time.sleep(0.1)
        yield server
    finally:
        # The whole group, because MLflow's command starts its workers as separate processes.
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
