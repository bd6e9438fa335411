"""`validate.yml` stops an invalid contract before anything changes, and says what to do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from wiring import (
    CONTRACT,
    DOMAIN,
    DOMAIN_CONTRACT,
    EDGE_HOST,
    PROJECT,
    SCALED_HOSTS,
    WORKER_CONTRACT,
    changed,
    contract,
    play,
    write_inventory,
)

PLAYBOOK = PROJECT / "ansible/playbooks/validate.yml"


def without(path: tuple[str, ...]) -> dict[str, Any]:
    """The contract without one of its keys."""
    contract = copy.deepcopy(CONTRACT)
    inner: Any = contract
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return contract


CASES = {
    "key missing": (
        without(("database", "address")),
        [
            "group_vars/all/platform.json is not what the roles expect",
            "address",
            "make inventory ENV=local",
        ],
    ),
    "key of another type": (
        changed(CONTRACT, ("database", "port"), "five"),
        ["is not what the roles expect", "port", "five", "make inventory ENV=local"],
    ),
    "host without its memory": (
        without(("hosts", "serving", "memory_mib")),
        ["Host serving in the contract lacks memory_mib", "terraform/outputs.tf"],
    ),
    "role that does not exist": (
        changed(CONTRACT, ("hosts", "serving", "roles"), ["model_api", "dashboard", "grafana"]),
        [
            "Host serving has the role grafana, which does not exist",
            "Choose one of mlflow, airflow, model_api, dashboard",
            "terraform/environments/local.tfvars",
        ],
    ),
    "edge without a domain": (
        DOMAIN_CONTRACT | {"domain": ""},
        [
            "The contract's domain is ''",
            "edge is required with a domain and not allowed without one",
            "make inventory ENV=local",
        ],
    ),
    "domain without an edge": (
        CONTRACT | {"domain": "lastro.example.com"},
        ["The contract's domain is 'lastro.example.com'", "terraform/outputs.tf"],
    ),
    "edge on no host": (
        changed(DOMAIN_CONTRACT, ("services", "edge", "hosts"), []),
        ["The role edge should be on at least one host", "make apply ENV=local"],
    ),
    "role on no host": (
        changed(CONTRACT, ("services", "dashboard", "hosts"), []),
        ["The role dashboard should be on at least one host", "make apply ENV=local"],
    ),
    "instance type too small": (
        changed(
            changed(CONTRACT, ("hosts", "airflow", "memory_mib"), 1024),
            ("hosts", "airflow", "instance_type"),
            "t3.micro",
        ),
        [
            "Host airflow is a t3.micro with 1024 MiB of memory; Airflow needs 2048",
            "t3.small or larger",
            "terraform/environments/local.tfvars",
        ],
    ),
    "worker on no host": (
        changed(WORKER_CONTRACT, ("services", "airflow_worker", "hosts"), []),
        ["The role airflow_worker should be on at least one host", "make apply ENV=local"],
    ),
    "worker that the services lack": (
        changed(CONTRACT, ("hosts", "trainer"), WORKER_CONTRACT["hosts"]["trainer"]),
        ["Host trainer has the role airflow_worker, which does not exist"],
    ),
    "worker too small": (
        changed(
            changed(WORKER_CONTRACT, ("hosts", "trainer", "memory_mib"), 512),
            ("hosts", "trainer", "instance_type"),
            "t3.nano",
        ),
        [
            "Host trainer is a t3.nano with 512 MiB of memory; a worker of Airflow needs 1024",
            "t3.micro or larger",
        ],
    ),
    "service without its port": (
        changed(CONTRACT, ("services", "airflow", "port"), None),
        ["is not what the roles expect", "services.airflow.port is None", "has 8080"],
    ),
    "service that every platform has": (
        without(("services", "dashboard")),
        ["is not what the roles expect", "services lacks dashboard, which every platform has"],
    ),
    "service without its hosts": (
        without(("services", "airflow", "hosts")),
        ["is not what the roles expect", "airflow", "hosts", "make inventory ENV=local"],
    ),
    "catalogue that has changed since": (
        changed(
            CONTRACT, ("services", "airflow", "memory"), {"mib": 1, "instance_type": "t3.nano"}
        ),
        ["is not what the roles expect", "services.airflow.memory is", "`make apply` first"],
    ),
    "another environment": (
        CONTRACT | {"environment": "prod"},
        [
            "The contract belongs to the environment prod, but the inventory to local",
            "make inventory ENV=local",
        ],
    ),
}


@pytest.mark.parametrize(
    "contract",
    [
        CONTRACT,
        DOMAIN_CONTRACT,
        WORKER_CONTRACT,
        contract(SCALED_HOSTS | EDGE_HOST, DOMAIN),
    ],
    ids=["default", "domain", "workers", "scaled"],
)
def test_a_valid_contract_passes(contract: dict[str, Any], tmp_path: Path) -> None:
    status, output = play(write_inventory(tmp_path, contract), PLAYBOOK)
    assert status == 0, output


@pytest.mark.parametrize(("contract", "said"), CASES.values(), ids=list(CASES))
def test_an_invalid_contract_names_the_fault_and_the_fix(
    contract: dict[str, Any], said: list[str], tmp_path: Path
) -> None:
    status, output = play(write_inventory(tmp_path, contract), PLAYBOOK)
    assert status != 0
    for part in said:
        assert part in output
    # One message; above that of the specification is the one of Ansible.
    assert output.count("FAILED") == (2 if "not what the roles expect" in output else 1)


def test_a_missing_contract_says_what_to_do(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, CONTRACT)
    (inventory / "group_vars/all/platform.json").unlink()
    status, output = play(inventory, PLAYBOOK)
    assert status != 0
    assert "has no group_vars/all/platform.json. Run `make apply ENV=local`" in output


def test_hosts_missing_from_the_live_inventory_are_named(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, CONTRACT)
    groups = yaml.safe_load((inventory / "hosts.yml").read_text())
    del groups["mlflow"]
    (inventory / "hosts.yml").write_text(yaml.safe_dump(groups))
    status, output = play(inventory, PLAYBOOK)
    assert status != 0
    assert "The role mlflow should be on lastro-local-mlflow" in output
    assert "the inventory has no host for it. Run `make apply ENV=local`" in output


@pytest.mark.parametrize(
    ("setting", "value"), [("airflow_dags_prefix", "other"), ("edge_metrics_namespace", "Other")]
)
def test_a_setting_that_would_leave_a_service_without_its_rights_is_refused(
    setting: str, value: str, tmp_path: Path
) -> None:
    inventory = write_inventory(tmp_path, DOMAIN_CONTRACT)
    (inventory / "group_vars/all/settings.yml").write_text(yaml.safe_dump({setting: value}))
    status, output = play(inventory, PLAYBOOK)
    assert status != 0
    assert f"{setting} is '{value}', but the hosts have permissions for" in output
    assert "Remove it from inventory/local" in output
