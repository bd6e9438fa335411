"""How long a task waits for Airflow: the limits of roles/airflow/vars/outage.yml, added up."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import yaml
from wiring import ROLES, Wiring

# A task lives through an API server that is away for this long (docs/operations.md).
PROMISE = 180
# The last share of a token's life, in which the API server renews it (JWTReissueMiddleware in
# airflow.api_fastapi.execution_api.app).
RENEWED = 0.2
# How long a request of a worker may take: aiohttp.client.DEFAULT_TIMEOUT.
WORKER_REQUEST = 300


@dataclass(frozen=True)
class Limits:
    """The limits in one service's environment; all times in seconds."""

    attempts: int
    pause_min: float
    pause_max: float
    timeout: float
    heartbeats: int
    heartbeat_interval: float
    heartbeat_timeout: float
    overtime: float
    token: float

    @classmethod
    def of(cls, environment: dict[str, str]) -> Limits:
        workers = "AIRFLOW__WORKERS__"
        return cls(
            attempts=int(environment[f"{workers}EXECUTION_API_RETRIES"]),
            pause_min=float(environment[f"{workers}EXECUTION_API_RETRY_WAIT_MIN"]),
            pause_max=float(environment[f"{workers}EXECUTION_API_RETRY_WAIT_MAX"]),
            timeout=float(environment[f"{workers}EXECUTION_API_TIMEOUT"]),
            heartbeats=int(environment[f"{workers}MAX_FAILED_HEARTBEATS"]),
            heartbeat_interval=float(environment[f"{workers}MIN_HEARTBEAT_INTERVAL"]),
            heartbeat_timeout=float(
                environment["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]
            ),
            overtime=float(environment["AIRFLOW__CORE__TASK_SUCCESS_OVERTIME"]),
            token=float(environment["AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME"]),
        )

    @property
    def shortest_call(self) -> float:
        """How long a call lasts at least: every connection is refused at once."""
        return (self.attempts - 1) * self.pause_min

    @property
    def longest_call(self) -> float:
        """How long a call lasts at most: every attempt times out."""
        return (self.attempts - 1) * self.pause_max + self.attempts * self.timeout


@pytest.fixture(params=["airflow", "airflow_worker"])
def limits(request: pytest.FixtureRequest, workers: Wiring) -> Limits:
    return Limits.of(workers.service(request.param).environment)


@pytest.mark.parametrize(
    ("service", "parts"),
    [("airflow", ["everywhere"]), ("airflow_worker", ["everywhere", "worker"])],
)
def test_the_table_reaches_airflow_and_its_workers(
    workers: Wiring, service: str, parts: list[str]
) -> None:
    table = yaml.safe_load((ROLES / "airflow" / "vars" / "outage.yml").read_text())
    environment = workers.service(service).environment
    for part in parts:
        assert {name: environment.get(name) for name in table[part]} == table[part]


def test_a_call_is_tried_twice_after_the_longest_promised_outage(limits: Limits) -> None:
    # Once would be too few: the first requests of a server that has just started take seconds.
    assert limits.shortest_call - limits.pause_max >= PROMISE


def test_heartbeats_do_not_kill_a_task_in_a_promised_outage(limits: Limits) -> None:
    assert limits.heartbeats * limits.shortest_call >= PROMISE


def test_a_task_that_is_cut_off_ends_before_its_next_try_may_start(limits: Limits) -> None:
    heartbeats = limits.heartbeats * (limits.heartbeat_interval + limits.longest_call)
    assert heartbeats < limits.heartbeat_timeout


def test_the_scheduler_hears_of_a_task_again_before_it_gives_the_task_up(limits: Limits) -> None:
    silence = (
        limits.heartbeat_interval + PROMISE + limits.timeout + 2 * limits.pause_max
    ) + limits.timeout
    assert silence < limits.heartbeat_timeout


def test_a_task_that_ends_in_an_outage_has_time_for_its_callbacks(limits: Limits) -> None:
    # Airflow's own default for them is 20 s.
    assert limits.overtime >= limits.longest_call + 20


def test_a_token_is_renewed_before_any_outage_that_a_task_lives_through(limits: Limits) -> None:
    assert RENEWED * limits.token >= limits.heartbeat_timeout


def test_a_worker_outlasts_a_promised_outage(workers: Wiring) -> None:
    environment = workers.service("airflow_worker").environment
    attempts = int(environment["AIRFLOW__EDGE__API_RETRIES"])
    assert (attempts - 1) * float(environment["AIRFLOW__EDGE__API_RETRY_WAIT_MIN"]) >= PROMISE


def test_a_workers_token_outlasts_its_request(workers: Wiring) -> None:
    environment = workers.service("airflow_worker").environment
    assert int(environment["AIRFLOW__API_AUTH__JWT_LEEWAY"]) >= WORKER_REQUEST
    # Here it would prolong every token that the API server checks.
    assert "AIRFLOW__API_AUTH__JWT_LEEWAY" not in workers.service("airflow").environment
