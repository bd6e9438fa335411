"""The billed items of each resource of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from lastro_ops.cost.bill import (
    HOURS,
    ONE,
    PRICE_FILE,
    STORED,
    ZERO,
    Line,
    Price,
    Prices,
    Resource,
    total,
)
from lastro_ops.errors import OpsError

Pricing = Callable[[Resource, Prices], Iterator[Line]]


def instance(host: Resource, price: Prices) -> Iterator[Line]:
    """A host and its disks. Its address depends on the others: see public_addresses."""
    kind = host.text("instance_type")
    yield Line(host.address, kind, HOURS, price("instance", kind))
    for disk in [*host.blocks("root_block_device"), *host.blocks("ebs_block_device")]:
        kind = disk.text("volume_type")
        yield Line(host.address, f"disk {kind}", disk.number("volume_size"), price("disk", kind))


def database(server: Resource, price: Prices) -> Iterator[Line]:
    """An RDS instance, its storage, and the secret in which RDS keeps the master password."""
    zones = "_multi_az" if server.has("multi_az") else ""
    kind, disk = server.text("instance_class"), server.text("storage_type")
    label = f"{kind}, Multi-AZ" if zones else kind
    size = server.number("allocated_storage")
    yield Line(server.group, label, HOURS, price(f"database{zones}", kind))
    yield Line(server.group, f"storage {disk}", size, price(f"database_disk{zones}", disk))
    if server.has("manage_master_user_password"):
        yield Line(server.group, "master password", ONE, price("secret", "month"))
    if server.number("performance_insights_retention_period", 7) > 7:
        raise OpsError(
            f"{server.address}: lastro-ops cost prices Performance Insights of 7 days only"
        )


def alarm(of: Resource, price: Prices) -> Iterator[Line]:
    """An alarm, and the metric that it watches if that is one of ours."""
    if of.has("metric_query"):
        raise OpsError(f"{of.address}: lastro-ops cost does not price alarms with metric_query")
    yield Line(of.group, "alarm", ONE, price("cloudwatch", "alarm"))
    if not of.text("namespace").startswith("AWS/"):
        yield Line(of.group, f"metric {of.text('metric_name')}", ONE, price("cloudwatch", "metric"))


def endpoint(of: Resource, price: Prices) -> Iterator[Line]:
    """Gateways have no price."""
    if of.text("vpc_endpoint_type", "Gateway") != "Gateway":
        yield Line(of.group, "endpoint", HOURS, price("network", "interface_endpoint"))


def flat(what: str, quantity: Decimal, group: str, name: str) -> Pricing:
    """A resource with one price, whatever its settings."""
    return lambda of, price: iter([Line(of.group, what, quantity, price(group, name))])


PRICED: dict[str, Pricing] = {
    "aws_cloudwatch_metric_alarm": alarm,
    "aws_db_instance": database,
    "aws_eip": flat("public IPv4 address", HOURS, "network", "public_ipv4"),
    "aws_instance": instance,
    "aws_kms_key": flat("key", ONE, "key", "month"),
    "aws_nat_gateway": flat("NAT gateway", HOURS, "network", "nat_gateway"),
    "aws_secretsmanager_secret": flat("secret", ONE, "secret", "month"),
    "aws_vpc_endpoint": endpoint,
}


def public_addresses(resources: list[Resource], price: Prices) -> Iterator[Line]:
    """The public addresses of hosts in public subnets; the edge has an Elastic IP instead.

    Before a host is made, the plan does not say whether its subnet gives it one: it does where no
    NAT gateway is the way out.
    """
    private = any(of.type == "aws_nat_gateway" for of in resources)
    for host in resources:
        if host.type != "aws_instance" or "edge" in host.roles:
            continue
        if host.has("associate_public_ip_address", not private):
            yield Line(host.address, "public IPv4 address", HOURS, price("network", "public_ipv4"))


def usage(resources: list[Resource], price: Prices) -> Iterator[Line]:
    """The items that are billed by use, as the price file assumes them."""
    types = {of.type for of in resources}
    assumed = price.assumed

    def used(what: str, quantity: Decimal, group: str, name: str) -> Line:
        return Line("(use)", what, quantity, price(group, name))

    if "aws_s3_bucket" in types:
        yield used(STORED, assumed["s3_gb"], "bucket", "storage")
        yield used("looking for new DAGs", assumed["s3_lists"] / 1000, "bucket", "lists")
    if "aws_nat_gateway" in types:
        yield used("traffic through the NAT gateway", assumed["nat_gb"], "network", "nat_traffic")
    if logs := [of for of in resources if of.type == "aws_cloudwatch_log_group"]:
        months = max(of.number("retention_in_days", 0) or 365 for of in logs) / Decimal(30)
        yield used("logs written", assumed["logs_gb"], "cloudwatch", "logs")
        yield used("logs kept", assumed["logs_gb"] * months, "cloudwatch", "logs_kept")
    for policy in (of for of in resources if of.type == "aws_dlm_lifecycle_policy"):
        (details,) = policy.blocks("policy_details")
        rule = details.blocks("schedule")[0].blocks("retain_rule")[0]
        if not rule.has("count"):
            raise OpsError(f"{policy.address}: lastro-ops cost prices snapshots kept by count only")
        days = rule.number("count")
        sizes = (
            disk.number("volume_size")
            for host in resources
            if host.type == "aws_instance"
            for disk in host.blocks("root_block_device")
        )
        disks = sum(sizes, ZERO)
        share = assumed["disk_used"] + assumed["disk_changed"] * (days - 1)
        yield used(f"snapshots of {days} days", disks * share, "snapshot", "storage")
    if assumed["out_gb"]:
        yield used("traffic to the internet", assumed["out_gb"], "network", "traffic_out")


def price_all(resources: list[Resource], price: Prices) -> list[Line]:
    """Every line of the bill; what cannot be priced is named all at once."""
    lines: list[Line] = []
    faults: list[str] = []
    for resource in resources:
        try:
            if resource.type in PRICED:
                lines += PRICED[resource.type](resource, price)
            elif resource.type not in price.data["free"]:
                raise OpsError(
                    f"{resource.type} is neither priced by lastro-ops cost nor listed as free in "
                    f"{PRICE_FILE}; add it to one of them"
                )
        except OpsError as error:
            where = "" if resource.address in str(error) else f" ({resource.address})"
            faults.append(f"{error}{where}")
    if faults:
        raise OpsError("\n".join(dict.fromkeys(faults)))
    merged: dict[tuple[str, str, Price], Line] = {}
    for line in [*lines, *public_addresses(resources, price), *usage(resources, price)]:
        same = (line.resource, line.what, line.price)
        if before := merged.get(same):
            line = replace(line, quantity=before.quantity + line.quantity, times=before.times + 1)
        merged[same] = line
    # A host's lines are together; assumed use comes last.
    return sorted(merged.values(), key=lambda line: (line.resource == "(use)", line.resource))


@dataclass(frozen=True)
class Service:
    """One row of the comparison."""

    name: str
    lines: list[Line]

    @property
    def usd(self) -> Decimal:
        """Its total."""
        return total(self.lines)


def managed(resources: list[Resource], lines: list[Line], price: Prices) -> list[Service]:
    """Amazon's services for the same work; the second is the MLflow server."""
    of = price.data["comparison"]

    def hourly(name: str, *prices: Price) -> Service:
        return Service(name, [Line(name, name, HOURS, each) for each in prices])

    nat, address = price("network", "nat_gateway"), price("network", "public_ipv4")
    serving = {host.address for host in resources if "model_api" in host.roles}
    return [
        hourly(f"MWAA {of['mwaa']}", price("mwaa", of["mwaa"])),
        hourly(f"SageMaker MLflow server {of['mlflow']}", price("mlflow", of["mlflow"])),
        hourly("NAT gateway with its address", nat, address),
        Service("serving hosts, as here", [line for line in lines if line.resource in serving]),
        Service("buckets, as here", [line for line in lines if line.what == STORED]),
    ]
