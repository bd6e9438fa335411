"""The dashboard role: it answers, and shows nothing before a login."""

import base64
from typing import Any

from role_tests import ServiceContract, ask
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-serving"]

URL = "http://127.0.0.1:8501"


class TestService(ServiceContract):
    service = "dashboard"
    units = ("dashboard",)
    secrets = ("dashboard_cookie", "model_api_key")

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        environment = self.environment(host)
        assert environment["MLFLOW_TRACKING_URI"] == "http://10.44.0.11:5050"
        assert environment["MODEL_API_URL"] == "http://127.0.0.1:8000"
        assert environment["DASHBOARD_PORT"] == "8501"


def test_every_page_can_be_drawn(host: Host, cloud: dict[str, Any]) -> None:
    login = base64.b64encode(f"admin:{cloud['secrets']['mlflow_admin']}".encode()).decode()
    answer = ask(host, f"{URL}/health/ready", headers={"Authorization": f"Basic {login}"})
    assert (answer.status, answer.text) == (200, "Ready: every page can be drawn")


def test_the_page_contains_no_secret(host: Host, cloud: dict[str, Any]) -> None:
    page = ask(host, f"{URL}/")
    assert page.status == 200
    assert "<title>" in page.text
    for told in (*cloud["secrets"].values(), "10.44.0.11"):
        assert told not in page.text


def test_does_not_let_another_site_read_it(host: Host) -> None:
    answer = ask(host, f"{URL}/_stcore/health", headers={"Origin": "https://evil.example.com"})
    assert "Access-Control-Allow-Origin" not in answer.headers
