"""The airflow role with its defaults: four healthy services, a login, DAGs from the bucket."""

from typing import Any

import pytest
from airflow_outage import PHASES, Airflow, assert_tasks_live_through_an_outage, parallelism
from role_tests import Answer, ServiceContract, ask, role_defaults, wait_until
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-airflow"]

URL = "http://127.0.0.1:8080"
# Airflow's examples and documentation assume this of a task's host; %s is the bucket.
DAG = """
import os, subprocess
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import ObjectStoragePath, dag, task

@dag(schedule=None)
def role_test():
    @task
    def work():
        python = os.environ["LASTRO_PIPELINES_PYTHON"]
        subprocess.run([python, "-c", "import lastro_pipelines"], check=True)

    @task.virtualenv
    def environment_of_its_own():
        import sys
        assert sys.prefix != sys.base_prefix
        assert "/opt/lastro" not in sys.prefix

    @task.external_python(python=os.environ["LASTRO_PIPELINES_PYTHON"], expect_airflow=False)
    def environment_of_the_pipelines():
        import lastro_pipelines

    @task.bash
    def shell():
        return "python --version"

    @task
    def path_in_s3():
        folder = ObjectStoragePath("s3://%s/dags/")
        (folder / "note.txt").write_text("from a task")
        with_connection = ObjectStoragePath("s3://aws_default@%s/dags/note.txt")
        assert with_connection.read_text() == "from a task"
        assert "role_test.py" in [path.name for path in folder.iterdir()]
        with_connection.unlink()

    FileSensor(task_id="file", filepath="/etc/hostname")
    work(), environment_of_its_own(), environment_of_the_pipelines(), shell(), path_in_s3()

role_test()
"""


class TestService(ServiceContract):
    service = "airflow"
    units = (
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
    )
    secrets = (
        "airflow_admin",
        "airflow_api",
        "airflow_database",
        "airflow_fernet",
        "airflow_jwt",
        "airflow_reader",
    )

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        environment = self.environment(host)
        assert environment["AIRFLOW__CORE__PARALLELISM"] == "2"
        executor = "LocalExecutor:lastro_airflow.executor.BoundedLocalExecutor"
        assert environment["AIRFLOW__CORE__EXECUTOR"] == executor
        assert environment["PGSSLMODE"] == "verify-full"


@pytest.fixture
def admin(host: Host, cloud: dict[str, Any]) -> dict[str, str]:
    """The headers of the administrator's requests."""
    answer = log_in(host, cloud["secrets"]["airflow_admin"])
    assert answer.status == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def log_in(host: Host, password: str, user: str = "admin") -> Answer:
    body = {"username": user, "password": password}
    return ask(host, f"{URL}/auth/token", method="POST", body=body)


def test_every_service_is_healthy(host: Host) -> None:
    health = ask(host, f"{URL}/api/v2/monitor/health").json()
    states = {name: part["status"] for name, part in health.items()}
    assert set(states.values()) == {"healthy"}, states
    assert {"metadatabase", "scheduler", "dag_processor", "triggerer"} <= states.keys()


def test_reports_the_version_that_is_pinned(host: Host) -> None:
    answer = ask(host, f"{URL}/api/v2/version").json()
    assert answer["version"] == role_defaults("airflow")["airflow_version"]


def test_a_further_user_may_do_what_its_role_says(host: Host, cloud: dict[str, Any]) -> None:
    answer = log_in(host, cloud["secrets"]["airflow_reader"], "reader")
    assert answer.status == 201, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert ask(host, f"{URL}/api/v2/dags/~/dagRuns", headers=headers).status == 200
    trigger = {"logical_date": None}
    path = f"{URL}/api/v2/dags/any/dagRuns"
    assert ask(host, path, method="POST", body=trigger, headers=headers).status == 403


def test_nobody_gets_in_without_a_login(host: Host) -> None:
    assert ask(host, f"{URL}/api/v2/dags").status == 401
    assert log_in(host, "wrong").status == 401


def test_the_configuration_is_not_shown(host: Host, admin: dict[str, str]) -> None:
    assert ask(host, f"{URL}/api/v2/config", headers=admin).status == 403


def test_a_dag_of_the_bucket_runs_and_finds_what_airflows_examples_assume(
    host: Host, admin: dict[str, str], cloud: dict[str, Any], s3: Any
) -> None:
    bucket = cloud["buckets"]["dags"]
    s3.put_object(Bucket=bucket, Key="dags/role_test.py", Body=(DAG % (bucket, bucket)).encode())
    dag = f"{URL}/api/v2/dags/role_test"
    wait_until(lambda: ask(host, dag, headers=admin).status == 200, "Airflow to read the DAG")

    run = ask(
        host, f"{dag}/dagRuns", method="POST", headers=admin, body={"logical_date": None}
    ).json()
    url = f"{dag}/dagRuns/{run['dag_run_id'].replace('+', '%2B')}"
    state = wait_until(
        lambda: (s := ask(host, url, headers=admin).json()["state"]) in ("success", "failed") and s,
        "the end of the run",
    )
    tasks = ask(host, f"{url}/taskInstances", headers=admin).json()["task_instances"]
    assert state == "success", {task["task_id"]: task["state"] for task in tasks}


def test_a_dag_processor_that_crashed_comes_back_and_reads_new_dags(
    host: Host, admin: dict[str, str], cloud: dict[str, Any], s3: Any
) -> None:
    """Airflow's may crash when many DAGs are deleted at once."""
    unit = "airflow-dag-processor"
    bucket = cloud["buckets"]["dags"]
    try:
        for number in range(2):
            host.check_output("systemctl kill --signal=KILL %s", unit)
            wait_until(lambda: host.service(unit).is_running, f"{unit} to be started again")
            name = f"after_crash_{number}"
            body = f"from airflow.sdk import DAG\ndag = DAG('{name}', schedule=None)\n"
            s3.put_object(Bucket=bucket, Key=f"dags/{name}.py", Body=body.encode())
            dag = f"{URL}/api/v2/dags/{name}"
            wait_until(lambda dag=dag: ask(host, dag, headers=admin).status == 200, "the new DAG")
    finally:
        for number in range(2):
            s3.delete_object(Bucket=bucket, Key=f"dags/after_crash_{number}.py")
        # Counts from here again.
        host.check_output("systemctl reset-failed %s", unit)


def test_tasks_live_through_an_api_server_that_is_away(
    host: Host, cloud: dict[str, Any], s3: Any
) -> None:
    with parallelism(host, len(PHASES)):
        assert_tasks_live_through_an_outage(
            Airflow(host, cloud), s3, cloud["buckets"]["dags"], tuple(PHASES)
        )
