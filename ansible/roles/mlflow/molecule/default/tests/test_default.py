"""The mlflow role with its defaults: on the loopback address, behind its users, artifacts in S3."""

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from role_tests import Answer, ServiceContract, ask, role_defaults, wait_until
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-mlflow"]

URL = "http://127.0.0.1:5000"


class TestService(ServiceContract):
    service = "mlflow"
    units = ("mlflow",)
    secrets = (
        "mlflow_admin",
        "mlflow_auth_database",
        "mlflow_database",
        "mlflow_session",
        "mlflow_webhooks",
    )

    def test_the_configuration_reaches_the_process(self, host: Host, cloud: dict[str, Any]) -> None:
        environment = self.environment(host)
        assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == (
            f"s3://{cloud['buckets']['artifacts']}/mlflow"
        )
        assert environment["AWS_REGION"] == cloud["region"]
        assert environment["PGSSLMODE"] == "verify-full"
        assert environment["PGCONNECT_TIMEOUT"] == "30"
        assert environment["MLFLOW_WORKERS"] == "2"
        # Each worker keeps a cache of its own: a removed webhook would still get events.
        assert environment["MLFLOW_WEBHOOK_CACHE_TTL"] == "0"

    def test_a_worker_that_starts_slowly_is_not_killed(self, host: Host) -> None:
        # Of the process that watches the workers: MLflow's own only starts it.
        arguments = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert " -m uvicorn --timeout-worker-healthcheck 120 " in arguments


class Admin:
    """The administrator's calls to MLflow."""

    def __init__(self, host: Host, password: str) -> None:
        self._host = host
        login = base64.b64encode(f"admin:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {login}"}

    def call(self, path: str, body: object = None, **options: Any) -> Answer:
        method = "GET" if body is None else "POST"
        url = f"{URL}/api/2.0/{path}"
        arguments = {"method": method, "headers": self.headers, "body": body} | options
        return ask(self._host, url, **arguments)


def workers(host: Host) -> list[int]:
    """The process ids of the server's workers."""
    # Not those of this command itself, whose arguments are a pattern.
    files = host.run("grep --files-with-matches '[s]pawn_main' /proc/[0-9]*/cmdline").stdout
    return [int(file.split("/")[2]) for file in files.split()]


def ask_each_worker(host: Host, question: Callable[[], Answer]) -> list[Answer]:
    """Ask each worker once: the others are stopped meanwhile, and accept no connection."""
    answers = []
    everyone = workers(host)
    for worker in everyone:
        others = " ".join(str(other) for other in everyone if other != worker)
        host.check_output(f"kill -STOP {others}")
        try:
            answers.append(question())
        finally:
            host.check_output(f"kill -CONT {others}")
    return answers


@pytest.fixture
def admin(host: Host, cloud: dict[str, Any]) -> Admin:
    return Admin(host, cloud["secrets"]["mlflow_admin"])


def test_is_healthy(host: Host) -> None:
    assert ask(host, f"{URL}/health").status == 200


def test_reports_the_version_that_is_pinned(host: Host, admin: Admin) -> None:
    answer = ask(host, f"{URL}/version", headers=admin.headers)
    assert answer.text == role_defaults("mlflow")["mlflow_version"]


def test_nobody_gets_in_without_a_login(host: Host) -> None:
    for path in ("mlflow/experiments/search?max_results=1", "mlflow/users/get?username=admin"):
        assert ask(host, f"{URL}/api/2.0/{path}").status == 401, path


def test_a_wrong_password_is_refused(host: Host) -> None:
    wrong = Admin(host, "wrong-password-1")
    assert wrong.call("mlflow/experiments/search?max_results=1").status == 401


def test_a_name_that_is_not_its_own_is_refused(host: Host, admin: Admin) -> None:
    """A page of another site that resolves to this host gets nothing."""
    headers = admin.headers | {"Host": "evil.example.com"}
    answer = ask(host, f"{URL}/api/2.0/mlflow/experiments/search?max_results=1", headers=headers)
    assert answer.status == 403


def test_a_run_is_recorded_and_its_artifact_lies_in_the_bucket(
    admin: Admin, cloud: dict[str, Any], s3: Any
) -> None:
    name = "role-test"
    made = admin.call("mlflow/experiments/create", {"name": name})
    if made.status == 200:
        experiment = made.json()["experiment_id"]
    else:
        found = admin.call(f"mlflow/experiments/get-by-name?experiment_name={name}")
        experiment = found.json()["experiment"]["experiment_id"]
    run = admin.call("mlflow/runs/create", {"experiment_id": experiment, "start_time": 1}).json()
    run_id = run["run"]["info"]["run_id"]
    metric = {"run_id": run_id, "key": "accuracy", "value": 0.5, "timestamp": 1}
    assert admin.call("mlflow/runs/log-metric", metric).status == 200

    path = f"{experiment}/{run_id}/artifacts/note.txt"
    put = admin.call(f"mlflow-artifacts/artifacts/{path}", method="PUT", text="from a test")
    assert put.status == 200, put.text

    read = admin.call(f"mlflow/runs/get?run_id={run_id}").json()["run"]["data"]
    assert [(metric["key"], metric["value"]) for metric in read["metrics"]] == [("accuracy", 0.5)]
    stored = s3.get_object(Bucket=cloud["buckets"]["artifacts"], Key=f"mlflow/{path}")
    assert stored["Body"].read() == b"from a test"


def test_a_worker_that_is_held_up_is_kept(host: Host) -> None:
    before = workers(host)
    assert len(before) == 2
    host.check_output(f"kill -STOP {before[0]}")
    # Longer than uvicorn's own patience of 5 s: so it is when a host is short of CPU.
    time.sleep(12)
    host.run(f"kill -CONT {before[0]}")
    assert workers(host) == before
    for answer in ask_each_worker(host, lambda: ask(host, f"{URL}/health")):
        assert answer.status == 200


def test_every_worker_reads_the_secret_of_a_webhook_and_so_does_one_that_starts_later(
    host: Host, admin: Admin
) -> None:
    # Of the webhook nothing happens: nobody sends to its address.
    events = [{"entity": "PROMPT", "action": "CREATED"}]
    webhook = {"name": "role-test", "url": "https://1.1.1.1/", "secret": "s3", "events": events}
    made = admin.call("mlflow/webhooks", webhook)
    assert made.status == 200, made.text
    try:
        before = workers(host)
        for answer in ask_each_worker(host, lambda: admin.call("mlflow/webhooks")):
            assert answer.status == 200, answer.text
        # A dead worker is replaced. The new one knows what is stored, as all do after a restart.
        host.check_output(f"kill -KILL {before[0]}")
        wait_until(lambda: len(now := workers(host)) == 2 and before[0] not in now, "a new worker")
        for answer in ask_each_worker(host, lambda: admin.call("mlflow/webhooks")):
            assert answer.status == 200, answer.text
    finally:
        webhook_id = made.json()["webhook"]["webhook_id"]
        admin.call(f"mlflow/webhooks/{webhook_id}", method="DELETE")


def test_the_list_of_language_models_does_not_come_from_the_internet(
    host: Host, admin: Admin
) -> None:
    """Each of its files would be requested several times, and fail after seconds."""
    began = time.monotonic()
    url = f"{URL}/ajax-api/3.0/mlflow/gateway/supported-models"
    answer = ask(host, url, headers=admin.headers)
    assert answer.status == 200
    assert len(answer.json()["models"]) > 1000
    assert time.monotonic() - began < 60
