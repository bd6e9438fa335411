"""The airflow role with many defaults changed, on the host that had them."""

from typing import Any

from role_tests import ServiceContract, ask
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-airflow"]

URL = "http://10.44.0.13:8090"


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
    )
    public = frozenset({"10.44.0.13:8090"})

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        environment = self.environment(host)
        assert environment["AIRFLOW__CORE__PARALLELISM"] == "1"
        assert environment["AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY"] == "7"
        assert environment["AIRFLOW__API__BASE_URL"] == "https://airflow.example.com"
        assert '"other/dags"' in environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
        timeout = host.check_output("systemctl show --value -p TimeoutStopUSec airflow-scheduler")
        assert timeout == "1min"


def test_the_default_port_is_left(host: Host) -> None:
    assert not host.socket("tcp://127.0.0.1:8080").is_listening


def test_the_other_administrator_logs_in(host: Host, cloud: dict[str, Any]) -> None:
    body = {"username": "root", "password": cloud["secrets"]["airflow_admin"]}
    answer = ask(host, f"{URL}/auth/token", method="POST", body=body)
    assert answer.status == 201, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert ask(host, f"{URL}/api/v2/dags", headers=headers).status == 200
