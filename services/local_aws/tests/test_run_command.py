"""Run Command: commands reach the instances, and their results come back.

The agent is the one that the hosts of a platform have; it runs here, at the loopback's addresses,
as those hosts' would at theirs.
"""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import Emulator

AGENT = Path(__file__).parents[3] / "ansible/playbooks/local/image/ssm_agent.py"
FINAL = {"Success", "Failed", "TimedOut"}
# The agent, calling from the address that its last argument names.
AGENT_AT = """
import functools, http.client, runpy, sys
address, agent = sys.argv.pop(), sys.argv.pop()
http.client.HTTPConnection.__init__ = functools.partialmethod(
    http.client.HTTPConnection.__init__, source_address=(address, 0)
)
runpy.run_path(agent, run_name="__main__")
"""


def document(script: str, **parameters: dict[str, str]) -> str:
    return json.dumps(
        {
            "schemaVersion": "2.2",
            "description": "A test",
            "parameters": parameters,
            "mainSteps": [
                {
                    "action": "aws:runShellScript",
                    "name": "run",
                    "inputs": {"timeoutSeconds": "2", "runCommand": [script]},
                }
            ],
        }
    )


@pytest.fixture(scope="module")
def subnet(emulator: Emulator) -> str:
    ec2 = emulator.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="127.0.0.0/16")["Vpc"]["VpcId"]
    return ec2.create_subnet(VpcId=vpc, CidrBlock="127.0.9.0/24")["Subnet"]["SubnetId"]


@pytest.fixture(scope="module")
def launch(emulator: Emulator, subnet: str) -> Callable[..., str]:
    """Makes instances with an address and tags."""

    def launch(address: str, **tags: str) -> str:
        return emulator.client("ec2").run_instances(
            ImageId="ami-0d13b1a0000000001",
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            PrivateIpAddress=address,
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )["Instances"][0]["InstanceId"]

    return launch


class Agents:
    """Agents by their instances' addresses."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, address: str) -> None:
        program = [sys.executable, "-c", AGENT_AT, self._emulator.url, str(AGENT), address]
        self._running[address] = subprocess.Popen(
            program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self, address: str) -> None:
        process = self._running.pop(address)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def agents(emulator: Emulator) -> Iterator[Agents]:
    agents = Agents(emulator)
    yield agents
    for address in list(agents._running):
        agents.stop(address)


def until(ask: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="module")
def hosts(emulator: Emulator, launch: Callable[..., str], agents: Agents) -> dict[str, str]:
    """Two instances of an environment and one of another, each with an agent."""
    found = {}
    for name, address, environment in (
        ("one", "127.0.9.11", "test"),
        ("two", "127.0.9.12", "test"),
        ("other", "127.0.9.13", "prod"),
    ):
        found[name] = launch(address, Name=name, Environment=environment)
        agents.start(address)
    until(lambda: set(found.values()) <= {each["InstanceId"] for each in online(emulator)})
    return found


def online(emulator: Emulator, **filters: list[str]) -> list[dict[str, Any]]:
    chosen = [{"Key": key.replace("_", ":"), "Values": values} for key, values in filters.items()]
    answer = emulator.client("ssm").describe_instance_information(Filters=chosen)
    return answer["InstanceInformationList"]


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Callable[..., str]]:
    """Makes documents, and deletes them."""
    made = []

    def make(script: str, **parameters: dict[str, str]) -> str:
        made.append(f"test-{time.time_ns()}")
        emulator.client("ssm").create_document(
            Content=document(script, **parameters), Name=made[-1], DocumentType="Command"
        )
        return made[-1]

    yield make
    for name in made:
        emulator.client("ssm").delete_document(Name=name)


def finished(emulator: Emulator, command: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Instance -> its invocation, once all of a command's have ended."""
    ssm = emulator.client("ssm")
    identifier = command["Command"]["CommandId"]

    def ask() -> dict[str, dict[str, Any]] | None:
        listed = ssm.list_command_invocations(CommandId=identifier)["CommandInvocations"]
        if not listed or any(each["Status"] not in FINAL for each in listed):
            return None
        return {
            each["InstanceId"]: ssm.get_command_invocation(
                CommandId=identifier, InstanceId=each["InstanceId"]
            )
            for each in listed
        }

    return until(ask)


