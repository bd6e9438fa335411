"""Run Command: documents become scripts, and each instance's agent runs the scripts for it.

On AWS the agent has its own service. Here it calls paths below /latest/, and is identified like the
metadata service's callers: by its address and a token.

- `GET /latest/run-command` waits a while for work and answers 200 with it, or 204.
- `POST /latest/run-command/<command id>` takes the work, so an answer that was lost loses nothing.
- `PUT /latest/run-command/<command id>` reports the result.

A command is moto's (moto/ssm/models.py: `Command`). moto's invocations say Success before anything
ran; here they say what happened. Timeouts are applied when somebody reads a command.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypedDict

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance
from moto.ssm.exceptions import SSMException
from moto.ssm.models import Command, Document, SimpleSystemManagerBackend, ssm_backends
from werkzeug.exceptions import BadRequest, NotFound
from werkzeug.wrappers import Request, Response

from .tracking import ACCOUNT_ID

POLL_SECONDS = 20
"""How long an agent's request for work waits while there is none."""
LOST_SECONDS = 2 * POLL_SECONDS + 20
"""An agent that has not called for so long is lost."""
KEPT = timedelta(days=30)
OUTPUT_LENGTH = 24000
"""The characters of an output that GetCommandInvocation shows, at most."""
LISTED_LENGTH = 2500
"""The characters of an output that ListCommandInvocations shows, at most."""
EXECUTION_SECONDS = 3600
PLUGIN = "aws:runShellScript"
_FINAL = {"Success", "Failed", "TimedOut"}

_pings: dict[str, float] = {}
_arrived = threading.Condition()


class Target(TypedDict):
    """A condition on the instances that a command is for."""

    Key: str
    Values: list[str]


class ManagedInstance(TypedDict):
    """An instance with an agent, as DescribeInstanceInformation shows it."""

    InstanceId: str
    PingStatus: str
    LastPingDateTime: float
    AgentVersion: str
    IsLatestVersion: bool
    PlatformType: str
    PlatformName: str
    PlatformVersion: str
    ResourceType: str
    IPAddress: str


# ---- instances ----------------------------------------------------------------------------------


def running_instances() -> Iterator[Instance]:
    """All running instances of the account."""
    for backend in list(ec2_backends[ACCOUNT_ID].values()):
        for reservation in list(backend.reservations.values()):
            yield from (each for each in reservation.instances if each.state == "running")


def managed_instances() -> list[ManagedInstance]:
    """The running instances whose agent has called, as DescribeInstanceInformation shows them."""
    return [
        {
            "InstanceId": instance.id,
            "PingStatus": "Online" if time.time() - seen < LOST_SECONDS else "ConnectionLost",
            "LastPingDateTime": seen,
            "AgentVersion": "3.3.0.0",
            "IsLatestVersion": False,
            "PlatformType": "Linux",
            "PlatformName": "Debian GNU/Linux",
            "PlatformVersion": "13",
            "ResourceType": "EC2Instance",
            "IPAddress": instance.private_ip,
        }
        for instance in running_instances()
        if (seen := _pings.get(instance.id)) is not None
    ]


def has_tags(instance_id: str, name: str, values: list[str]) -> bool:
    """Whether an instance has a tag with one of the values."""
    return any(
        tag["key"] == name and tag["value"] in values
        for instance in running_instances()
        if instance.id == instance_id
        for tag in instance.get_tags()
    )


# ---- commands -----------------------------------------------------------------------------------


def prepare(document: Document, parameters: dict[str, list[str]]) -> tuple[str, int]:
    """The script of a document, and for how many seconds it may run.

    Raises:
        SSMException: a parameter is missing, unknown or not what the document allows.
    """
    content = document.content_json
    declared = content.get("parameters", {})
    values = {}
    for name in declared.keys() | parameters.keys():
        if name not in declared:
            raise SSMException("InvalidParameters", f"{document.name} has no parameter {name}")
        given = parameters.get(name) or declared[name].get("default")
        if given is None:
            raise SSMException("InvalidParameters", f"{document.name} needs the parameter {name}")
        text = given if isinstance(given, str) else "\n".join(given)
        pattern = declared[name].get("allowedPattern")
        if pattern and not re.search(pattern, text):
            message = f"Parameter {name} has failed to satisfy constraint: {pattern}"
            raise SSMException("InvalidParameters", message)
        values[name] = text
    lines, seconds = [], 0
    for step in content.get("mainSteps", []):
        if step["action"] != PLUGIN:
            raise NotImplementedError(f"the action {step['action']} of a document")
        lines += step["inputs"]["runCommand"]
        seconds += int(step["inputs"].get("timeoutSeconds", EXECUTION_SECONDS))
    return re.sub(
        r"\{\{\s*(\w+)\s*\}\}",
        lambda match: values.get(match[1], match[0]),
        "\n".join(lines) + "\n",
    ), seconds


def resolve(instance_ids: list[str], targets: list[Target]) -> list[str]:
    """The instances that a command is for; all targets must apply.

    Raises:
        SSMException: an instance that was named has no agent.
    """
    managed = [each["InstanceId"] for each in managed_instances()]
    for instance_id in instance_ids:
        if instance_id not in managed:
            raise SSMException(
                "InvalidInstanceId", f"Instances not in a valid state: {instance_id}"
            )
    if not targets:
        return list(dict.fromkeys(instance_ids))
    for target in targets:
        key, values = target["Key"], target["Values"]
        if key == "InstanceIds":
            managed = [each for each in managed if each in values]
        elif key.startswith("tag:"):
            managed = [each for each in managed if has_tags(each, key.removeprefix("tag:"), values)]
        else:
            raise NotImplementedError(f"targets by {key}")
    return managed


