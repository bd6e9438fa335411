"""The result of a contract in Ansible: every role's variables, environment files and units.

Nothing is run. The inventory's own group_vars, the roles' defaults and vars, and the templates are
read by Ansible's own loader and templar, with an undefined name as an error.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from catalogue import RELEASES, REQUIRED, platform_services
from catalogue import ROLES as ROLE_NAMES
from catalogue import SECRETS as SECRET_KEYS

# Lookups are found from here on.
init_plugin_loader()

# The same thousand expressions come with each contract. To compile them is half of the work, and
# nothing of it depends on the values.
_compile = jinja2.Environment.compile
_compiled: dict[tuple[type, str], Any] = {}


def _compile_once(self: jinja2.Environment, source: Any, *args: Any, **more: Any) -> Any:
    if args or more or not isinstance(source, str):
        return _compile(self, source, *args, **more)
    key = type(self), str(source)
    if key not in _compiled:
        _compiled[key] = _compile(self, source)
    return _compiled[key]


jinja2.Environment.compile = _compile_once

PROJECT = Path(__file__).parents[1]
ROLES = PROJECT / "ansible" / "roles"
# The services that run from a release: those that every platform has, and the others.
SERVICES = tuple(role for role in RELEASES if role in REQUIRED)
FURTHER_SERVICES = tuple(role for role in RELEASES if role not in REQUIRED)


def machine(address: str, *roles: str, **other: Any) -> dict[str, Any]:
    """An entry of the contract's hosts; ``other`` has values for the other keys."""
    size = {"instance_type": "t3.small", "memory_mib": 2048, "vcpus": 2}
    return size | {"private_ip": address, "roles": sorted(roles)} | other


def contract(hosts: dict[str, dict[str, Any]], domain: str = "") -> dict[str, Any]:
    """The contract of a platform with these hosts, as Terraform emits it."""
    named = {
        name: {"name": f"lastro-local-{name}", "instance_id": f"i-{name}"} | its
        for name, its in hosts.items()
    }
    return {
        "project": "lastro",
        "environment": "local",
        "region": "eu-west-1",
        "account_id": "123456789012",
        "domain": domain,
        "database": {
            "address": "database.fixture",
            "port": 5432,
            "engine_version": "17.4",
            "master_secret_arn": "arn:aws:secretsmanager:eu-west-1:1:secret:rds",
        },
        "buckets": {"artifacts": "artifacts-bucket", "dags": "dags-bucket"},
        "prefixes": {
            "artifacts": "mlflow",
            "dags": "dags",
            "predictions": "predictions",
            "batch": "batch",
        },
        "metrics": {"namespace": "Lastro"},
        "secrets": {
            name: f"arn:aws:secretsmanager:eu-west-1:1:secret:{name}" for name in SECRET_KEYS
        },
        "model_api_clients": {"shop": "arn:aws:secretsmanager:eu-west-1:1:secret:shop"},
        "services": platform_services(named, domain),
        "access": {"document": "lastro-local-authorize"},
        "hosts": named,
    }


HOSTS = {
    "mlflow": machine("10.42.0.11", "mlflow"),
    "airflow": machine("10.42.0.12", "airflow"),
    "serving": machine("10.42.0.13", "dashboard", "model_api"),
}
# One host a service and two of them on one, as Terraform lays them out by default.
CONTRACT = contract(HOSTS)

# The same platform with a domain: the serving host is the edge as well.
DOMAIN = "lastro.example.com"
DOMAIN_CONTRACT = contract(
    HOSTS | {"serving": machine("10.42.0.13", "dashboard", "edge", "model_api")}, DOMAIN
)

# The same platform with two workers, one of them on MLflow's host.
WORKER_CONTRACT = contract(
    HOSTS
    | {
        "mlflow": machine("10.42.0.11", "airflow_worker", "mlflow"),
        "trainer": machine(
            "10.42.0.14", "airflow_worker", instance_type="t3.large", memory_mib=8192
        ),
    }
)

SECRETS: dict[str, dict[str, str]] = {
    "database": {"username": "lastro_admin", "password": "master-password"},
    **{
        service: {key: f"{service}-{key}".ljust(32, "x") for key in keys}
        for service, keys in {**SECRET_KEYS, "model_api_clients": ("shop",)}.items()
    },
}
SECRETS["airflow"]["fernet_key"] = "Zm9ydHktdHdvLWJ5dGVzLW9mLW5vLXNlY3JlY3khISE="
SECRETS["mlflow_webhooks"] = {"fernet_key": "YW5vdGhlciB0aGlydHktdHdvIGJ5dGVzIG9mIG5vbmU="}

# The layout of a platform that has grown: a host a role, and two for the busiest.
SCALED_HOSTS = {
    "tracking": machine("10.42.1.11", "mlflow"),
    "scheduler": machine("10.42.1.12", "airflow"),
    "api-1": machine("10.42.1.13", "model_api"),
    "api-2": machine("10.42.1.14", "model_api"),
    "pages": machine("10.42.1.15", "dashboard"),
}
EDGE_HOST = {"door": machine("10.42.1.19", "edge")}


