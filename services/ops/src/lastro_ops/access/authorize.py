"""Let this machine in by SSH on the running hosts of an environment, for some hours.

One Run Command (terraform/access.tf) sends a new key to all of them and returns the hosts' own
keys. If a key is still good for an hour and the hosts are the same, nothing happens.

Writes in .lastro/<environment>: ssh_key, known_hosts (by instance id) and access.json.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.client import BaseClient

from lastro_ops import aws
from lastro_ops.errors import OpsError, UsageError
from lastro_ops.project import Platform, Project

MARGIN = timedelta(hours=1)
# A host that has just been made installs its agent first.
BOOT_SECONDS = 300
ANSWER_SECONDS = 90
FINAL = {"Success", "Failed", "TimedOut", "Cancelled"}
DOCUMENTED = "%Y%m%d%H%M%SZ"


def running(ec2: BaseClient, platform: Platform) -> dict[str, str]:
    """Instance id -> name, of the environment's running hosts."""
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": "tag:Project", "Values": [platform["project"]]},
            {"Name": "tag:Environment", "Values": [platform["environment"]]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )
    return {
        instance["InstanceId"]: next(
            tag["Value"] for tag in instance["Tags"] if tag["Key"] == "Name"
        )
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    }


def still_good(state: Path, hosts: dict[str, str]) -> str | None:
    """When the key of an earlier run expires on these hosts; None if that is soon."""
    try:
        access = json.loads((state / "access.json").read_text())
        until = datetime.strptime(access["valid_until"], DOCUMENTED).replace(tzinfo=UTC)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    good = until - datetime.now(UTC) > MARGIN and access["hosts"] == sorted(hosts)
    return str(access["valid_until"]) if good and (state / "ssh_key").exists() else None


def wait_for_agents(ssm: BaseClient, hosts: dict[str, str]) -> None:
    """Return when all hosts are online in Session Manager, or after BOOT_SECONDS."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        pages = ssm.get_paginator("describe_instance_information").paginate(
            Filters=[{"Key": "InstanceIds", "Values": sorted(hosts)}]
        )
        listed = [each for page in pages for each in page["InstanceInformationList"]]
        online = {each["InstanceId"] for each in listed if each["PingStatus"] == "Online"}
        if online == hosts.keys():
            return
        time.sleep(2)


def new_key(file: Path) -> str:
    """Make a key pair without a passphrase and return its public half."""
    file.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True
    )
    return " ".join(Path(f"{file}.pub").read_text().split()[:2])


def send_key(
    ssm: BaseClient, platform: Platform, hosts: dict[str, str], key: str, until: str
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Send the key to the hosts.

    Returns:
        The SSH keys of the hosts that accepted it, and why the others did not, by instance id.
    """
    command = ssm.send_command(
        DocumentName=platform["access"]["document"],
        Targets=[
            {"Key": "tag:Project", "Values": [platform["project"]]},
            {"Key": "tag:Environment", "Values": [platform["environment"]]},
        ],
        Parameters={"publicKey": [key], "validUntil": [until]},
        TimeoutSeconds=ANSWER_SECONDS,
        # All at once, and a host that fails does not stop the others.
        MaxConcurrency="100%",
        MaxErrors="100%",
    )["Command"]["CommandId"]
    deadline = time.monotonic() + ANSWER_SECONDS
    found: dict[str, dict[str, Any]] = {}
    while time.monotonic() < deadline:
        time.sleep(1)
        pages = ssm.get_paginator("list_command_invocations").paginate(
            CommandId=command, Details=True
        )
        found = {each["InstanceId"]: each for page in pages for each in page["CommandInvocations"]}
        if hosts.keys() <= {name for name, each in found.items() if each["Status"] in FINAL}:
            break
    let_in, refused = {}, {}
    for host in hosts:
        if host not in found:
            refused[host] = "its agent is not there"
        elif found[host]["Status"] != "Success":
            refused[host] = (
                f"{found[host]['StatusDetails']}; `aws ssm get-command-invocation"
                f" --command-id {command} --instance-id {host}` shows what it said"
            )
        else:
            let_in[host] = found[host]["CommandPlugins"][0]["Output"].splitlines()
    return let_in, refused


def write(file: Path, text: str) -> None:
    """Replace a file as a whole."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.replace(file)


def hours(text: str) -> int:
    """The argument HOURS."""
    if not text.isdecimal() or not 2 <= int(text) <= 24:
        raise UsageError(f"HOURS is '{text}'; choose 2 to 24")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops authorize`."""
    parser.add_argument("environment", metavar="ENV")
    parser.add_argument("hours", metavar="HOURS", type=hours, help="2 to 24")


def run(project: Project, options: argparse.Namespace) -> None:
    """Let this machine in on every host, or name the hosts that refuse."""
    environment = project.environment(options.environment)
    platform, state = environment.contract(), environment.state
    state.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)
    with (state / "access.lock").open("w") as lock, aws.explained():
        fcntl.flock(lock, fcntl.LOCK_EX)
        ssm = aws.client("ssm", platform["region"])
        hosts = running(aws.client("ec2", platform["region"]), platform)
        if not hosts:
            raise OpsError(
                f"{environment.name} has no running host: start its instances, or"
                f" `make apply ENV={environment.name}`."
            )
        if good := still_good(state, hosts):
            print(f"{len(hosts)} hosts already accept this machine until {good}")
            return
        wait_for_agents(ssm, hosts)
        until = (datetime.now(UTC) + timedelta(hours=options.hours)).strftime(DOCUMENTED)
        fresh = state / "ssh_key.new"
        let_in, refused = send_key(ssm, platform, hosts, new_key(fresh), until)
        if let_in:
            for suffix in ("", ".pub"):
                Path(f"{fresh}{suffix}").replace(state / f"ssh_key{suffix}")
            lines = [f"{host} {line}" for host, keys in sorted(let_in.items()) for line in keys]
            write(state / "known_hosts", "\n".join(lines) + "\n")
            access = {"valid_until": until, "hosts": sorted(let_in)}
            write(state / "access.json", json.dumps(access) + "\n")
    for host, why in refused.items():
        print(
            f"{hosts[host]} ({host}) rejects this machine: {why}."
            f" `aws ec2 get-console-output --latest --instance-id {host}` shows its boot;"
            " it needs an instance profile and access to the internet",
            file=sys.stderr,
        )
    if refused:
        raise OpsError(f"{len(refused)} of {len(hosts)} hosts reject this machine")
    print(f"authorized on {len(hosts)} hosts until {until}")
