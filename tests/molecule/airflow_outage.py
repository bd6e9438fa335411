"""An outage of Airflow's API server, with a task in each phase in which tasks need it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from role_tests import Answer, ask, wait_until
from testinfra.host import Host

URL = "http://127.0.0.1:8080"
# Tasks died after 47 to 61 s when Airflow's defaults were in force; three minutes are promised.
AWAY_SECONDS = 185 if os.environ.get("LASTRO_FULL") else 75

# Each phase of a task, and the value that the task leaves in XCom.
PHASES: dict[str, Any] = {
    "running": "ran on",
    "ending": None,
    "writing": "written",
    "reading": 43,
    "variable": "of the variable",
    "connection": "db.example.com",
}
DAG = """
import socket, time
from urllib.parse import urlsplit
from airflow.sdk import Connection, Variable, dag, get_current_context, task
from airflow.sdk.configuration import conf

def until_the_api_server(listens):
    address = urlsplit(conf.get("core", "execution_api_server_url"))
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address.hostname, address.port), timeout=1).close()
            found = True
        except OSError:
            found = False
        if found == listens:
            return
        time.sleep(0.5)
    raise TimeoutError("there was no outage")

def outage():
    # A task that is not this far when the outage begins would start in it.
    get_current_context()["ti"].xcom_push("waiting", True)
    until_the_api_server(listens=False)

def succeeded(context):
    print("the callback ran")

@dag(schedule=None)
def outage_test():
    @task
    def source():
        return 42

    @task
    def running():
        outage()
        until_the_api_server(listens=True)
        return "ran on"

    @task(on_success_callback=succeeded)
    def ending():
        outage()

    @task
    def writing():
        outage()
        return "written"

    @task
    def reading():
        outage()
        return get_current_context()["ti"].xcom_pull(task_ids="source") + 1

    @task
    def variable():
        outage()
        value = Variable.get("outage_test")
        Variable.set("outage_test_copy", value)
        return value

    @task
    def connection():
        outage()
        return Connection.get("outage_test").host

    source() >> [PHASES]

outage_test()

@dag(schedule=None)
def outage_test_start():
    @task
    def starting():
        return "started"

    starting()

