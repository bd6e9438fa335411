"""Gaps of moto's EC2."""

import json
import os
from collections.abc import Callable

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import amis
from moto.ec2.models.elastic_network_interfaces import NetworkInterface, NetworkInterfaceBackend
from moto.ec2.models.instances import Instance, InstanceState
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.monitoring import Monitoring

from . import debian


def offer_the_debian_image() -> None:
    """`data.aws_ami` finds Debian 13 (owner 136693071363).

    moto/ec2/models/amis.py: `AMIS` has Amazon Linux, Windows and Ubuntu only. Debian's image
    takes the place of those 1291, which would also weigh on the state of every region.
    """
    os.environ["MOTO_AMIS_PATH"] = str(debian.AMIS_PATH)
    amis.AMIS = json.loads(debian.AMIS_PATH.read_text())


def show_security_groups_of_the_network_interface() -> None:
    """An instance shows the security groups its primary network interface was launched with.

    moto/ec2/models/instances.py: `Instance.security_groups` ignores the groups in
    `NetworkInterface.1`, which is where Terraform sends them: a diff on every plan.
    """
    prepare = Instance.prep_nics
    modify = NetworkInterfaceBackend.modify_network_interface_attribute

    def prep_nics(self: Instance, *args: object, **kwargs: object) -> None:
        prepare(self, *args, **kwargs)
        primary = self.nics.get(0)
        known = list(self.security_groups)
        for group in primary._group_set if primary else ():
            if group not in known:
                known.append(group)
        self.security_groups = known

    def modify_network_interface_attribute(
        self: NetworkInterfaceBackend,
        eni_id: str,
        group_ids: list[str],
        *args: object,
        **kwargs: object,
    ) -> None:
        modify(self, eni_id, group_ids, *args, **kwargs)
        interface = self.get_network_interface(eni_id)
        if group_ids and interface.instance is not None and interface.device_index == 0:
            groups: list[SecurityGroup] = list(interface._group_set)
            interface.instance.security_groups = groups

    Instance.prep_nics = prep_nics
    NetworkInterfaceBackend.modify_network_interface_attribute = modify_network_interface_attribute


def leave_out_the_empty_association() -> None:
    """An interface without a public address has no association at all.

    moto/ec2/models/elastic_network_interfaces.py: `NetworkInterface.association` is an empty
    one, which Terraform reads as `associate_public_ip_address = true`: replaced on every apply.
    """
    original = NetworkInterface.association.fget
    NetworkInterface.association = property(lambda self: original(self) or None)


def free_addresses_on_termination() -> None:
    """A terminated instance gives back its address and its network interfaces.

    moto/ec2/models/instances.py: `Instance.terminate` keeps both, so that an instance with a
    fixed address cannot be replaced and an interface of its own cannot be deleted.
    """
    original = Instance.terminate

    def terminate(self: Instance) -> InstanceState:
        subnet_id, interfaces = self.subnet_id, list(self.nics.values())
        previous = original(self)
        for interface in interfaces:
            interface.instance = interface.attachment_id = None
            interface.status = "available"
            made_at_launch = interface.description == "Primary network interface"
            if made_at_launch and interface.id in self.ec2_backend.enis:
                interface.delete()
        if subnet_id:
            subnet = self.ec2_backend.get_subnet(subnet_id)
            for address in self._private_ips:
                subnet.del_subnet_ip(address)
        return previous

    Instance.terminate = terminate


def choose_addresses_that_are_free() -> None:
    """An instance gets the first address of its subnet that nobody has, also after a restart.

    moto/ec2/models/subnets.py: `Subnet.get_available_subnet_ip` keeps its place in an
    iterator, which a restart loses: the next instance then got the subnet's first address, which
    AWS keeps for its router.
    """

    def get_available_subnet_ip(self: Subnet, instance: Instance) -> str:
        for address in self.cidr.hosts():
            kept = address in self.aws_reserved_ips or address in self._reserved_ips
            if not kept and str(address) not in self._subnet_ips:
                self.request_ip(str(address), instance)
                return str(address)
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{self.id}'.",
        )

    Subnet.get_available_subnet_ip = get_available_subnet_ip


def monitor_instances() -> None:
    """`MonitorInstances` and `UnmonitorInstances` set the state that DescribeInstances shows.

    moto/ec2/responses/monitoring.py: both raise NotImplementedError.
    """

    def action(state: str) -> Callable[[Monitoring], ActionResult]:
        def respond(self: Monitoring) -> ActionResult:
            self.error_on_dryrun()
            result = []
            ids = self._get_param("InstanceIds", [])
            for instance in self.ec2_backend.get_multi_instances_by_id(ids):
                instance.monitoring_state = state
                result.append({"InstanceId": instance.id, "Monitoring": {"State": state}})
            return ActionResult({"InstanceMonitorings": result})

        return respond

    Monitoring.monitor_instances = action("enabled")
    Monitoring.unmonitor_instances = action("disabled")


def describe_rules_that_reference_a_group() -> None:
    """A rule from group to group keeps its description.

    moto/ec2/models/security_groups.py: `SecurityGroupRule.description` looks for it in
    `ip_range` only; a referenced group's is in `source_group`.
    """
    SecurityGroupRule.description = property(
        lambda rule: rule.ip_range.get("Description") or rule.source_group.get("Description")
    )


def keep_credit_specifications() -> None:
    """An instance borrows CPU credits, or not, as its launch or a later change says.

    moto/ec2/responses/instances.py: `describe_instance_credit_specifications` says `standard` of
    every instance; `ModifyInstanceCreditSpecification` is missing.
    """
    launch = InstanceResponse.run_instances

    def run_instances(self: InstanceResponse) -> ActionResult:
        answer = launch(self)
        for instance in answer.result.instances:
            # T2, the first burstable family, does not borrow by default; the later ones do.
            default = "standard" if instance.instance_type.startswith("t2.") else "unlimited"
            instance.cpu_credits = self._get_param("CreditSpecification.CpuCredits") or default
        return answer

    def describe(self: InstanceResponse) -> ActionResult:
        ids = self._get_param("InstanceIds", [])
        instances = self.ec2_backend.describe_instance_credit_specifications(ids)
        found = [{"InstanceId": each.id, "CpuCredits": each.cpu_credits} for each in instances]
        return ActionResult({"InstanceCreditSpecifications": found})

    def modify(self: InstanceResponse) -> ActionResult:
        changed = []
        for wanted in self._get_param("InstanceCreditSpecifications", []):
            instance = self.ec2_backend.get_instance(wanted["InstanceId"])
            instance.cpu_credits = wanted["CpuCredits"]
            changed.append({"InstanceId": instance.id})
        return ActionResult({"SuccessfulInstanceCreditSpecifications": changed})

    # For instances in a state that was saved before this gap was closed.
    Instance.cpu_credits = "unlimited"
    InstanceResponse.run_instances = run_instances
    InstanceResponse.describe_instance_credit_specifications = describe
    InstanceResponse.modify_instance_credit_specification = modify