def test_it_runs_on_the_instances_with_all_the_tags_and_on_no_other(
    emulator: Emulator, hosts: dict[str, str], make: Callable[..., str], tmp_path: Path
) -> None:
    script = f"echo ran; echo complaint >&2; touch {tmp_path}/$$"
    command = emulator.client("ssm").send_command(
        DocumentName=make(script),
        Targets=[
            {"Key": "tag:Environment", "Values": ["test"]},
            {"Key": "tag:Name", "Values": ["one", "two", "other"]},
        ],
    )
    invocations = finished(emulator, command)
    assert invocations.keys() == {hosts["one"], hosts["two"]}
    assert len(list(tmp_path.iterdir())) == 2
    for invocation in invocations.values():
        assert (invocation["Status"], invocation["ResponseCode"]) == ("Success", 0)
        assert invocation["StandardOutputContent"] == "ran\n"
        assert invocation["StandardErrorContent"] == "complaint\n"
    listed = emulator.client("ssm").list_commands(CommandId=command["Command"]["CommandId"])
    assert listed["Commands"][0]["Status"] == "Success"
    assert listed["Commands"][0]["TargetCount"] == listed["Commands"][0]["CompletedCount"] == 2


def test_a_failed_script_is_reported_with_its_exit_code(
    emulator: Emulator, hosts: dict[str, str], make: Callable[..., str]
) -> None:
    command = emulator.client("ssm").send_command(
        DocumentName=make("echo no; exit 3"), InstanceIds=[hosts["one"]]
    )
    invocation = finished(emulator, command)[hosts["one"]]
    assert (invocation["Status"], invocation["ResponseCode"]) == ("Failed", 3)
    detailed = emulator.client("ssm").list_command_invocations(
        CommandId=command["Command"]["CommandId"], InstanceId=hosts["one"], Details=True
    )["CommandInvocations"]
    (plugin,) = detailed[0]["CommandPlugins"]
    assert (plugin["Output"], plugin["ResponseCode"]) == ("no\n", 3)


