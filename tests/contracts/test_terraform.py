"""Terraform's outputs and rules, compared with Ansible's inputs and the services' connections."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import catalogue
import hcl2
import pytest
import yaml
from wiring import (
    CONTRACT,
    DOMAIN,
    DOMAIN_CONTRACT,
    EDGE_HOST,
    FURTHER_SERVICES,
    PROJECT,
    SCALED_HOSTS,
    SECRETS,
    SERVICES,
    WORKER_CONTRACT,
    Wiring,
    contract,
    write_inventory,
)

TERRAFORM = PROJECT / "terraform"


def plain(value: Any) -> Any:
    """A value that hcl2 parsed, without quotes around texts and its own notes."""
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not k.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def parse(path: Path) -> dict[str, Any]:
    """A file of HCL; expressions are texts `${...}`."""
    with path.open(encoding="utf-8") as file:
        return plain(hcl2.load(file))


def local_value(name: str) -> Any:
    """A value of a `locals` block, in any file."""
    for path in sorted(TERRAFORM.glob("*.tf")):
        for block in parse(path).get("locals", []):
            if name in block:
                return block[name]
    raise KeyError(name)


def output(name: str) -> Any:
    """The expression of an output."""
    return next(
        block[name] for block in parse(TERRAFORM / "outputs.tf")["output"] if name in block
    )["value"]


# ---- the contract -----------------------------------------------------------------------------


def specification(name: str = "platform") -> dict[str, Any]:
    """Ansible's side: the options of `platform`, or of each service, in validate.yml."""
    text = (PROJECT / "ansible/playbooks/platform_spec.yml").read_text()
    return yaml.safe_load(text)[name]["options"]


def test_ansible_asks_for_what_terraform_emits() -> None:
    assert specification().keys() == output("platform").keys() == CONTRACT.keys()


def test_the_database_of_the_contract_has_the_specified_keys() -> None:
    emitted = output("platform")["database"].keys()
    assert specification()["database"]["options"].keys() == emitted == CONTRACT["database"].keys()


def test_the_access_of_the_contract_has_the_specified_keys() -> None:
    emitted = output("platform")["access"].keys()
    assert specification()["access"]["options"].keys() == emitted == CONTRACT["access"].keys()


def test_the_services_of_the_contract_have_the_specified_keys() -> None:
    asked = specification("service").keys()
    assert asked == CONTRACT["services"]["mlflow"].keys()
    # The keys that Terraform fills in are in services.tf, the others in the output.
    filled = set(re.findall(r"^      (\w+) +=", (TERRAFORM / "services.tf").read_text(), re.M))
    assert filled | {"hosts", "endpoints", "public_url"} == asked
    # The keys of `ready`.
    text = (TERRAFORM / "services.tf").read_text()
    ready = set(re.findall(r"^        (\w+) += try\(service\.ready", text, re.M))
    assert ready == specification("service")["ready"]["options"].keys()
    assert ready == CONTRACT["services"]["mlflow"]["ready"].keys()


def test_the_folders_and_metrics_of_the_contract_have_the_specified_keys() -> None:
    prefixes = local_value("prefixes")
    assert prefixes == CONTRACT["prefixes"]
    assert specification()["prefixes"]["options"].keys() == prefixes.keys()
    assert CONTRACT["metrics"] == {"namespace": local_value("metrics_namespace")}
    assert specification()["metrics"]["options"].keys() == output("platform")["metrics"].keys()
    # CI may make roles that write to this namespace and to no other.
    assert (
        f'"{local_value("metrics_namespace")}"' in (TERRAFORM / "bootstrap/boundary.tf").read_text()
    )


def test_the_buckets_of_the_contract_have_the_specified_keys() -> None:
    buckets = specification()["buckets"]["options"].keys()
    (resource,) = (
        block["aws_s3_bucket"]["main"]
        for block in parse(TERRAFORM / "storage.tf")["resource"]
        if "aws_s3_bucket" in block
    )
    named = set(re.findall(r'"(\w+)"', resource["for_each"]))
    assert buckets == CONTRACT["buckets"].keys() == named


def test_the_hosts_of_the_contract_have_the_specified_keys() -> None:
    emitted = set(re.findall(r"(\w+) = ", output("platform")["hosts"]))
    (play,) = yaml.safe_load((PROJECT / "ansible/playbooks/validate.yml").read_text())
    (keys,) = (
        task["vars"]["__host_keys"]
        for task in play["tasks"]
        if "__host_keys" in task.get("vars", {})
    )
    assert emitted == set(keys) == CONTRACT["hosts"]["mlflow"].keys()


def test_the_secrets_of_the_contract_have_the_specified_keys() -> None:
    others = ("database", "model_api_clients")
    read = {secret: tuple(keys) for secret, keys in SECRETS.items() if secret not in others}
    assert read == catalogue.SECRETS
    assert CONTRACT["secrets"].keys() == read.keys()


def test_the_inventory_has_the_variables_and_groups_that_ansible_reads() -> None:
    text = output("inventory")
    # The only variable of a host that the roles' wiring reads in addition to the contract.
    assert re.search(r"lastro_private_ip = ", text)
    assert ".Roles | split" in text
    # The group of all hosts, which the plays name.
    assert re.search(r'parent_group = "platform"', text)


