"""`make verify`: the running environment that ENV names works and is locked. Changes nothing."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from lastro_platform import PINNED, Platform, wait_until

# Which tests there are follows from the environment: it may have no worker.
HERE = Platform(os.environ.get("LASTRO_ENVIRONMENT", "local"))
SERVICES = HERE.services


@pytest.mark.parametrize(
    ("service", "unit"), [(service, unit) for service in SERVICES for unit in HERE.units[service]]
)
def test_unit_runs_and_will_after_a_reboot(platform: Platform, service: str, unit: str) -> None:
    found = platform.host(service).service(unit)
    assert found.is_running
    assert found.is_enabled


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_a_user_of_its_own(platform: Platform, service: str) -> None:
    host = platform.host(service)
    for unit, pid in platform.main_pids(service).items():
        assert host.run(f"stat -c %U /proc/{pid}").stdout.strip() == service, unit


@pytest.mark.parametrize("service", SERVICES)
def test_only_root_reads_secrets(platform: Platform, service: str) -> None:
    file = platform.host(service).file(f"/etc/lastro/{service}.env")
    assert (file.user, file.group, oct(file.mode)) == ("root", "root", "0o600")


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_in_the_arguments_of_a_process(platform: Platform, service: str) -> None:
    arguments = platform.host(service).run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    leaked = [
        key
        for name in (*platform.contract["secrets"], "database")
        for key, value in platform.secret(name).items()
        if key != "username" and value in arguments
    ]
    assert leaked == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_listening_port_is_in_a_security_group(platform: Platform, service: str) -> None:
    host = platform.host(service)
    ports = {
        platform.contract["services"][name]["port"]
        for name in platform.contract["services"]
        if platform.host_of(name) == platform.host_of(service)
    }
    if 443 in ports:
        # From there the edge leads on to 443.
        ports.add(80)
    listening = {
        line.split()[3]
        for line in host.run("ss -Htln").stdout.splitlines()
        if not line.split()[3].startswith(("127.", "[::1]"))
    }
    # SSH is how an administrator comes in; it listens, and only Session Manager reaches it.
    assert {address.rsplit(":", 1)[1] for address in listening} - {"22"} <= {
        str(port) for port in ports
    }


@pytest.mark.parametrize(
    ("service", "path", "expected"),
    [
        ("mlflow", "/api/2.0/mlflow/experiments/search?max_results=1", 401),
        ("mlflow", "/ajax-api/2.0/mlflow/users/list", 401),
        ("airflow", "/api/v2/dags", 401),
        ("model_api", "/models", 401),
    ],
)
def test_nobody_gets_in_without_a_login(
    platform: Platform, service: str, path: str, expected: int
) -> None:
    assert platform.ask(service, path).status_code == expected


def test_mlflow_is_the_pinned_version_and_asks_its_database(platform: Platform) -> None:
    answer = platform.mlflow("GET", "experiments/search", params={"max_results": 1})
    assert answer.status_code == 200
    login = "admin", platform.secret("mlflow")["admin_password"]
    version = platform.ask("mlflow", "/version", auth=login)
    assert version.text == PINNED["mlflow"]


def test_airflow_is_the_pinned_version_and_all_its_parts_are_healthy(platform: Platform) -> None:
    assert platform.airflow("GET", "version").json()["version"] == PINNED["airflow"]
    healthy = dict.fromkeys(("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy")

    # A part that has just been restarted is healthy after its first heartbeat.
    def states() -> dict[str, str]:
        parts = platform.airflow("GET", "monitor/health").json()
        return {part: state["status"] for part, state in parts.items() if state["status"]}

    wait_until("all parts of Airflow to be healthy", states, lambda found: found == healthy)


def test_airflow_reads_the_published_dags(platform: Platform) -> None:
    # One that was there before the last `make publish-dags` goes when the file is read again.
    def errors() -> dict[str, Any]:
        return platform.airflow("GET", "importErrors").json()

    wait_until("all DAGs to be imported", errors, lambda found: found["total_entries"] == 0)


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_ready(platform: Platform, service: str) -> None:
    ready = platform.contract["services"][service]["ready"]
    secret = platform.secret(ready["login"]) if ready["login"] else {}
    login = {"auth": ("admin", secret["admin_password"])} if secret else {}

    def asked() -> tuple[int, str]:
        answer = platform.ask(ready["service"], ready["path"], **login)
        return answer.status_code, answer.text

    def is_ready(found: tuple[int, str]) -> bool:
        return found[0] == 200 and bool(re.search(ready["pattern"] or "", found[1]))

    wait_until(f"{service} to be ready", asked, is_ready)
    if ready["file"]:
        assert platform.host(service).file(ready["file"]).exists


@pytest.mark.parametrize(
    ("role", "other"),
    [
        ("mlflow", "airflow"),
        ("mlflow", "mlflow_auth"),
        ("mlflow_auth", "mlflow"),
        ("airflow", "mlflow"),
    ],
)
def test_no_role_reads_another_database(platform: Platform, role: str, other: str) -> None:
    password = {
        "mlflow": ("mlflow", "database_password"),
        "mlflow_auth": ("mlflow", "auth_database_password"),
        "airflow": ("airflow", "database_password"),
    }[role]
    login = {"user": role, "password": platform.secret(password[0])[password[1]]}
    assert platform.sql("SELECT current_user::text", database=role, **login) == [(role,)]
    with pytest.raises(Exception, match="permission denied for database"):
        platform.sql("SELECT 1", database=other, **login)


def test_database_refuses_connections_without_tls(platform: Platform) -> None:
    with pytest.raises(Exception, match=r"no pg_hba.conf entry|SSL"):
        platform.sql(
            "SELECT 1",
            database="mlflow",
            user="mlflow",
            password=platform.secret("mlflow")["database_password"],
            sslmode="disable",
            sslrootcert="",
        )


def test_airflow_keeps_its_tables_in_its_schema(platform: Platform) -> None:
    schemas = platform.sql(
        "SELECT DISTINCT schemaname::text FROM pg_tables WHERE tableowner = 'airflow'",
        database="airflow",
        user="airflow",
        password=platform.secret("airflow")["database_password"],
    )
    assert schemas == [("airflow",)]