def test_a_script_that_takes_too_long_is_ended_with_all_that_it_started(
    emulator: Emulator, hosts: dict[str, str], make: Callable[..., str], tmp_path: Path
) -> None:
    # Only of this run.
    forever = f"sleep 987.{os.getpid()}"
    script = f"{forever} && touch {tmp_path}/late & {forever}"
    command = emulator.client("ssm").send_command(
        DocumentName=make(script), InstanceIds=[hosts["one"]]
    )
    invocation = finished(emulator, command)[hosts["one"]]
    assert (invocation["Status"], invocation["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")
    left = subprocess.run(["pgrep", "-fx", forever], capture_output=True, text=True)
    assert left.stdout == ""
    assert not list(tmp_path.iterdir())


def test_parameters_are_put_in_and_checked(
    emulator: Emulator, hosts: dict[str, str], make: Callable[..., str]
) -> None:
    ssm = emulator.client("ssm")
    name = make(
        "echo '{{ word }}' '{{other}}'",
        word={"type": "String", "allowedPattern": "^[a-z]+$"},
        other={"type": "String", "default": "given"},
    )
    to = {"DocumentName": name, "InstanceIds": [hosts["one"]]}
    command = ssm.send_command(**to, Parameters={"word": ["hello"]})
    said = finished(emulator, command)[hosts["one"]]["StandardOutputContent"]
    assert said == "hello given\n"
    for bad in ({}, {"word": ["no'; id"]}, {"word": ["hello"], "more": ["x"]}):
        with pytest.raises(ClientError, match="InvalidParameters"):
            ssm.send_command(**to, Parameters=bad)


def test_a_missing_document_or_instance_is_refused(
    emulator: Emulator, hosts: dict[str, str], launch: Callable[..., str], make: Callable[..., str]
) -> None:
    ssm = emulator.client("ssm")
    with pytest.raises(ClientError, match="InvalidDocument"):
        ssm.send_command(DocumentName="missing", InstanceIds=[hosts["one"]])
    without_agent = launch("127.0.9.20", Environment="test")
    name = make("true")
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        ssm.send_command(DocumentName=name, InstanceIds=[without_agent])
    # By tag it is not selected, which is no error.
    targets = [{"Key": "tag:Environment", "Values": ["test"]}]
    command = ssm.send_command(DocumentName=name, Targets=targets)
    assert without_agent not in finished(emulator, command)
    emulator.client("ec2").terminate_instances(InstanceIds=[without_agent])


def test_instances_with_an_agent_are_listed(emulator: Emulator, hosts: dict[str, str]) -> None:
    (one,) = online(emulator, InstanceIds=[hosts["one"]])
    assert one["PingStatus"] == "Online"
    assert one["IPAddress"] == "127.0.9.11"
    found = {each["InstanceId"] for each in online(emulator, tag_Environment=["test"])}
    assert found == {hosts["one"], hosts["two"]}


def test_waiting_commands_survive_a_crash_and_time_out(
    emulator: Emulator,
    hosts: dict[str, str],
    agents: Agents,
    make: Callable[..., str],
    tmp_path: Path,
) -> None:
    agents.stop("127.0.9.12")
    ssm = emulator.client("ssm")
    to = {"DocumentName": make(f"touch {tmp_path}/ran"), "InstanceIds": [hosts["two"]]}
    kept = ssm.send_command(**to)
    emulator.kill()
    emulator.start()
    identifier = kept["Command"]["CommandId"]
    waiting = ssm.get_command_invocation(CommandId=identifier, InstanceId=hosts["two"])
    assert waiting["Status"] == "Pending"
    agents.start("127.0.9.12")
    assert finished(emulator, kept)[hosts["two"]]["Status"] == "Success"
    assert (tmp_path / "ran").exists()


def test_a_command_that_is_never_fetched_times_out(
    emulator: Emulator, hosts: dict[str, str], agents: Agents, make: Callable[..., str]
) -> None:
    agents.stop("127.0.9.12")
    # AWS takes no less than 30 seconds, which boto3 checks; the emulator is not that strict.
    ssm = emulator.client("ssm", config=Config(parameter_validation=False))
    command = ssm.send_command(
        DocumentName=make("true"), InstanceIds=[hosts["two"]], TimeoutSeconds=1
    )
    invocation = finished(emulator, command)[hosts["two"]]
    assert (invocation["Status"], invocation["StatusDetails"]) == ("TimedOut", "DeliveryTimedOut")
    agents.start("127.0.9.12")


def test_only_an_instance_with_a_token_is_handed_work(
    emulator: Emulator, hosts: dict[str, str]
) -> None:
    for address, status in (("127.0.9.11", 401), ("127.0.9.99", 404)):
        connection = http.client.HTTPConnection(
            "127.0.0.1", emulator.port, source_address=(address, 0)
        )
        connection.request(
            "GET", "/latest/run-command", headers={"X-aws-ec2-metadata-token": "forged"}
        )
        assert connection.getresponse().status == status
        connection.close()


def test_the_gaps_are_motos(aws: Any) -> None:
    """A command for an instance without an agent does not succeed."""
    ssm = aws("ssm")
    name = f"test-{time.time_ns()}"
    ssm.create_document(Content=document("true"), Name=name, DocumentType="Command")
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        ssm.send_command(DocumentName=name, InstanceIds=["i-0123456789abcdef0"])


@pytest.mark.parametrize("ask", ["list_command_invocations", "describe_instance_information"])
def test_actions_that_moto_lacks(aws: Any, ask: str) -> None:
    assert getattr(aws("ssm"), ask)()["ResponseMetadata"]["HTTPStatusCode"] == 200
