"""Gaps of moto's Systems Manager."""

from moto.core.responses import ActionResult
from moto.ssm.exceptions import SSMException
from moto.ssm.models import Command, Parameter, ParameterDict, SimpleSystemManagerBackend
from moto.ssm.responses import SimpleSystemManagerResponse

from .. import run_command
from . import debian

_PUBLISHED = 1788220800.0  # 2026-09-01, a Unix time


def publish_the_debian_parameter() -> None:
    """`/aws/service/debian/release/13/latest/amd64` is the id of the Debian image.

    moto/ssm/models.py: `ParameterDict._check_loading_status` loads Amazon's parameters only,
    and nobody may put a parameter under /aws.
    """
    original = ParameterDict._check_loading_status

    def check_loading_status(self: ParameterDict, key: str) -> None:
        original(self, key)
        name = debian.PARAMETER
        if name.startswith(str(key or "?")) and not dict.__contains__(self, name):
            parameter = Parameter(
                account_id=self.account_id,
                name=name,
                value=debian.image_id(),
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=_PUBLISHED,
                version=1,
                data_type="aws:ec2:image",
            )
            dict.__setitem__(self, name, [parameter])

    ParameterDict._check_loading_status = check_loading_status


def run_commands() -> None:
    """`SendCommand` reaches the agents of its instances, and its status is their outcome.

    moto/ssm/models.py: a `Command` is "Success" when it is made, whatever document it names and
    whichever instances there are.
    """
    send = SimpleSystemManagerBackend.send_command
    get, find = (
        SimpleSystemManagerBackend.get_command_invocation,
        SimpleSystemManagerBackend.list_commands,
    )

    def send_command(
        self: SimpleSystemManagerBackend,
        document_name: str,
        instance_ids: list[str],
        parameters: dict[str, list[str]],
        targets: list[run_command.Target],
        **options: object,
    ) -> Command:
        document = self._get_documents(document_name).get_default_version()
        script, seconds = run_command.prepare(document, parameters)
        reached = run_command.resolve(instance_ids, targets)
        run_command.forget_old(self)
        # moto would resolve targets by filters of DescribeInstances, and take stopped instances.
        command = send(
            self,
            document_name=document_name,
            instance_ids=[],
            parameters=parameters,
            targets=[],
            **options,
        )
        command.targets = targets
        run_command.start(command, reached, script, seconds)
        return command

    def list_commands(
        self: SimpleSystemManagerBackend, command_id: str | None, instance_id: str | None
    ) -> list[Command]:
        found: list[Command] = find(self, command_id, instance_id)
        for command in found:
            run_command.settle(command)
        return found

    def get_command_invocation(
        self: SimpleSystemManagerBackend,
        command_id: str,
        instance_id: str,
        plugin_name: str | None,
    ) -> dict[str, object]:
        self.list_commands(command_id, None)
        invocation: dict[str, object] = get(self, command_id, instance_id, plugin_name)
        return invocation

    SimpleSystemManagerBackend.send_command = send_command
    SimpleSystemManagerBackend.list_commands = list_commands
    SimpleSystemManagerBackend.get_command_invocation = get_command_invocation


def list_command_invocations() -> None:
    """`ListCommandInvocations` shows the instances of a command, in detail if the request says so.

    moto/ssm/responses.py has no such action.
    """

    def respond(self: SimpleSystemManagerResponse) -> ActionResult:
        wanted, details = self._get_param("InstanceId"), self._get_param("Details")
        if self._get_param("Filters"):
            raise NotImplementedError("ListCommandInvocations with Filters")
        listed = []
        for command in self.ssm_backend.list_commands(self._get_param("CommandId"), wanted):
            for invocation in command.invocations:
                if wanted in (None, invocation["InstanceId"]):
                    plugin = {
                        "Name": invocation["PluginName"],
                        "Status": invocation["Status"],
                        "StatusDetails": invocation["StatusDetails"],
                        "ResponseCode": invocation["ResponseCode"],
                        "Output": invocation["StandardOutputContent"][: run_command.LISTED_LENGTH],
                    }
                    listed.append(invocation | {"CommandPlugins": [plugin] if details else []})
        return ActionResult({"CommandInvocations": listed})

    SimpleSystemManagerResponse.list_command_invocations = respond


def describe_instances_with_an_agent() -> None:
    """`DescribeInstanceInformation` lists the instances whose agent has called.

    moto/ssm/responses.py has no such action.
    """

    def matches(instance: run_command.ManagedInstance, key: str, values: list[str]) -> bool:
        if key == "InstanceIds":
            return instance["InstanceId"] in values
        if key == "PingStatus":
            return instance["PingStatus"] in values
        if key.startswith("tag:"):
            return run_command.has_tags(instance["InstanceId"], key.removeprefix("tag:"), values)
        raise SSMException("InvalidInstanceInformationFilterValue", f"there is no filter {key}")

    def respond(self: SimpleSystemManagerResponse) -> ActionResult:
        filters = [(each["Key"], each["Values"]) for each in self._get_param("Filters", [])]
        found = [
            instance
            for instance in run_command.managed_instances()
            if all(matches(instance, key, values) for key, values in filters)
        ]
        return ActionResult({"InstanceInformationList": found})

    SimpleSystemManagerResponse.describe_instance_information = respond
