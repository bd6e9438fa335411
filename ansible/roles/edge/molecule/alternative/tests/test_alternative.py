"""The edge role with many defaults changed: certificates from an ACME server, two upstreams."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import urllib3
from edge_tests import CERTIFICATES, certificate, visit
from role_tests import PROJECT, STATE, ServiceContract, aws_client, wait_until
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-edge"]

AUTHORITY = STATE / "acme-ca.pem"


class TestService(ServiceContract):
    service = "edge"
    units = ("edge",)
    public = frozenset({"*:80", "*:443"})

    @pytest.fixture
    def known_secrets(self, host: Host) -> list[str]:
        """The secrets of the edge: its private keys, and that of its ACME account."""
        lines = host.check_output("find /var/lib/edge -name '*.key' -exec cat {} +").splitlines()
        return [line for line in lines if line and not line.startswith("-----")]

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        assert host.check_output("systemctl show --value -p MemoryMax edge") == str(300 << 20)
        answer = visit("edge.test", authorities=AUTHORITY)
        assert answer.headers["Strict-Transport-Security"] == "max-age=60"


def ask_api(path: str = "/", **options: object) -> urllib3.BaseHTTPResponse:
    return visit("api.edge.test", path, authorities=AUTHORITY, **options)


def ports(times: int) -> set[int]:
    """Which upstreams answer."""
    answers = [ask_api() for _ in range(times)]
    assert {answer.status for answer in answers} == {200}
    return {answer.json()["port"] for answer in answers}


@contextmanager
def without(host: Host, stop: str, start: str) -> Iterator[None]:
    """Stop something while the block runs."""
    host.check_output(stop)
    try:
        yield
    finally:
        host.check_output(start)


@contextmanager
def request_under_way(host: Host) -> Iterator[list[urllib3.BaseHTTPResponse]]:
    """A request that waits for its answer while the block runs; then the answer is in the list."""
    answers: list[urllib3.BaseHTTPResponse] = []
    thread = threading.Thread(target=lambda: answers.append(ask_api("/?held=1")))
    thread.start()
    held = host.file("/run/upstream-held")
    wait_until(lambda: held.exists, "the upstream to get the request")
    try:
        yield answers
    finally:
        host.check_output(f"rm {held.path}")
        thread.join()


@pytest.mark.parametrize("name", ["edge.test", "api.edge.test"])
def test_the_certificate_is_from_the_acme_server(name: str, host: Host) -> None:
    # The internal authority of the default scenario could not have made one that this accepts.
    assert ("DNS", name) in certificate(name, AUTHORITY)["subjectAltName"]
    lines = host.check_output("journalctl --no-pager --output=cat --unit=edge").splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    # The server asked back by the name, on port 80 or 443, and was given its token.
    served = [record for record in records if "served key authentication" in record["msg"]]
    # Caddy takes either challenge, by chance, and calls the name by two words.
    challenges = {
        record["challenge"]
        for record in served
        if record.get("identifier", record.get("server_name")) == name
    }
    assert challenges
    assert challenges <= {"http-01", "tls-alpn-01"}
    folder = f"{CERTIFICATES}/localhost-14000-acme-local-directory/{name}"
    key = host.file(f"{folder}/{name}.key")
    assert (key.user, key.mode) == ("edge", 0o600)


def test_only_the_service_reads_the_acme_account(host: Host) -> None:
    found = host.check_output("find /var/lib/edge/caddy/acme -name '*.key' -printf '%u %m\\n'")
    assert found == "edge 600"


def test_a_changed_configuration_interrupts_no_request_and_keeps_certificates(host: Host) -> None:
    file = "/etc/lastro/edge/Caddyfile"
    before = {name: certificate(name, AUTHORITY) for name in ("edge.test", "api.edge.test")}
    pid = host.check_output("systemctl show --value -p MainPID edge")
    host.check_output(f"cp --preserve {file} /root/Caddyfile")
    try:
        with request_under_way(host) as answers:
            host.check_output(f"sed -i 's/max-age=60/max-age=61/' {file} && systemctl reload edge")
            changed = visit("edge.test", authorities=AUTHORITY)
            assert changed.headers["Strict-Transport-Security"] == "max-age=61"
            assert answers == [], "the request was not under way any more"
        assert [answer.status for answer in answers] == [200]
        after = {name: certificate(name, AUTHORITY) for name in before}
        assert after == before
        assert host.check_output("systemctl show --value -p MainPID edge") == pid
    finally:
        host.check_output(f"cp --preserve /root/Caddyfile {file} && systemctl reload edge")


def test_a_configuration_that_caddy_refuses_does_not_land(host: Host) -> None:
    before = host.file("/etc/lastro/edge/Caddyfile").sha256sum
    result = subprocess.run(
        [
            *("ansible-playbook", "--inventory", os.environ["MOLECULE_INVENTORY_FILE"]),
            *("--extra-vars", json.dumps({"edge_acme_email": "ana bob eve"})),
            str(PROJECT / "tests/molecule/converge.yml"),
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert result.returncode != 0
    assert "failed to validate" in result.stdout, result.stdout
    assert host.file("/etc/lastro/edge/Caddyfile").sha256sum == before
    assert visit("edge.test", authorities=AUTHORITY).status == 200


def test_requests_are_balanced() -> None:
    # Caddy picks at random between idle upstreams: ten requests in a row may go to one of them.
    wait_until(lambda: ports(10) == {9001, 9002}, "both upstreams to get requests")


def test_an_upstream_that_is_not_ready_gets_no_requests(host: Host) -> None:
    mark = "/run/upstream-9001-not-ready"
    with without(host, f"touch {mark}", f"rm {mark}"):
        wait_until(lambda: ports(10) == {9002}, "the other upstream to get every request")
    wait_until(lambda: ports(10) == {9001, 9002}, "both upstreams to get requests")


def test_no_request_is_lost_when_an_upstream_goes_away(host: Host) -> None:
    with without(host, "systemctl stop upstream@9002", "systemctl start upstream@9002"):
        # At once, before any check has told.
        assert ports(10) == {9001}


def test_with_all_upstreams_away_a_client_reads_a_problem_document(host: Host) -> None:
    both = "upstream@9001 upstream@9002"
    with without(host, f"systemctl stop {both}", f"systemctl start {both}"):
        # 502 until a check has told that they are away.
        answer = wait_until(
            lambda: (answer := ask_api()).status == 503 and answer, "the edge to miss its upstreams"
        )
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "10"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
    assert problem["detail"].startswith("The model API is unreachable")
    wait_until(
        lambda: ask_api().status == 200 and ports(10) == {9001, 9002},
        "the edge to find its upstreams again",
    )


@pytest.mark.parametrize("sizes", ["declared", "streamed"])
def test_a_request_that_is_too_large_is_refused(sizes: str) -> None:
    def post(size: int) -> urllib3.BaseHTTPResponse:
        body = b"x" * size
        return ask_api(method="POST", body=body if sizes == "declared" else iter([body]))

    small = post(900_000)
    assert (small.status, small.json()["bytes"]) == (200, 900_000)
    large = post(1_100_000)
    assert large.status == 413
    assert "Retry-After" not in large.headers
    assert large.headers["Content-Type"] == "application/problem+json"
    assert "accepts requests of up to 1MB" in large.json()["detail"]


def test_a_service_without_a_limit_takes_large_requests() -> None:
    body = b"x" * 30_000_000
    answer = visit("edge.test", authorities=AUTHORITY, method="POST", body=body)
    assert (answer.status, answer.json()["bytes"]) == (200, len(body))


def test_a_service_that_does_not_answer_in_time_is_unreachable() -> None:
    answer = visit("edge.test", "/?seconds=4", authorities=AUTHORITY)
    assert answer.status == 504
    assert "<h1>The dashboard is unreachable</h1>" in answer.data.decode()


def test_the_metric_has_the_configured_namespace_and_dimensions(host: Host) -> None:
    host.check_output("systemctl start edge-metrics.service")
    metrics = aws_client("cloudwatch").list_metrics(Namespace="Other")["Metrics"]
    assert {metric["MetricName"] for metric in metrics} == {"Edge5xx"}
    for metric in metrics:
        assert {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]} == {
            "Environment": "molecule",
            "Part": "edge",
        }
