"""The edge role with its defaults and certificates of its own, asked from another machine."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3
from edge_tests import (
    ADDRESS,
    CERTIFICATES,
    certificate,
    echo,
    seconds_until_closed,
    visit,
    visit_in_the_clear,
)
from role_tests import STATE, ServiceContract, aws_client
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-edge"]

AUTHORITY = STATE / "edge-ca.pem"
BROWSER = {"Accept-Encoding": "gzip"}


class TestService(ServiceContract):
    service = "edge"
    units = ("edge",)
    public = frozenset({"*:80", "*:443"})

    @pytest.fixture
    def known_secrets(self, host: Host) -> list[str]:
        """The secrets of the edge: its private keys, line by line."""
        lines = host.check_output("find /var/lib/edge -name '*.key' -exec cat {} +").splitlines()
        keys = [line for line in lines if line and not line.startswith("-----")]
        assert len(keys) >= 4
        return keys

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        environment = self.environment(host)
        assert environment["XDG_DATA_HOME"] == "/var/lib/edge"

    def test_no_other_protocol_listens(self, host: Host) -> None:
        owner = f"uid:{host.user('edge').uid} "
        sockets = host.check_output("ss --no-header --listening --udp --raw --numeric --extended")
        assert owner not in sockets


def journal(host: Host) -> list[dict[str, Any]]:
    """The records that the edge has written."""
    lines = host.check_output("journalctl --no-pager --output=cat --unit=edge").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_site_answers_with_a_valid_certificate() -> None:
    answer = visit("edge.test", "/some/page?q=1", authorities=AUTHORITY)
    assert answer.status == 200
    assert answer.json()["port"] == 9001
    assert answer.json()["path"] == "/some/page?q=1"


@pytest.mark.parametrize("path", ["/internal/x", "/internal/", "/x/../internal/x", "/%69nternal/x"])
def test_internal_paths_are_not_found(path: str) -> None:
    answer = visit("edge.test", path, authorities=AUTHORITY)
    assert (answer.status, "9001" in answer.data.decode()) == (404, False)


def test_the_certificate_is_not_from_a_public_authority() -> None:
    with pytest.raises(urllib3.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        visit("edge.test", authorities="/etc/ssl/certs/ca-certificates.crt")


def test_an_unknown_name_gets_no_certificate() -> None:
    with pytest.raises(urllib3.exceptions.SSLError):
        visit("evil.example.com", authorities=AUTHORITY)


def test_http_leads_to_https() -> None:
    answer = visit_in_the_clear("edge.test", "/some/page?q=1")
    assert answer.status == 308
    assert answer.headers["Location"] == "https://edge.test/some/page?q=1"


@pytest.mark.parametrize(
    ("port", "data", "name"),
    [
        (80, b"GET / HTTP/1.1\r\nHost: edge.test\r\nX: ", None),
        (443, b"GET / HTTP/1.1\r\nHost: edge.test\r\nX: ", "edge.test"),
        (443, b"\x16\x03\x01\x02\x00", None),
    ],
    ids=["http", "https", "handshake"],
)
def test_a_request_that_never_ends_is_cut_off(port: int, data: bytes, name: str | None) -> None:
    assert seconds_until_closed(port, data, name) < 20


def test_a_bare_address_shows_no_site() -> None:
    answer = visit_in_the_clear(ADDRESS)
    assert (answer.status, answer.data) == (404, b"Unknown site.")


@pytest.mark.parametrize(("name", "status"), [("edge.test", 200), ("away.edge.test", 502)])
def test_every_answer_has_the_security_headers(name: str, status: int) -> None:
    answer = visit(name, authorities=AUTHORITY)
    assert answer.status == status
    expected = {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "SAMEORIGIN",
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }
    assert {key: answer.headers.get(key) for key in expected} == expected
    assert "Server" not in answer.headers
    # It would send browsers to a UDP port that is closed.
    assert "Alt-Svc" not in answer.headers


def test_forwarded_headers_name_the_client_and_cannot_be_forged() -> None:
    lie = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil"}
    headers = visit("edge.test", authorities=AUTHORITY, headers=lie).json()["headers"]
    assert headers["Host"] == "edge.test"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-Host"] == "edge.test"
    assert headers["X-Forwarded-For"] == "10.44.0.1"


def test_a_websocket_works() -> None:
    assert echo("edge.test", "hello", AUTHORITY) == "hello"


def test_an_answer_is_compressed_for_clients_that_accept_it() -> None:
    packed = visit("edge.test", authorities=AUTHORITY, headers=BROWSER)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json()["port"] == 9001
    assert "Content-Encoding" not in visit("edge.test", authorities=AUTHORITY).headers


def test_an_unreachable_service_is_reported_to_visitors_and_in_the_log(host: Host) -> None:
    answer = visit("away.edge.test", authorities=AUTHORITY)
    assert answer.status == 502
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Retry-After"] == "10"
    page = answer.data.decode()
    assert "<h1>MLflow is unreachable</h1>" in page
    number = re.search(r"error <code>(\w+)</code>, 502 Bad Gateway", page)[1]
    (record,) = (record for record in journal(host) if record.get("err_id") == number)
    assert "connection refused" in record["msg"]


def test_the_log_has_a_line_per_request_and_no_credentials(host: Host) -> None:
    path = f"/logged-{time.time_ns()}"
    secret = f"secret-{time.time_ns()}"
    headers = {"Authorization": secret, "Cookie": f"session={secret}"}
    for name in ("edge.test", "away.edge.test"):
        visit(name, f"{path}?token={secret}", authorities=AUTHORITY, headers=headers)
    body = secret.encode()
    visit("edge.test", path, authorities=AUTHORITY, method="POST", headers=headers, body=body)
    records = [record for record in journal(host) if record.get("request", {}).get("uri") == path]
    accesses = [record for record in records if record["logger"] == "http.log.access"]
    assert [(access["request"]["method"], access["status"]) for access in accesses] == [
        ("GET", 200),
        ("GET", 502),
        ("POST", 200),
    ]
    assert {access["request"]["remote_ip"] for access in accesses} == {"10.44.0.1"}
    assert secret not in host.check_output("journalctl --no-pager --output=cat")


def test_keys_are_the_services_alone(host: Host) -> None:
    state = host.file("/var/lib/edge")
    assert (state.user, state.group, state.mode) == ("edge", "edge", 0o700)
    listed = host.check_output("find /var/lib/edge/caddy -type f -printf '%u %m %p\\n'")
    assert f"edge 600 {CERTIFICATES}/local/edge.test/edge.test.key" in listed
    assert {line[:9] for line in listed.splitlines()} == {"edge 600 "}


def test_only_root_changes_the_configuration(host: Host) -> None:
    file = host.file("/etc/lastro/edge/Caddyfile")
    assert (file.user, file.group, file.mode) == ("root", "edge", 0o640)
    # Whoever reaches Caddy's own API could serve anything.
    folder = host.file("/run/edge")
    assert (folder.user, folder.mode) == ("edge", 0o700)
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/edge/admin.sock')"
    nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    assert host.run("python3 -c %s", connect).rc == 0
    assert "PermissionError" in host.run(f"{nobody} python3 -c %s", connect).stderr


@pytest.mark.parametrize("name", ["started-with", "loaded"])
def test_the_marks_of_earlier_versions_are_removed(host: Host, name: str) -> None:
    # tests/molecule/side_effect.yml leaves them.
    assert not host.file(f"/etc/lastro/edge/{name}").exists


def test_debians_own_unit_never_runs(host: Host) -> None:
    assert host.service("caddy").is_masked
    assert not host.service("caddy").is_running


def test_the_edge_keeps_its_certificate_after_a_crash(host: Host) -> None:
    before = certificate("edge.test", AUTHORITY)["serialNumber"]
    host.check_output("systemctl kill --signal=KILL edge")
    deadline = time.monotonic() + 120
    while True:
        try:
            assert certificate("edge.test", AUTHORITY)["serialNumber"] == before
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    host.check_output("systemctl reload edge")
    # It forgets the restart, which the tests of all services look for.
    host.check_output("systemctl restart edge")


def test_cloudwatch_is_told_of_5xx_answers_over_a_restart(host: Host) -> None:
    began = datetime.now(UTC)
    for _ in range(2):
        visit("away.edge.test", authorities=AUTHORITY)
    visit("edge.test", "/?status=500", authorities=AUTHORITY)
    visit("edge.test", "/?status=404", authorities=AUTHORITY)
    host.check_output("systemctl restart edge")
    visit("away.edge.test", authorities=AUTHORITY)
    minutes = began.replace(second=0, microsecond=0)
    cloudwatch = aws_client("cloudwatch")
    deadline = time.monotonic() + 300
    # Until there is the minute of the last of these, which may not be that of the first.
    last = datetime.now(UTC).replace(second=0, microsecond=0)
    while True:
        told = cloudwatch.get_metric_statistics(
            Namespace="Lastro",
            MetricName="Edge5xx",
            Dimensions=[],
            StartTime=minutes,
            EndTime=last + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum", "SampleCount"],
        )["Datapoints"]
        if any(datum["Timestamp"] == last for datum in told):
            break
        assert time.monotonic() < deadline, told
        time.sleep(1)
    since = f"journalctl --no-pager --output=cat --unit=edge --since=@{minutes.timestamp():.0f}"
    until = f" --until=@{last.timestamp() + 60:.0f}"
    logged = re.findall(r'"status":5\d\d', host.check_output(since + until))
    # An error and its answer are two records of one request.
    accesses = host.check_output(f"{since}{until} | grep http.log.access | grep -c '\"status\":5'")
    assert sum(datum["Sum"] for datum in told) == int(accesses) >= 4
    assert len(logged) > int(accesses)
    assert {datum["SampleCount"] for datum in told} == {1.0}


def test_the_metric_has_a_user_of_its_own_and_no_keys(host: Host) -> None:
    shown = host.run("systemd-analyze security --no-pager edge-metrics.service").stdout
    assert float(shown.rpartition("exposure level for")[2].split()[1]) <= 3.0, shown
    environment = host.file("/etc/lastro/edge.env").content_string
    assert "AWS_DEFAULT_REGION" in environment
    assert "KEY" not in environment
    assert host.check_output("systemctl show --value -p DynamicUser edge-metrics") == "yes"
    assert host.check_output("systemctl show --value -p Result edge-metrics") == "success"
    assert host.service("edge-metrics.timer").is_enabled