outage_test_start()
"""


class Airflow:
    """Airflow's API, as its administrator asks it."""

    def __init__(self, host: Host, cloud: dict[str, Any]) -> None:
        self.host = host
        body = {"username": "admin", "password": cloud["secrets"]["airflow_admin"]}
        answer = ask(host, f"{URL}/auth/token", method="POST", body=body)
        assert answer.status == 201, answer.text
        self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def ask(self, path: str, **options: Any) -> Answer:
        return ask(self.host, f"{URL}/api/v2/{path}", headers=self._headers, **options)

    def put(self, collection: str, key: str, body: dict[str, str]) -> None:
        """Make an object, in place of one that an earlier run left."""
        self.ask(f"{collection}/{key}", method="DELETE")
        answer = self.ask(collection, method="POST", body=body)
        assert answer.status == 201, answer.text

    def command(self, *arguments: str) -> None:
        """Run Airflow's command, which needs the database and no API server."""
        self.host.check_output(
            "systemd-run --quiet --wait --collect --pipe --uid=airflow"
            " --property=EnvironmentFile=/etc/lastro/airflow.env"
            " --working-directory=/var/lib/airflow /opt/lastro/airflow/current/venv/bin/airflow"
            + " %s"
            * len(arguments),
            *arguments,
        )

    def answers(self) -> bool:
        """Whether the API server answers."""
        question = f"import urllib.request as r; r.urlopen('{URL}/api/v2/version', timeout=60)"
        return self.host.run("python3 -c %s", question).rc == 0

    def tasks(self, dag: str) -> set[str]:
        """The tasks of a DAG in Airflow's latest version of it; empty if there is none."""
        answer = self.ask(f"dags/{dag}/tasks")
        return {task["task_id"] for task in answer.json().get("tasks", ())}

    def states(self, run: str) -> dict[str, tuple[str, int]]:
        """The state and the number of tries of each task of a run."""
        tasks = self.ask(f"{run}/taskInstances").json()["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in tasks}

    def xcom(self, run: str, task: str, key: str = "return_value") -> Any:
        """An XCom value of a task, by default its return value."""
        answer = self.ask(f"{run}/taskInstances/{task}/xcomEntries/{key}")
        return answer.json()["value"] if answer.status == 200 else None

    def stop_for(self, seconds: float, meanwhile: Callable[[], None]) -> float:
        """Stop the API server for a time; the seconds until it answered again."""
        began = time.monotonic()
        self.host.check_output("systemctl stop airflow-api-server")
        meanwhile()
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        self.host.check_output("systemctl start airflow-api-server")
        wait_until(self.answers, "the API server to answer")
        return time.monotonic() - began


@contextmanager
def parallelism(host: Host, tasks: int) -> Iterator[None]:
    """Let the scheduler run so many tasks at a time, so that all phases share one outage."""
    folder = "/run/systemd/system/airflow-scheduler.service.d"
    environment = "/run/outage-test.env"
    restart = "systemctl daemon-reload && systemctl restart airflow-scheduler"
    host.check_output(
        f"mkdir -p {folder}"
        f" && echo AIRFLOW__CORE__PARALLELISM={tasks} >{environment}"
        f" && printf '[Service]\\nEnvironmentFile={environment}\\n' >{folder}/outage-test.conf"
        f" && {restart}"
    )
    try:
        yield
    finally:
        host.check_output(f"rm -r {folder} {environment} && {restart}")


def assert_tasks_live_through_an_outage(
    airflow: Airflow, s3: Any, bucket: str, phases: tuple[str, ...]
) -> None:
    """Take the API server away from tasks in these phases, and from one that is to start."""
    dag = DAG.replace("PHASES", ", ".join(f"{phase}()" for phase in phases))
    s3.put_object(Bucket=bucket, Key="dags/outage_test.py", Body=dag.encode())
    airflow.put("variables", "outage_test", {"key": "outage_test", "value": "of the variable"})
    connection = {"connection_id": "outage_test", "conn_type": "http", "host": "db.example.com"}
    airflow.put("connections", "outage_test", connection)
    # The scenario of another role may have left a DAG of this name with other phases.
    tasks = {"source", *phases}
    wait_until(lambda: airflow.tasks("outage_test") == tasks, "Airflow to read the DAGs")
    wait_until(lambda: airflow.tasks("outage_test_start"), "Airflow to read the DAGs")

    # The time of the start counts as well, and on a busy machine it is most of the outage.
    away = AWAY_SECONDS - airflow.stop_for(0, lambda: None)

    body = {"logical_date": None}
    answer = airflow.ask("dags/outage_test/dagRuns", method="POST", body=body)
    assert answer.status == 200, answer.text
    run = f"dags/outage_test/dagRuns/{quote(answer.json()['dag_run_id'], safe='')}"
    wait_until(
        lambda: all(airflow.xcom(run, phase, "waiting") for phase in phases),
        "all tasks to run",
    )
    started = f"start-{time.time_ns()}"
    took = airflow.stop_for(
        away, lambda: airflow.command("dags", "trigger", "outage_test_start", "--run-id", started)
    )
    print(f"the API server was away for {took:.0f} s")

    runs = (run, f"dags/outage_test_start/dagRuns/{started}")
    for path in runs:
        wait_until(
            lambda path=path: airflow.ask(path).json()["state"] in ("success", "failed"),
            "the end of the run",
        )
    assert airflow.states(run) == dict.fromkeys(("source", *phases), ("success", 1))
    assert airflow.states(runs[1]) == {"starting": ("success", 1)}
    assert {phase: airflow.xcom(run, phase) for phase in phases} == {
        phase: PHASES[phase] for phase in phases
    }
    if "variable" in phases:
        copy = airflow.ask("variables/outage_test_copy").json()
        assert copy["value"] == "of the variable"
    assert "the callback ran" in airflow.ask(f"{run}/taskInstances/ending/logs/1").text
