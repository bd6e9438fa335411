"""Several visitors at once: each client speaks with its own login, and only with that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import MLflow

from dashboard import tracking
from dashboard.services import Refused
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


def test_runs_are_read_page_by_page_up_to_the_limit(
    mlflow: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_PAGE", 2)
    login = mlflow.create_user("pager")
    experiment = mlflow.create_experiment(login, "pages")
    for i in range(5):
        mlflow.create_run(login, experiment, f"run-{i}", {"m": [float(i)]}, start=i)
    client = Tracking(mlflow.url, *login)
    newest_first = [f"run-{i}" for i in (4, 3, 2, 1, 0)]
    assert [run.name for run in client.runs([experiment])] == newest_first
    assert [run.name for run in client.runs([experiment], limit=3)] == newest_first[:3]
    assert client.runs([]) == []
    client.close()


def test_another_s_run_is_refused(mlflow: MLflow) -> None:
    owner, other = mlflow.create_user("owner"), mlflow.create_user("other")
    run = mlflow.create_run(owner, mlflow.create_experiment(owner, "own"), "r", {"m": [1.0]})
    client = Tracking(mlflow.url, *other)
    with pytest.raises(Refused, match="MLflow refused"):
        client.run(run)
    client.close()
