"""A small client for Airflow's REST API, with the dashboard's read-only login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from urllib.parse import quote

from dashboard.services import SignInRefused, Unavailable, ask, open_client
from dashboard.settings import Settings
from dashboard.untyped import JsonObject

SERVICE = "Airflow"
COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
RUNS = 60
"""Number of DAG runs to read, newest first."""

_TASKS = 100


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG; `state` is Airflow's name for it."""

    dag: str
    id: str
    state: str
    kind: str
    started: datetime | None
    ended: datetime | None
    by: str | None

    @property
    def seconds(self) -> float | None:
        """Duration in seconds, so far while it runs; None before it starts."""
        return _seconds(self.started, self.ended)


@dataclass(frozen=True)
class Task:
    """A task of a DAG run; `state` is `none` before it is scheduled."""

    name: str
    state: str
    started: datetime | None
    ended: datetime | None
    attempt: int

    @property
    def seconds(self) -> float | None:
        """Duration in seconds, so far while it runs; None before it starts."""
        return _seconds(self.started, self.ended)


class Airflow:
    """Airflow, read with the dashboard's login.

    Every method may raise `Unavailable` or `Refused` of `dashboard.services`.
    """

    def __init__(self, url: str, username: str | None, password: str | None) -> None:
        """Send nothing yet; without a username, only `health` works."""
        self._http = open_client(url)
        self._login = {"username": username, "password": password}
        self._token: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The client, or None if the settings have no Airflow URL."""
        if settings.airflow_api_url is None:
            return None
        return cls(settings.airflow_api_url, settings.airflow_username, settings.airflow_password)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> dict[str, str]:
        """The status of each of `COMPONENTS`: `healthy`, `unhealthy` or `unknown`."""
        answer = ask(self._http, SERVICE, "GET", "api/v2/monitor/health")
        return {
            name: str((answer.get(name) or {}).get("status") or "unknown") for name in COMPONENTS
        }

    def dag_runs(self) -> list[DagRun]:
        """The newest `RUNS` runs of all DAGs, newest first."""
        answer = self._ask("api/v2/dags/~/dagRuns", {"limit": RUNS, "order_by": "-run_after"})
        return [
            DagRun(
                dag=item["dag_id"],
                id=item["dag_run_id"],
                state=item["state"],
                kind=item["run_type"],
                started=_time(item["start_date"]),
                ended=_time(item["end_date"]),
                by=item.get("triggering_user_name"),
            )
            for item in answer["dag_runs"]
        ]

    def tasks(self, dag: str, run: str) -> list[Task]:
        """The tasks of a run in the order of their start; tasks that have not started come last."""
        path = f"api/v2/dags/{quote(dag, safe='')}/dagRuns/{quote(run, safe='')}/taskInstances"
        answer = self._ask(path, {"limit": _TASKS})
        tasks = [
            Task(
                name=_task_name(item),
                state=item["state"] or "none",
                started=_time(item["start_date"]),
                ended=_time(item["end_date"]),
                attempt=item["try_number"],
            )
            for item in answer["task_instances"]
        ]
        return sorted(tasks, key=lambda task: (task.started is None, task.started, task.name))

    def _ask(self, path: str, params: Mapping[str, object]) -> JsonObject:
        # A token expires, or becomes invalid with a new secret of Airflow. Log in again once; if
        # Airflow rejects the new token as well, it is an error.
        for fresh in (self._token is None, True):
            if fresh:
                self._log_in()
            try:
                headers = {"Authorization": f"Bearer {self._token}"}
                return ask(self._http, SERVICE, "GET", path, headers=headers, params=params)
            except SignInRefused:
                self._token = None
        raise Unavailable(f"{SERVICE} rejects the token that it has just issued.")

    def _log_in(self) -> None:
        try:
            self._token = ask(self._http, SERVICE, "POST", "auth/token", json=self._login)[
                "access_token"
            ]
        except SignInRefused:
            raise Unavailable(
                f"{SERVICE} rejects the dashboard's login: check AIRFLOW_API_USERNAME "
                "and AIRFLOW_API_PASSWORD."
            ) from None


def _task_name(item: JsonObject) -> str:
    task: str = item["task_id"]
    if item["map_index"] < 0:
        return task
    return f"{task} [{item.get('rendered_map_index') or item['map_index']}]"


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _seconds(started: datetime | None, ended: datetime | None) -> float | None:
    return ((ended or datetime.now(UTC)) - started).total_seconds() if started else None
