"""The way in to the hosts of an environment in AWS: a key for some hours, SSH, and no open port.

The environment `test` as one in AWS: its inventory is that of `dev` and `prod` (inventory/common/
aws.yml), with a stand-in for Session Manager as the ProxyCommand (session_stand_in.py). Only AWS
can show the session itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from lastro_platform import PROJECT, Platform, wait_for

OPS = str(PROJECT / ".venv/bin/lastro-ops")
STAND_IN = Path(__file__).with_name("session_stand_in.py")
KEYS = "/home/admin/.ssh/authorized_keys"
OF_A_COLLEAGUE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICOLLEAGUEcolleagueCOLLEAGUEcolleagueCOL ana"


@dataclass(frozen=True)
class Access:
    """The environment, seen as one in AWS.

    Attributes:
        platform: the environment.
        inventory: what `inventory/prod` is to prod.
        state: its folder in .lastro.
    """

    platform: Platform
    inventory: Path
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        """A shell with the credentials of the account."""
        lines = (self.state / "aws.env").read_text().splitlines()
        return os.environ | dict(line.split("=", 1) for line in lines)

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in that shell; both outputs as text."""
        defaults: dict[str, Any] = {"cwd": PROJECT, "env": self.environment, "timeout": 300}
        return subprocess.run(
            argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, **defaults | options
        )

    def playbook(self, playbook: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook."""
        settings = self.environment | {"ANSIBLE_NOCOLOR": "1"}
        return self.run(
            *("ansible-playbook", "-i", str(self.inventory), str(playbook), *arguments),
            env=settings,
        )

    def ssh(self, command: str, *options: str, host: str = "mlflow") -> Any:
        """Run a command on a host by SSH alone."""
        config = str(self.state / "ssh_config")
        return self.run(
            *("ssh", "-F", config, "-o", "BatchMode=yes", *options),
            *(self.platform.host_of(host), command),
        )

    def send(self, key: str, until: datetime) -> None:
        """Let a key in by the document, as the controller does."""
        ssm = self.platform.aws("ssm")
        command = ssm.send_command(
            DocumentName=self.platform.contract["access"]["document"],
            InstanceIds=[self.instance("mlflow")],
            Parameters={"publicKey": [key], "validUntil": [f"{until:%Y%m%d%H%M%S}Z"]},
        )["Command"]["CommandId"]
        invocation = {"CommandId": command, "InstanceId": self.instance("mlflow")}

        def ended() -> dict[str, Any] | None:
            answer = ssm.get_command_invocation(**invocation)
            return None if answer["Status"] in ("Pending", "InProgress") else answer

        answer = wait_for("the document", ended)
        assert answer["Status"] == "Success", answer

    def instance(self, service: str) -> str:
        """The instance of a service."""
        hosts = self.platform.contract["hosts"].values()
        return next(host["instance_id"] for host in hosts if service in host["roles"])


def write_inventory(platform: Platform, folder: Path) -> Path:
    """The inventory of the environment, were it in AWS."""
    here = PROJECT / "inventory" / platform.environment
    inventory = folder / "inventory" / platform.environment
    variables = inventory / "group_vars" / "all"
    variables.mkdir(parents=True)
    (variables / "00_common").symlink_to(PROJECT / "inventory/common/group_vars/all")
    (variables / "01_aws.yml").symlink_to(PROJECT / "inventory/common/aws.yml")
    for name in ("environment.yml", "platform.json"):
        shutil.copy(here / "group_vars/all" / name, variables)
    for name in ("localhost.yml", "hosts.aws_ec2.yml"):
        shutil.copy(here / name, inventory)
    ours = {
        "lastro_project_dir": str(PROJECT),
        "lastro_session_command": f"'{sys.executable}' '{STAND_IN}' %h %p",
    }
    (variables / "02_test.yml").write_text(json.dumps(ours))
    return inventory


@pytest.fixture(scope="module")
def access(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Access:
    """The environment after the first `make access`."""
    access = Access(
        platform,
        write_inventory(platform, tmp_path_factory.mktemp("access")),
        PROJECT / ".lastro" / platform.environment,
    )
    for name in ("ssh_key", "access.json", "known_hosts"):
        (access.state / name).unlink(missing_ok=True)
    first = access.playbook("ansible/playbooks/access.yml")
    assert first.returncode == 0, first.stdout + first.stderr
    assert platform.changes(first.stdout)["localhost"] > 0
    return access


@pytest.fixture
def other_key(tmp_path: Path) -> tuple[Path, str]:
    """A key of another controller: its file and its public half."""
    file = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True
    )
    return file, Path(f"{file}.pub").read_text().strip()


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_second_run_has_nothing_to_do(access: Access) -> None:
    before = (access.state / "ssh_key").read_bytes()
    assert (access.state / "ssh_key").stat().st_mode & 0o777 == 0o600
    again = access.playbook("ansible/playbooks/access.yml")
    assert again.returncode == 0, again.stdout + again.stderr
    assert access.platform.changes(again.stdout) == {"localhost": 0}
    assert (access.state / "ssh_key").read_bytes() == before


def test_a_key_that_is_about_to_end_is_replaced(access: Access) -> None:
    old = (access.state / "ssh_key").read_bytes()
    file = access.state / "access.json"
    soon = json.loads(file.read_text()) | {"valid_until": f"{in_seconds(1800):%Y%m%d%H%M%S}Z"}
    file.write_text(json.dumps(soon))
    ran = access.run(OPS, "authorize", access.platform.environment, "3")
    assert ran.returncode == 0, ran.stderr
    assert (access.state / "ssh_key").read_bytes() != old
    until = datetime.strptime(json.loads(file.read_text())["valid_until"], "%Y%m%d%H%M%S%z")
    assert timedelta(hours=2.9) < until - datetime.now(UTC) <= timedelta(hours=3)
    assert access.ssh("true").returncode == 0


@pytest.mark.parametrize("strategy", ["mitogen_linear", "mitogen_free", "linear"])
def test_ansible_works_on_every_host_as_root(access: Access, strategy: str, tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        textwrap.dedent(f"""
        - hosts: platform
          gather_facts: false
          strategy: {strategy}
          tasks:
            - name: Log in
              ansible.builtin.ping:
            - name: Ask who logged in, and by what
              ansible.builtin.shell: whoami; echo "${{SSH_CONNECTION:-none}}"
              vars:
                ansible_become: false
              register: login
              changed_when: false
            - name: Write as root
              ansible.builtin.copy:
                dest: /root/written-by-ansible
                content: "{strategy}"
                mode: "0600"
            - name: Show it
              ansible.builtin.debug:
                msg: "{{{{ inventory_hostname }}}} {{{{ login.stdout_lines | join(' ') }}}}"
        """)
    )
    ran = access.playbook(playbook)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    hosts = access.platform.contract["hosts"]
    for name, host in hosts.items():
        full = f"{access.platform.contract['project']}-{access.platform.environment}-{name}"
        # By SSH, and to the address that the instance has.
        found = re.search(rf"{full} admin \S+ \d+ (\S+) 22", ran.stdout)
        assert found and found[1] == host["private_ip"], ran.stdout


def test_a_changed_host_key_is_refused(access: Access, other_key: tuple[Path, str]) -> None:
    file = access.state / "known_hosts"
    true = file.read_text()
    assert {line.split()[0] for line in true.splitlines()} == {
        host["instance_id"] for host in access.platform.contract["hosts"].values()
    }
    # Each host has its own.
    assert len({line.split()[2] for line in true.splitlines()}) == len(true.splitlines())
    try:
        file.write_text(f"{access.instance('mlflow')} {other_key[1]}\n")
        refused = access.ssh("true")
        assert refused.returncode == 255
        assert "Host key verification failed" in refused.stderr
        by_ansible = access.run(
            *("ansible", "-i", str(access.inventory), "mlflow", "-m", "ansible.builtin.ping")
        )
        assert by_ansible.returncode != 0 and "pong" not in by_ansible.stdout
    finally:
        file.write_text(true)
    assert access.ssh("true").returncode == 0


def test_two_controllers_and_a_colleague_get_in_until_their_time_is_over(
    access: Access, other_key: tuple[Path, str]
) -> None:
    host = access.platform.host("mlflow")
    assert host.run(f"echo '{OF_A_COLLEAGUE}' >>{KEYS}").rc == 0
    file, public = other_key
    # IdentityFile is the first of several: ours would get in otherwise.
    as_other = ("-F", "/dev/null", "-i", str(file), "-o", "IdentitiesOnly=yes", "-l", "admin")
    proxy = f"'{sys.executable}' '{STAND_IN}' %h %p"
    known = f"UserKnownHostsFile={access.state}/known_hosts"

    def other() -> subprocess.CompletedProcess[str]:
        return access.run(
            *("ssh", *as_other, "-o", "BatchMode=yes", "-o", f"ProxyCommand={proxy}"),
            *("-o", known, access.instance("mlflow"), "true"),
        )

    access.send(public, in_seconds(8))
    assert other().returncode == 0
    assert access.ssh("true").returncode == 0

    def is_over() -> bool:
        refused = other()
        return refused.returncode == 255 and "Permission denied (publickey)" in refused.stderr

    wait_for("the key to end", is_over, 20)
    # A key that had expired before it arrived.
    access.send(public, in_seconds(-60))
    assert is_over()
    # The next run removes the expired lines, and no others.
    access.send(
        access.run("ssh-keygen", "-y", "-f", f"{access.state}/ssh_key").stdout.strip(),
        in_seconds(7200),
    )
    lines = host.file(KEYS).content_string.splitlines()
    assert OF_A_COLLEAGUE in lines
    assert not any(public.split()[1] in line for line in lines)
    assert sum(line.endswith(" lastro-controller") for line in lines) == len(set(lines)) - 1
    assert host.file(KEYS).mode == 0o600 and host.file(KEYS).user == "admin"
    assert host.run(f"stat -c '%a %U' {Path(KEYS).parent}").stdout.strip() == "700 admin"
    assert access.ssh("true").returncode == 0
    host.run(f"sed -i '/ ana$/d' {KEYS}")


def test_invalid_keys_and_times_are_refused(access: Access) -> None:
    ssm = access.platform.aws("ssm")
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    for parameters in (
        {"publicKey": [f"{key}'; touch /tmp/x; '"], "validUntil": ["20990101000000Z"]},
        {"publicKey": [key], "validUntil": ["20990101000000Z' ; touch /tmp/x; '"]},
        {"publicKey": [key], "validUntil": ["always"]},
    ):
        with pytest.raises(ssm.exceptions.InvalidParameters):
            ssm.send_command(
                DocumentName=access.platform.contract["access"]["document"],
                InstanceIds=[access.instance("mlflow")],
                Parameters=parameters,
            )


def test_no_password_opens_a_host_and_admin_is_root_when_it_asks(access: Access) -> None:
    refused = access.ssh("true", "-o", "PubkeyAuthentication=no")
    assert refused.returncode == 255
    # In brackets: the methods that the host offers.
    assert "Permission denied (publickey)" in refused.stderr
    assert access.ssh("sudo -n id -u").stdout.strip() == "0"


@contextlib.contextmanager
def instance_of_another_environment(platform: Platform) -> Iterator[str]:
    """An instance with an agent that calls from this machine and takes no work."""
    ec2 = platform.aws("ec2")
    gateway = platform.contract["hosts"]["mlflow"]["private_ip"].rsplit(".", 2)[0] + ".0.1"
    vpc = ec2.create_vpc(CidrBlock=gateway.replace(".0.1", ".0.0/16"))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=gateway.replace(".0.1", ".0.0/24"))
    instance = ec2.run_instances(
        ImageId=ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"],
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        SubnetId=subnet["Subnet"]["SubnetId"],
        PrivateIpAddress=gateway,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [
                    {"Key": "Name", "Value": "stranger"},
                    {"Key": "Project", "Value": "lastro"},
                    {"Key": "Environment", "Value": "other"},
                ],
            }
        ],
    )["Instances"][0]["InstanceId"]
    url = f"{ec2.meta.endpoint_url}/latest"
    ask = urllib.request.Request(
        f"{url}/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "600"}, method="PUT"
    )
    token = {"X-aws-ec2-metadata-token": urllib.request.urlopen(ask).read().decode()}
    call = urllib.request.Request(f"{url}/run-command", headers=token)
    threading.Thread(target=lambda: urllib.request.urlopen(call).close(), daemon=True).start()
    try:
        yield instance
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
        ec2.delete_subnet(SubnetId=subnet["Subnet"]["SubnetId"])
        ec2.delete_vpc(VpcId=vpc)


def test_another_environments_instances_are_left_alone(access: Access) -> None:
    ssm = access.platform.aws("ssm")
    with instance_of_another_environment(access.platform) as stranger:

        def is_online() -> bool:
            listed = ssm.describe_instance_information()["InstanceInformationList"]
            return stranger in {each["InstanceId"] for each in listed}

        wait_for("its agent", is_online)
        (access.state / "access.json").unlink()
        ran = access.run(OPS, "authorize", access.platform.environment, "12")
        assert ran.returncode == 0, ran.stderr
        assert "authorized on 3 hosts" in ran.stdout
        reached = ssm.list_command_invocations()["CommandInvocations"]
        assert reached and stranger not in {each["InstanceId"] for each in reached}


def test_a_host_that_does_not_let_it_in_is_named_and_the_others_do(access: Access) -> None:
    host = access.platform.host("mlflow")
    host.run("mkdir /root/keys && mv /etc/ssh/ssh_host_*.pub /root/keys/")
    try:
        (access.state / "access.json").unlink()
        ran = access.run(OPS, "authorize", access.platform.environment, "12")
        assert ran.returncode == 1
        assert access.platform.host_of("mlflow") in ran.stderr
        assert "rejects this machine: Failed" in ran.stderr
        assert "aws ssm get-command-invocation" in ran.stderr
        assert access.ssh("true", host="airflow").returncode == 0
    finally:
        host.run("mv /root/keys/*.pub /etc/ssh/ && rmdir /root/keys")
    # The next run sees that one is missing.
    ran = access.run(OPS, "authorize", access.platform.environment, "12")
    assert ran.returncode == 0 and "authorized on 3 hosts" in ran.stdout
    assert access.ssh("true").returncode == 0


def test_a_tunnel_opens_a_service_and_ends(access: Access) -> None:
    port = "15000"
    url = f"http://127.0.0.1:{port}"
    tunnel = subprocess.Popen(
        [OPS, "tunnel", access.platform.environment, "airflow", port],
        cwd=PROJECT,
        env=access.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As in a terminal: tests in the background may ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert tunnel.stdout is not None
        said = tunnel.stdout.readline()
        assert url in said and "make login" in said

        def answer() -> int | None:
            try:
                return requests.get(f"{url}/api/v2/version", timeout=10).status_code
            except requests.ConnectionError:
                return None

        assert wait_for("the tunnel", answer) == 200
        # A login does not redirect to an address in the hosts' network.
        login = requests.get(f"{url}/api/v2/auth/login", timeout=10, allow_redirects=False)
        sent = urlsplit(urljoin(url, login.headers["Location"]))
        known = urlsplit(access.platform.public_url("airflow") if access.platform.domain else url)
        assert sent.netloc == known.netloc
        taken = access.run(OPS, "tunnel", access.platform.environment, "mlflow", port)
        assert taken.returncode == 1 and f"port {port} of this machine is in use" in taken.stderr
    finally:
        tunnel.send_signal(signal.SIGINT)
        tunnel.wait(timeout=10)
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_on_one_machine_a_service_is_open_and_a_bad_one_names_the_others(
    platform: Platform,
) -> None:
    said = platform.make("tunnel", "SERVICE=model-api")
    assert f"opens directly: {platform.url('model_api')}" in said
    refused = platform.make("tunnel", "SERVICE=beer", check=False)
    assert "SERVICE is 'beer'. Choose one of: airflow, dashboard, mlflow, model_api" in refused