# ---- security groups ----------------------------------------------------------------------------


def allowed() -> set[tuple[str, str]]:
    """(client, server): the connections that the catalogue allows."""
    return {
        (client, server)
        for client, entry in catalogue.entries().items()
        for server in entry["connects_to"]
    }


# For the visitor's browser: the service itself never asks there.
LINKS = {
    ("dashboard", "AIRFLOW_URL"),
    ("dashboard", "MLFLOW_PUBLIC_URL"),
    ("dashboard", "MODEL_API_PUBLIC_URL"),
    ("airflow", "AIRFLOW__API__BASE_URL"),
    ("mlflow", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"),
}
ADDRESS = re.compile(r"(?:https?|postgresql\+psycopg2)://[^\s\"']+")


def connections(contract: dict[str, Any], inventory: Path) -> set[tuple[str, str]]:
    """(client, server) of every address that a service's files and units name."""
    wiring = Wiring(inventory)
    servers = {
        (host["private_ip"], contract["services"][role]["port"]): role
        for host in contract["hosts"].values()
        for role in host["roles"]
    } | {(contract["database"]["address"], contract["database"]["port"]): "database"}
    # The AWS API of this machine represents AWS, which services reach by the rule for the web.
    servers |= {("10.42.255.4", 4566): "aws"}
    found = set()
    for client in (*SERVICES, *FURTHER_SERVICES):
        for host in wiring.groups[client]:
            service = wiring.service(client, host)
            texts = [*service.files.values(), *service.units.values(), service.ready_url or ""]
            texts += [
                str(value)
                for name, value in service.environment.items()
                if (client, name) not in LINKS
            ]
            for url in re.findall(ADDRESS, "\n".join(texts)):
                parts = urlsplit(url)
                server = servers[parts.hostname, parts.port]
                if server not in (client, "aws"):
                    found.add((client, server))
    for host in wiring.groups["edge"]:
        for site in wiring.value(host, "edge", "edge_sites"):
            for upstream in site["upstreams"]:
                address, port = upstream.split(":")
                found.add(("edge", servers[address, int(port)]))
    return found


CONTRACTS = {
    "default": CONTRACT,
    "scaled": contract(SCALED_HOSTS),
    "workers": WORKER_CONTRACT,
    "domain": DOMAIN_CONTRACT,
    "domain, scaled": contract(SCALED_HOSTS | EDGE_HOST, DOMAIN),
}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=list(CONTRACTS))
def test_every_connection_is_allowed_and_every_rule_is_used(
    contract: dict[str, Any], tmp_path: Path
) -> None:
    rules = {pair for pair in allowed() if pair[0] in contract["services"]}
    assert connections(contract, write_inventory(tmp_path, contract)) == rules


def test_the_databases_are_made_from_a_host_that_reaches_them() -> None:
    plays = yaml.safe_load((PROJECT / "ansible/playbooks/site.yml").read_text())
    (play,) = (
        play
        for play in plays
        if any(
            task.get("ansible.builtin.import_role", {}).get("name") == "databases"
            for task in play.get("tasks", [])
        )
    )
    group = re.fullmatch(r"(\w+)\[0\]", play["hosts"])[1]
    assert (group, "database") in allowed()


# ---- environments -------------------------------------------------------------------------------

ENVIRONMENTS = sorted(
    path.name for path in (PROJECT / "inventory").iterdir() if path.name != "common"
)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_inventory_of_an_environment_agrees_with_its_tfvars(environment: str) -> None:
    variables = yaml.safe_load(
        (PROJECT / f"inventory/{environment}/group_vars/all/environment.yml").read_text()
    )
    tfvars = parse(TERRAFORM / "environments" / f"{environment}.tfvars")
    assert tfvars["environment"] == variables["lastro_environment"] == environment
    # lastro-ops gives Terraform the region of the inventory.
    assert "region" not in tfvars
    assert re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", variables["lastro_region"])
    if (PROJECT / f"inventory/{environment}/group_vars/all/01_one_machine.yml").exists():
        network = ipaddress.ip_network(variables["machine_network"])
        assert str(network) == tfvars["vpc_cidr"]
        # Terraform leaves the last /24 to the stand-in for AWS.
        *_, last = network.subnets(new_prefix=24)
        stand_ins = {variables["machine_aws_address"], variables["machine_database_address"]}
        assert len(stand_ins) == 2
        assert all(ipaddress.ip_address(address) in last for address in stand_ins)


def test_no_two_environments_of_one_machine_share_a_network() -> None:
    networks = [
        ipaddress.ip_network(parse(path)["vpc_cidr"])
        for path in (TERRAFORM / "environments").glob("*.tfvars")
        if (PROJECT / f"inventory/{path.stem}/group_vars/all/01_one_machine.yml").exists()
    ]
    assert len(networks) > 1
    for number, network in enumerate(networks):
        assert not any(network.overlaps(other) for other in networks[:number])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_has_the_common_wiring(environment: str) -> None:
    folder = PROJECT / "inventory" / environment
    common = PROJECT / "inventory" / "common"
    assert (folder / "group_vars/all/00_common").resolve() == common / "group_vars/all"
    assert (folder / "localhost.yml").resolve() == common / "localhost.yml"
