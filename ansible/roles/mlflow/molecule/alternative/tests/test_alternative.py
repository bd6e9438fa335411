"""The mlflow role with many defaults changed, on the host that had them."""

import base64
from typing import Any

import pytest
from role_tests import ServiceContract, ask
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-mlflow"]

URL = "http://10.44.0.11:5050"


class TestService(ServiceContract):
    service = "mlflow"
    units = ("mlflow",)
    secrets = (
        "mlflow_admin",
        "mlflow_auth_database",
        "mlflow_database",
        "mlflow_session",
        "mlflow_user",
        "mlflow_webhooks",
    )
    public = frozenset({"10.44.0.11:5050"})

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        assert self.environment(host)["MLFLOW_WORKERS"] == "1"
        assert host.check_output("systemctl show --value -p MemoryMax mlflow") == str(1 << 30)
        auth = host.file("/etc/lastro/mlflow/basic_auth.ini")
        assert (auth.user, auth.group, auth.mode) == ("root", "mlflow", 0o640)
        assert "\ndefault_permission = READ\n" in auth.content_string
        assert "\nauth_cache_ttl_seconds = 10\n" in auth.content_string


def login(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


@pytest.fixture
def ana(cloud: dict[str, Any]) -> dict[str, str]:
    return login("ana", cloud["secrets"]["mlflow_user"])


def test_the_default_port_is_left(host: Host) -> None:
    assert not host.socket("tcp://127.0.0.1:5000").is_listening


def test_a_user_of_the_list_logs_in(host: Host, ana: dict[str, str]) -> None:
    url = f"{URL}/api/2.0/mlflow/experiments/search?max_results=1"
    assert ask(host, url, headers=ana).status == 200
    assert ask(host, url, headers=login("ana", "another-password")).status == 401


def test_a_user_can_read_but_not_change_the_work_of_others(
    host: Host, ana: dict[str, str], cloud: dict[str, Any]
) -> None:
    admin = login("admin", cloud["secrets"]["mlflow_admin"])
    named = f"{URL}/api/2.0/mlflow/experiments/get-by-name?experiment_name=others"
    ask(
        host,
        f"{URL}/api/2.0/mlflow/experiments/create",
        method="POST",
        headers=admin,
        body={"name": "others"},
    )
    read = ask(host, named, headers=ana)
    assert read.status == 200
    renamed = ask(
        host,
        f"{URL}/api/2.0/mlflow/experiments/update",
        method="POST",
        headers=ana,
        body={
            "experiment_id": read.json()["experiment"]["experiment_id"],
            "new_name": "mine",
        },
    )
    assert renamed.status == 403


@pytest.mark.parametrize(("origin", "status"), [(URL, 200), ("https://evil.example.com", 403)])
def test_its_own_pages_search_runs_and_no_other_sites(
    host: Host, ana: dict[str, str], origin: str, status: int
) -> None:
    answer = ask(
        host,
        f"{URL}/ajax-api/2.0/mlflow/runs/search",
        method="POST",
        headers=ana | {"Origin": origin},
        body={"experiment_ids": ["0"], "max_results": 1},
    )
    assert answer.status == status


def test_a_user_may_not_make_users(host: Host, ana: dict[str, str]) -> None:
    made = ask(
        host,
        f"{URL}/api/2.0/mlflow/users/create",
        method="POST",
        headers=ana,
        body={"username": "bob", "password": "a-long-password"},
    )
    assert made.status == 403
