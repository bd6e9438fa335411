"""Shared by the tests of all roles: a pytest plugin that Molecule's verifier loads.

A test module names its hosts in ``testinfra_hosts`` and, for a service, subclasses
:class:`ServiceContract`. When a test fails, the journal of the service is printed with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[2]
STATE = PROJECT / ".lastro" / "molecule"

# Runs on the host, with its own Python: most services listen on the loopback address only.
_ASK = """
import base64, json, sys, urllib.error, urllib.request
ask = json.loads(sys.argv[1])
body = ask["text"].encode() if ask["text"] is not None else None
request = urllib.request.Request(ask["url"], body, ask["headers"], method=ask["method"])
try:
    answer = urllib.request.urlopen(request, timeout=120)
except urllib.error.HTTPError as error:
    answer = error
text = answer.read().decode(errors="replace")
print(json.dumps({"status": answer.status, "text": text, "headers": dict(answer.headers)}))
"""


@dataclass(frozen=True)
class Answer:
    """The answer to an HTTP request."""

    status: int
    text: str
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    host: Host,
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: object = None,
    text: str | None = None,
) -> Answer:
    """Send an HTTP request from a host.

    Args:
        host: where it comes from.
        url: where it goes.
        method: the HTTP method.
        headers: headers of the request.
        body: a value to send as JSON.
        text: a text to send as it is, instead.

    Returns:
        The answer, whatever its status.
    """
    headers = dict(headers or {})
    if body is not None:
        text = json.dumps(body)
        headers["Content-Type"] = "application/json"
    question = {"url": url, "method": method, "headers": headers, "text": text}
    output = host.check_output("python3 -c %s %s", _ASK, json.dumps(question))
    return Answer(**json.loads(output))


def wait_until[T](condition: Callable[[], T], what: str, seconds: float = 600) -> T:
    """Ask until the answer is true, and return it.

    The limit only ends what hangs: it is generous, for a slow machine that has other work to do.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still waiting for {what}")
        time.sleep(0.5)
    return answer


def role_defaults(role: str) -> dict[str, Any]:
    """The defaults of a role, not rendered."""
    return yaml.safe_load((PROJECT / f"ansible/roles/{role}/defaults/main.yml").read_text())


@pytest.fixture(scope="session")
def cloud() -> dict[str, Any]:
    """The resources that cloud.py made."""
    return json.loads((STATE / "cloud.json").read_text())


def aws_client(service: str) -> Any:
    """A client of the AWS API of the tests, with the keys of its account."""
    lines = (STATE / "aws.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    return boto3.client(
        service,
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture(scope="session")
def s3() -> Any:
    """A client of the S3 of the tests."""
    return aws_client("s3")


class ServiceContract:
    """The tests that each service of the role `_service` must pass."""

    service: str
    units: tuple[str, ...]
    # Keys of `secrets` in cloud.json that the service knows.
    secrets: tuple[str, ...]
    # Addresses, with port, on which other hosts reach it.
    public: frozenset[str] = frozenset()
    max_exposure = 3.0

    @pytest.fixture
    def known_secrets(self, cloud: dict[str, Any]) -> list[str]:
        return [cloud["secrets"][name] for name in self.secrets]

    def main_pid(self, host: Host, unit: str) -> int:
        return int(host.check_output("systemctl show --value --property=MainPID %s", unit))

    def environment(self, host: Host) -> dict[str, str]:
        """The environment of the last unit's process.

        Airflow's API server, its first, has overwritten its own with its title.
        """
        pid = self.main_pid(host, self.units[-1])
        lines = host.check_output("cat /proc/%s/environ", str(pid)).split("\0")
        return dict(line.split("=", 1) for line in lines if line)

    def test_units_are_active_and_enabled(self, host: Host) -> None:
        for unit in self.units:
            assert host.service(unit).is_running, unit
            assert host.service(unit).is_enabled, unit

    def test_units_were_not_restarted_by_a_failure(self, host: Host) -> None:
        for unit in self.units:
            restarts = host.check_output("systemctl show --value --property=NRestarts %s", unit)
            assert restarts == "0", unit

    def test_runs_as_a_user_of_its_own(self, host: Host) -> None:
        user = host.user(self.service)
        assert user.shell == "/usr/sbin/nologin"
        for unit in self.units:
            assert host.file(f"/proc/{self.main_pid(host, unit)}").user == self.service, unit

    def test_only_root_reads_the_environment_file(self, host: Host) -> None:
        file = host.file(f"/etc/lastro/{self.service}.env")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o600)

    def test_no_secret_can_be_read_by_everyone(self, host: Host, known_secrets: list[str]) -> None:
        patterns = "\n".join(known_secrets)
        found = host.run(
            "setpriv --reuid=nobody --regid=nogroup --clear-groups"
            " grep --recursive --no-messages --files-with-matches --fixed-strings"
            " --exclude-dir=venv -e %s /etc /opt/lastro /run /tmp /var/lib /var/log",
            patterns,
        )
        assert found.stdout == ""
        assert found.rc in (1, 2)

    def test_no_secret_is_in_the_journal(self, host: Host, known_secrets: list[str]) -> None:
        journal = host.check_output("journalctl --no-pager --output=cat")
        assert [secret for secret in known_secrets if secret in journal] == []

    def test_no_secret_is_an_argument_of_a_process(
        self, host: Host, known_secrets: list[str]
    ) -> None:
        arguments = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert [secret for secret in known_secrets if secret in arguments] == []

    def test_other_hosts_reach_no_other_port(self, host: Host) -> None:
        # Another service may share the host: a socket tells its user's number.
        owner = f"uid:{host.user(self.service).uid} "
        lines = host.check_output("ss --no-header --listening --tcp --numeric --extended")
        mine = {line.split()[3] for line in lines.splitlines() if owner in f"{line} "}
        assert mine, "the service listens nowhere"
        public = {address for address in mine if not address.startswith(("127.", "[::1]"))}
        assert public == self.public

    def test_units_are_hardened(self, host: Host) -> None:
        for unit in self.units:
            shown = host.run("systemd-analyze security --no-pager %s.service", unit).stdout
            exposure = float(shown.rpartition("exposure level for")[2].split()[1])
            assert exposure <= self.max_exposure, shown

    def test_writes_to_its_own_folder_only(self, host: Host) -> None:
        own = f"/var/lib/{self.service}"
        for unit in self.units:
            # The mounts as the unit sees them: the longest that leads to a folder decides.
            table = host.check_output("cat /proc/%s/mountinfo", str(self.main_pid(host, unit)))
            mounts = {line.split()[4]: line.split()[5].split(",") for line in table.splitlines()}
            for folder in ("/etc", "/opt/lastro", "/usr", "/var/lib", "/var/log", own):
                nearest = max(
                    (mount for mount in mounts if f"{folder}/".startswith(f"{mount.rstrip('/')}/")),
                    key=len,
                )
                assert ("rw" if folder == own else "ro") in mounts[nearest], (unit, folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    """Print the journal of the service with a test of it that failed."""
    report = yield
    contract = getattr(item.module, "TestService", None)
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and contract and host:
        for unit in contract.units:
            journal = host.run("journalctl --no-pager --output=cat --lines=40 --unit=%s", unit)
            report.sections.append((f"Journal of {unit}", journal.stdout))
    return report