def changed(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of nested data with another value at ``path``."""
    result = copy.deepcopy(data)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


def write_inventory(root: Path, contract: dict[str, Any], environment: str = "local") -> Path:
    """Write the inventory of an environment as `make inventory` would, its hosts in a list."""
    folder = root / "inventory" / environment
    generated = shutil.ignore_patterns("platform.json", "hosts.aws_ec2.yml")
    shutil.copytree(PROJECT / "inventory" / environment, folder, ignore=generated)
    variables = folder / "group_vars" / "all"
    (variables / "platform.json").write_text(json.dumps({"platform": contract}))
    groups: dict[str, Any] = {}
    for its in contract["hosts"].values():
        for role in its["roles"]:
            hosts = groups.setdefault(role, {"hosts": {}})["hosts"]
            hosts[its["name"]] = {
                "lastro_private_ip": its["private_ip"],
                "ec2_instance_id": its["instance_id"],
            }
    # As the key `parent_group` of the dynamic inventory has it.
    groups["platform"] = {"children": dict.fromkeys([*groups])}
    (folder / "hosts.yml").write_text(yaml.safe_dump(groups))
    return folder


def play_lines(
    inventory: Path | str, playbook: Path | str, *arguments: str
) -> tuple[int, list[str]]:
    """Run a playbook; its exit status and the lines that it printed."""
    result = subprocess.run(
        [
            *("ansible-playbook", "-i", str(inventory), str(playbook), *arguments),
            # This machine's own python3 may be a version manager's shim that answers nothing.
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        cwd=PROJECT,
        env=os.environ | {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout.splitlines()


def play(inventory: Path | str, playbook: Path | str, *arguments: str) -> tuple[int, str]:
    """As `play_lines`, with all output on one line, however messages are wrapped."""
    status, lines = play_lines(inventory, playbook, *arguments)
    return status, " ".join(" ".join(lines).split())


@dataclass
class Service:
    """The files of one service on one host. ``files`` and ``units`` have paths and names as keys.

    ``definition`` is the one that its role gives the role `_service`; ``mark`` is the content of
    the file `started-with`, which decides whether the service is restarted.
    """

    host: str
    definition: dict[str, Any]
    environment: dict[str, str]
    environment_file: str
    files: dict[str, str]
    units: dict[str, str]
    mark: str
    ready_url: str | None
    ready_file: str | None
    ready_headers: dict[str, str]
    ready_pattern: str | None
    database: dict[str, Any] | None


class Wiring:
    """The roles' variables on every host of an inventory."""

    def __init__(self, inventory: Path, secrets: dict[str, Any] = SECRETS, **extra: Any) -> None:
        self._loader = DataLoader()
        self._inventory = InventoryManager(self._loader, sources=[str(inventory)])
        self._manager = VariableManager(self._loader, self._inventory)
        # A host's access to the variables of other hosts.
        self._manager.hostvars = HostVars(self._inventory, self._manager, self._loader)
        self._extra = {
            "lastro_project_dir": str(PROJECT),
            "lastro_state": str(inventory.parent.parent),
            "lastro_secrets": secrets,
            "ansible_managed": "Managed by Ansible",
            **extra,
        }

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Group -> its hosts; none for a role that no host has."""
        groups: dict[str, list[str]] = self._inventory.get_groups_dict()
        return {role: [] for role in ROLE_NAMES} | groups

    def _load(self, path: Path) -> Any:
        return self._loader.load_from_file(str(path), trusted_as_template=True) or {}

    def templar(self, host: str, *roles: str, **more: Any) -> Templar:
        """Render with the variables of ``roles`` on a host; later ones win, ``more`` over all."""
        known = self._inventory.get_host(host)
        variables: dict[str, Any] = {}
        for role in roles:
            variables |= self._load(ROLES / role / "defaults" / "main.yml")
        variables |= self._manager.get_vars(host=known)
        for role in roles:
            if (ROLES / role / "vars" / "main.yml").exists():
                variables |= self._load(ROLES / role / "vars" / "main.yml")
        return Templar(loader=self._loader, variables=variables | more | self._extra)

    def value(self, host: str, role: str, name: str) -> Any:
        """A variable as a role on a host sees it."""
        return self.templar(host, role).template(trust_as_template("{{ " + name + " }}"))

    def render(self, templar: Templar, template: str, role: str = "_service") -> str:
        """A template of a role, as the module `template` renders it."""
        folder = ROLES / role / "templates"
        source = (folder / template).read_text()
        templar = templar.copy_with_new_env(searchpath=[str(folder)])
        text: str = templar.template(trust_as_template(source), escape_backslashes=False)
        return text

    def unit(self, templar: Templar, unit: dict[str, Any]) -> str:
        """The unit file of one entry of a definition's ``units``."""
        templar.available_variables = templar.available_variables | {"item": unit}
        return self.render(templar, "unit.service.j2")

    def service(self, role: str, host: str | None = None) -> Service:
        """The files of a service on a host, by default the service's first."""
        host = host or self.groups[role][0]
        tasks = self._load(ROLES / role / "tasks" / "service.yml")
        include = next(task for task in tasks if "_service_definition" in task.get("vars", {}))
        # The role that it includes: airflow for its workers, which name its variables.
        included = include["ansible.builtin.include_role"]["name"]
        described = include["vars"]
        if included != "_service":
            [run] = self._load(ROLES / "_python_release" / "tasks" / "run.yml")[:1]
            described = run["vars"] | described
        # The results of earlier tasks on the host.
        release = "/opt/lastro/release"
        described |= {"__python_release_path": release, "_service_revision": release}
        templar = self.templar(host, *("_service", "_python_release", included, role), **described)

        def value(expression: str) -> Any:
            return templar.template(trust_as_template("{{ " + expression + " }}"))

        definition = value("_service_definition")
        ready = definition["ready"]
        return Service(
            host=host,
            definition=definition,
            environment=value("__service_environment"),
            environment_file=self.render(templar, "environment.j2"),
            files={file["path"]: file["content"] for file in value("__service_files")},
            units={unit["name"]: self.unit(templar, unit) for unit in definition["units"]},
            mark=value("__service_mark"),
            ready_url=ready.get("url"),
            ready_file=ready.get("file"),
            ready_headers=ready.get("headers", {}),
            ready_pattern=ready.get("pattern", ""),
            database=value("_python_release_database | default(none)"),
        )