def start(command: Command, instance_ids: list[str], script: str, seconds: int) -> None:
    """Let a command of moto's wait for the agents of its instances."""
    command.instance_ids = instance_ids
    command.target_count = len(instance_ids)
    command.script, command.execution_seconds = script, seconds
    command.invocations = [
        command.invocation_response(instance_id, PLUGIN)
        | {
            "Status": "Pending",
            "StatusDetails": "Pending",
            "ResponseCode": -1,
            "ExecutionStartDateTime": "",
            "ExecutionElapsedTime": "",
            "ExecutionEndDateTime": "",
            "RequestedDateTime": command.requested_date_time,
        }
        for instance_id in instance_ids
    ]
    settle(command)
    with _arrived:
        _arrived.notify_all()


def settle(command: Command) -> None:
    """Apply timeouts, and sum up the invocations in the command's own status."""
    now = utcnow()
    for invocation in command.invocations:
        if invocation["Status"] == "Pending" and now > command.expires_after:
            invocation.update(Status="TimedOut", StatusDetails="DeliveryTimedOut")
        elif invocation["Status"] == "InProgress":
            # The agent stops the script in time and reports it, unless the agent is gone.
            allowed = timedelta(seconds=command.execution_seconds + POLL_SECONDS)
            if now > invocation["Started"] + allowed:
                invocation.update(Status="TimedOut", StatusDetails="ExecutionTimedOut")
    states = [invocation["Status"] for invocation in command.invocations]
    command.completed_count = sum(state in _FINAL for state in states)
    command.error_count = states.count("Failed")
    if command.completed_count < len(states):
        unfinished = "Pending" if set(states) == {"Pending"} else "InProgress"
        command.status = command.status_details = unfinished
    else:
        worst = next((state for state in ("Failed", "TimedOut") if state in states), "Success")
        command.status = command.status_details = worst


def forget_old(backend: SimpleSystemManagerBackend) -> None:
    """Forget commands after thirty days, as AWS does."""
    backend._commands[:] = [
        command for command in backend._commands if utcnow() - command.requested_date_time < KEPT
    ]


# ---- the agents ---------------------------------------------------------------------------------


def offer(instance: Instance) -> Response:
    """The oldest command that waits for an instance, as soon as there is one."""
    _pings[instance.id] = time.time()
    deadline = time.monotonic() + POLL_SECONDS
    with _arrived:
        while not (command := _find(instance, "Pending")):
            if (left := deadline - time.monotonic()) <= 0:
                return Response(status=204)
            _arrived.wait(left)
    work = {
        "command_id": command[0].command_id,
        "script": command[0].script,
        "seconds": command[0].execution_seconds,
    }
    return Response(json.dumps(work), content_type="application/json")


def take(instance: Instance, command_id: str) -> Response:
    """Note that an agent begins to run a command that it was offered.

    Raises:
        HTTPException: 404 when no such command waits for the instance.
    """
    command, invocation = _require(instance, "Pending", command_id)
    now = utcnow()
    invocation.update(
        Status="InProgress",
        StatusDetails="InProgress",
        Started=now,
        ExecutionStartDateTime=now.isoformat(),
    )
    settle(command)
    return Response(status=204)


def finish(instance: Instance, command_id: str, request: Request) -> Response:
    """Note an agent's result of a command that it took.

    Raises:
        HTTPException: 404 without such a command in progress, 400 for an invalid body.
    """
    _pings[instance.id] = time.time()
    command, invocation = _require(instance, "InProgress", command_id)
    try:
        result = json.loads(request.get_data(cache=False))
        code, timed_out = int(result["exit_code"]), bool(result["timed_out"])
        outputs = [str(result[name])[:OUTPUT_LENGTH] for name in ("stdout", "stderr")]
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(f"not the result of a command: {error!r}") from error
    now = utcnow()
    status = "TimedOut" if timed_out else "Success" if code == 0 else "Failed"
    invocation.update(
        Status=status,
        StatusDetails="ExecutionTimedOut" if timed_out else status,
        ResponseCode=code,
        StandardOutputContent=outputs[0],
        StandardErrorContent=outputs[1],
        ExecutionEndDateTime=now.isoformat(),
        ExecutionElapsedTime=f"PT{(now - invocation['Started']).total_seconds():.3f}S",
    )
    settle(command)
    return Response(status=204)


type _Found = tuple[Command, dict[str, Any]]


def _find(instance: Instance, status: str, command_id: str | None = None) -> _Found | None:
    for command in list(ssm_backends[ACCOUNT_ID][instance.region_name]._commands):
        settle(command)
        for invocation in command.invocations:
            is_it = (invocation["InstanceId"], invocation["Status"]) == (instance.id, status)
            if is_it and command_id in (None, command.command_id):
                return command, invocation
    return None


def _require(instance: Instance, status: str, command_id: str) -> _Found:
    found = _find(instance, status, command_id)
    if found is None:
        raise NotFound(f"{instance.id} has no command {command_id} that is {status}")
    return found
