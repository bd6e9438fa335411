"""The edge, as a browser sees it; without a domain there is no edge."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import pytest
import urllib3
from lastro_platform import ANSWER_SECONDS, Platform, wait_for

# Which tests there are follows from the environment: one without a domain has nothing to leave out.
HERE = Platform(os.environ.get("LASTRO_ENVIRONMENT", "local"))
SERVICES, DOMAIN = HERE.services, HERE.domain
# Where each service that people reach answers 200 without a login.
PATHS = {
    name: entry["health_path"]
    for name, entry in HERE.contract["services"].items()
    if entry["public_name"]
}


def test_there_is_an_edge_where_there_is_a_domain_and_nowhere_else(platform: Platform) -> None:
    assert ("edge" in platform.contract["services"]) == bool(platform.domain)
    edges = [host for host in platform.contract["hosts"].values() if "edge" in host["roles"]]
    assert len(edges) == (1 if platform.domain else 0)
    for service in SERVICES:
        here = "edge" in platform.contract["services"] and (
            platform.host_of(service) == platform.host_of("edge")
        )
        assert platform.host(service).service("edge").is_running == here, service


def cookies(answer: urllib3.BaseHTTPResponse) -> SimpleCookie:
    """The cookies that an answer sets."""
    found: SimpleCookie = SimpleCookie()
    for header in answer.headers.getlist("Set-Cookie"):
        found.load(header)
    return found


if DOMAIN:

    def test_the_edge_runs_and_will_after_a_reboot(platform: Platform) -> None:
        host = platform.host("edge")
        for unit in ("edge.service", "edge-metrics.timer"):
            assert host.service(unit).is_running, unit
            assert host.service(unit).is_enabled, unit
        assert not host.service("caddy").is_running
        pid = host.check_output("systemctl show -p MainPID --value edge")
        assert host.check_output(f"stat -c %U /proc/{pid}") == "edge"
        state = host.file("/var/lib/edge")
        assert (state.user, oct(state.mode)) == ("edge", "0o700")

    @pytest.mark.parametrize("service", PATHS)
    def test_each_name_answers_by_https_with_a_valid_certificate(
        platform: Platform, service: str
    ) -> None:
        answer = platform.visit(service, PATHS[service])
        assert answer.status == 200, answer.data
        expected = {
            "Strict-Transport-Security": "max-age=31536000",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "SAMEORIGIN",
        }
        assert {key: answer.headers.get(key) for key in expected} == expected
        assert "Server" not in answer.headers

    @pytest.mark.parametrize("service", PATHS)
    def test_http_leads_to_https(platform: Platform, service: str) -> None:
        name = platform.public_url(service).removeprefix("https://")
        with urllib3.HTTPConnectionPool(
            platform.edge_address, retries=False, timeout=ANSWER_SECONDS
        ) as pool:
            answer = pool.request("GET", "/some?q=1", headers={"Host": name}, redirect=False)
        assert answer.status == 308
        assert answer.headers["Location"] == f"https://{name}/some?q=1"

    def test_nobody_gets_in_through_the_edge_without_a_login(platform: Platform) -> None:
        for service, path in {
            "mlflow": "/api/2.0/mlflow/experiments/search?max_results=1",
            "airflow": "/api/v2/dags",
            "model_api": "/models",
        }.items():
            assert platform.visit(service, path).status == 401, service

    def test_the_api_of_tasks_is_hidden_from_visitors(platform: Platform) -> None:
        path = "/execution/health"
        assert platform.ask("airflow", path).status_code == 200
        assert platform.visit("airflow", path).status == 404

    @pytest.mark.parametrize(("origin", "status"), [("its own", 200), ("another", 403)])
    def test_mlflow_answers_its_own_pages_and_no_other_site(
        platform: Platform, origin: str, status: int
    ) -> None:
        login = f"admin:{platform.secret('mlflow')['admin_password']}".encode()
        url = platform.public_url("mlflow") if origin == "its own" else "https://evil.example.com"
        answer = platform.visit(
            "mlflow",
            "/ajax-api/2.0/mlflow/runs/search",
            method="POST",
            headers={
                "Authorization": f"Basic {base64.b64encode(login).decode()}",
                "Content-Type": "application/json",
                "Origin": url,
            },
            body=b'{"experiment_ids": ["0"], "max_results": 1}',
        )
        assert answer.status == status, answer.data

    def test_a_person_logs_in_to_airflow_by_its_form_and_cookies_go_over_https_only(
        platform: Platform,
    ) -> None:
        path = "/auth/login/"
        form = platform.visit("airflow", path)
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form.data.decode())[1]
        kept = cookies(form)
        assert kept["session"]["secure"]
        answer = platform.visit(
            "airflow",
            path,
            method="POST",
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in kept.items()),
                "Referer": f"{platform.public_url('airflow')}{path}",
            },
            body=urlencode(
                {
                    "csrf_token": token,
                    "username": "admin",
                    "password": platform.secret("airflow")["admin_password"],
                }
            ).encode(),
        )
        assert answer.status == 302, answer.data
        assert answer.headers["Location"].startswith((platform.public_url("airflow"), "/"))
        assert cookies(answer)["_token"]["secure"]

    def test_the_dashboards_pages_open_their_websocket(platform: Platform) -> None:
        url = platform.public_url("dashboard")
        name = url.removeprefix("https://")
        context = ssl.create_default_context(cafile=platform.edge_authorities)
        for origin, status in ((url, b"101"), ("https://evil.example.com", b"403")):
            lines = [
                "GET /_stcore/stream HTTP/1.1",
                f"Host: {name}",
                f"Origin: {origin}",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            ]
            with (
                socket.create_connection(
                    (platform.edge_address, 443), timeout=ANSWER_SECONDS
                ) as connection,
                context.wrap_socket(connection, server_hostname=name) as channel,
                channel.makefile("rb") as answer,
            ):
                channel.sendall("\r\n".join([*lines, "", ""]).encode())
                assert answer.readline().split()[1] == status, origin

    def test_cloudwatch_gets_a_datum_a_minute(platform: Platform) -> None:
        def data() -> list[dict]:
            now = datetime.now(UTC)
            return platform.aws("cloudwatch").get_metric_statistics(
                Namespace="Lastro",
                MetricName="Edge5xx",
                Dimensions=[{"Name": "Environment", "Value": platform.environment}],
                StartTime=now - timedelta(minutes=10),
                EndTime=now,
                Period=60,
                Statistics=["SampleCount"],
            )["Datapoints"]

        # The platform may have been brought up just now.
        found = wait_for("the metric Edge5xx", data, seconds=130)
        assert {datum["SampleCount"] for datum in found} == {1.0}
