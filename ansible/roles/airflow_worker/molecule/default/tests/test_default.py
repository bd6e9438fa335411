"""The airflow_worker role with its defaults: tasks run on it, end in peace, and survive it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import airflow_outage
import pytest
from role_tests import Answer, ServiceContract, ask, wait_until
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-airflow"]

URL = "http://127.0.0.1:8080"
NAME = "lastro-molecule-airflow"
LINES = 3000
DAG = f"""
import os, subprocess, time
from airflow.sdk import dag, task

@dag(schedule=None, params={{"seconds": 0}})
def worker_test():
    @task
    def first():
        python = os.environ["LASTRO_PIPELINES_PYTHON"]
        subprocess.run([python, "-c", "import lastro_pipelines"], check=True)
        for number in range({LINES}):
            print(f"line {{number}} of the first task")
        print(f"user {{os.getuid()}}")

    @task
    def second(params=None):
        time.sleep(params["seconds"])

    first() >> second()

worker_test()
"""


class TestService(ServiceContract):
    service = "airflow_worker"
    units = ("airflow-worker",)
    secrets = ("airflow_jwt",)

    def test_other_hosts_reach_no_other_port(self, host: Host) -> None:
        owner = f"uid:{host.user(self.service).uid} "
        lines = host.check_output("ss --no-header --listening --tcp --udp --numeric --extended")
        assert [line for line in lines.splitlines() if owner in f"{line} "] == []

    def test_a_worker_has_only_the_secrets_that_it_needs(
        self, host: Host, cloud: dict[str, Any]
    ) -> None:
        # The process title overwrites the environment of the process.
        file = host.file("/etc/lastro/airflow_worker.env").content_string
        for name in ("airflow_admin", "airflow_api", "airflow_database", "airflow_fernet"):
            assert cloud["secrets"][name] not in file, name
        assert cloud["secrets"]["airflow_jwt"] in file
        for word in ("SQL_ALCHEMY_CONN", "FERNET", "PGSSLMODE"):
            assert word not in file


@dataclass(frozen=True)
class Airflow:
    """Airflow's API, as its administrator asks it."""

    host: Host
    headers: dict[str, str]

    def ask(self, path: str, **options: Any) -> Answer:
        return ask(self.host, f"{URL}/api/v2/{path}", headers=self.headers, **options)

    def trigger(self, **parameters: Any) -> str:
        """Start a run; its path."""
        body = {"logical_date": None, "conf": parameters}
        answer = self.ask("dags/worker_test/dagRuns", method="POST", body=body)
        assert answer.status == 200, answer.text
        return f"dags/worker_test/dagRuns/{quote(answer.json()['dag_run_id'], safe='')}"

    def task(self, run: str, task: str) -> dict[str, Any]:
        return self.ask(f"{run}/taskInstances/{task}").json()

    def log(self, run: str, task: str) -> str:
        return self.ask(f"{run}/taskInstances/{task}/logs/1").text

    def end(self, run: str) -> str:
        """How a run ended."""
        states = ("success", "failed")
        return wait_until(
            lambda: (state := self.ask(run).json()["state"]) in states and state,
            "the end of the run",
        )


@pytest.fixture(scope="module")
def airflow(host: Host, cloud: dict[str, Any], s3: Any) -> Airflow:
    """Airflow, once it has read the DAG of these tests."""
    body = {"username": "admin", "password": cloud["secrets"]["airflow_admin"]}
    answer = ask(host, f"{URL}/auth/token", method="POST", body=body)
    assert answer.status == 201, answer.text
    airflow = Airflow(host, {"Authorization": f"Bearer {answer.json()['access_token']}"})
    s3.put_object(Bucket=cloud["buckets"]["dags"], Key="dags/worker_test.py", Body=DAG.encode())
    wait_until(lambda: airflow.ask("dags/worker_test").status == 200, "Airflow to read the DAG")
    return airflow


def test_tasks_run_on_the_worker_and_a_restart_waits_for_them(host: Host, airflow: Airflow) -> None:
    run = airflow.trigger(seconds=20)
    wait_until(lambda: airflow.task(run, "second")["state"] == "running", "the second task to run")
    before = host.check_output("systemctl show --value -p MainPID airflow-worker")
    host.check_output("systemctl restart airflow-worker")
    assert host.check_output("systemctl show --value -p MainPID airflow-worker") != before
    # It had ended when the worker did.
    second = airflow.task(run, "second")
    assert (second["state"], second["try_number"], second["hostname"]) == ("success", 1, NAME)
    first = airflow.task(run, "first")
    assert (first["state"], first["try_number"], first["hostname"]) == ("success", 1, NAME)
    assert airflow.end(run) == "success"

    log = airflow.log(run, "first")
    assert [n for n in range(LINES) if f"line {n} of the first task" not in log] == []
    assert log.count("of the first task") == LINES
    assert f"user {host.user('airflow_worker').uid}" in log


def test_a_worker_that_was_killed_comes_back_and_works(host: Host, airflow: Airflow) -> None:
    ready = "test -s /run/airflow_worker/worker.pid"
    wait_until(lambda: host.run(ready).rc == 0, "the worker of the restart to be ready")
    host.check_output("systemctl kill --signal=KILL airflow-worker")
    began = time.monotonic()
    wait_until(lambda: host.run(ready).rc != 0, "its file to go")
    wait_until(lambda: host.run(ready).rc == 0, "the killed worker to come back")
    print(f"back after {time.monotonic() - began:.0f} s")
    assert airflow.end(airflow.trigger()) == "success"
    # It forgets the restarts, which the tests of all services look for.
    host.check_output("systemctl restart airflow-worker")


def test_tasks_live_through_an_api_server_that_is_away(
    host: Host, cloud: dict[str, Any], s3: Any
) -> None:
    # Airflow, its worker and six tasks are too much for this host's memory. The calls of the other
    # phases are the same on Airflow's own host.
    phases = ("running", "ending", "reading", "variable")
    airflow = airflow_outage.Airflow(host, cloud)

    def concurrency(tasks: int) -> None:
        airflow.command("edge", "set-worker-concurrency", "-H", NAME, "-c", str(tasks))

    with airflow_outage.parallelism(host, len(phases)):
        concurrency(len(phases))
        try:
            airflow_outage.assert_tasks_live_through_an_outage(
                airflow, s3, cloud["buckets"]["dags"], phases
            )
        finally:
            concurrency(1)
