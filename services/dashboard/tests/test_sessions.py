"""Several visitors at once: each client speaks with its own login, and only with that."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import MLflow

from dashboard import board, services
from dashboard.airflow import Airflow
from dashboard.services import TIMEOUT, Away, Refused
from dashboard.serving import ModelApi
from dashboard.session import Session
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


def test_what_hangs_holds_a_page_once_and_all_services_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every service takes the connection and never answers."""
    monkeypatch.setattr(services, "TIMEOUT", TIMEOUT)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        session = Session(
            username="x",
            settings=Settings(url, url, "key"),
            tracking=Tracking(url, "x", "y"),
            apis=(ModelApi(url, "key"), ModelApi(url, "key")),
            airflow=Airflow(url, "x", "y"),
        )
        begin = time.monotonic()
        session.begin()
        board.prepare(session)
        with pytest.raises(Away):
            board.registered_models(session)
        taken = time.monotonic() - begin
        # One after the other, the four would take as many times as long.
        assert TIMEOUT.read <= taken < 3 * TIMEOUT.read
        begin = time.monotonic()
        session.begin()
        board.prepare(session)
        with pytest.raises(Away):
            board.registered_models(session)
        assert time.monotonic() - begin < TIMEOUT.read
        session.close()


def test_another_s_run_is_refused(mlflow: MLflow) -> None:
    owner, other = mlflow.create_user("owner"), mlflow.create_user("other")
    run = mlflow.create_run(owner, mlflow.create_experiment(owner, "own"), "r", {"m": [1.0]})
    client = Tracking(mlflow.url, *other)
    with pytest.raises(Refused, match="MLflow refused"):
        client.run(run)
    client.close()
