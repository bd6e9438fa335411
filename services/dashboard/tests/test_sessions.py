"""Concurrent visitors: each client uses only its own login."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import MLflow, serving_requests

from dashboard import board, services, session
from dashboard.airflow import Airflow
from dashboard.services import Refused, Slow
from dashboard.serving import ModelApi
from dashboard.session import WAIT_SECONDS, Session
from dashboard.settings import Settings
from dashboard.tracking import Tracking


def test_concurrent_clients_never_mix_their_logins(mlflow: MLflow) -> None:
    logins = [mlflow.create_user(f"visitor-{i}") for i in range(4)]
    for login in logins:
        mlflow.create_experiment(login, f"work-of-{login[0]}")
    clients = {login[0]: Tracking(mlflow.url, *login) for login in logins}

    def look(name: str) -> tuple[str, str, list[str]]:
        client = clients[name]
        return name, client.check_login(), [e.name for e in client.experiments()]

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(look, [name for name, _ in logins] * 10))
    assert seen == [(name, name, [f"work-of-{name}"]) for name, _ in logins] * 10
    for client in clients.values():
        client.close()


def test_runs_are_read_page_by_page(mlflow: MLflow) -> None:
    login = mlflow.create_user("pager")
    experiment = mlflow.create_experiment(login, "pages")
    for i in range(3):
        mlflow.create_run(login, experiment, f"run-{i}", {"m": [float(i)]}, start=i)
    client = Tracking(mlflow.url, *login)
    first = client.runs([experiment], limit=2)
    second = client.runs([experiment], token=first.next_token, limit=2)
    assert [run.name for run in first.runs] == ["run-2", "run-1"]
    assert [run.name for run in second.runs] == ["run-0"] and second.next_token is None
    assert client.runs([]).runs == ()
    client.close()


def test_a_page_waits_once_and_in_parallel_for_services_that_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every service accepts the connection and never answers."""
    monkeypatch.setattr(session, "WAIT_SECONDS", WAIT_SECONDS)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        visit = Session(
            username="x",
            settings=Settings(url, url, "key"),
            tracking=Tracking(url, "x", "y"),
            apis=(ModelApi(url, "key"), ModelApi(url, "key")),
            airflow=Airflow(url, "x", "y"),
        )
        begin = time.monotonic()
        visit.begin()
        board.prepare(visit)
        with pytest.raises(Slow):
            board.registered_models(visit)
        taken = time.monotonic() - begin
        # Five waits in sequence would take five times as long.
        assert WAIT_SECONDS <= taken < 3 * WAIT_SECONDS
        begin = time.monotonic()
        visit.begin()
        with pytest.raises(Slow):
            board.registered_models(visit)
        assert time.monotonic() - begin < WAIT_SECONDS
        visit.close()


class _Dripping(BaseHTTPRequestHandler):
    """Sends a byte now and then, but never the last one."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_slow_and_endless_answer_times_out() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Dripping) as server, serving_requests(server):
        server.daemon_threads = True
        client = services.open_client(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(Slow, match=r"did not answer within 0\.3 s"):
            services.ask(client, "MLflow", "GET", "x", 0.3)
        with pytest.raises(Refused, match="limit of 0 MiB"):
            services.fetch(client, "MLflow", "x", 10)
        client.close()


def test_the_run_of_another_user_is_refused(mlflow: MLflow) -> None:
    owner, other = mlflow.create_user("owner"), mlflow.create_user("other")
    run = mlflow.create_run(owner, mlflow.create_experiment(owner, "own"), "r", {"m": [1.0]})
    client = Tracking(mlflow.url, *other)
    with pytest.raises(Refused, match="MLflow refused"):
        client.run(run)
    client.close()
