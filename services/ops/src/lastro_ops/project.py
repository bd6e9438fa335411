"""The paths of a checkout, and the files of an environment."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import yaml

from lastro_ops.errors import OpsError


class CatalogueEntry(TypedDict):
    """A service in the catalogue, as far as these commands read it."""

    role: str
    test: str


class Host(TypedDict):
    """A host in the contract."""

    name: str
    instance_id: str
    private_ip: str
    roles: list[str]


class Service(TypedDict):
    """A service in the contract; one without a port does not listen."""

    port: int | None
    hosts: list[str]


class Access(TypedDict):
    """The controller's access: the name of the document that Run Command executes."""

    document: str


class Platform(TypedDict):
    """Terraform's output `platform`, as far as these commands read it."""

    project: str
    environment: str
    region: str
    hosts: dict[str, Host]
    services: dict[str, Service]
    secrets: dict[str, str]
    access: Access


@dataclass(frozen=True)
class Project:
    """A checkout.

    Attributes:
        root: its folder.
    """

    root: Path

    @property
    def state(self) -> Path:
        """The folder that commands write to and git ignores."""
        return self.root / ".lastro"

    @property
    def programs(self) -> Path:
        """The programs that scripts/setup installs."""
        return self.root / ".venv" / "bin"

    @property
    def terraform(self) -> Path:
        """Terraform's files of an environment."""
        return self.root / "terraform"

    def catalogue(self) -> list[CatalogueEntry]:
        """The catalogue of services, in the order in which a host sets them up."""
        text = (self.terraform / "services.yml").read_text(encoding="utf-8")
        entries: list[CatalogueEntry] = yaml.safe_load(text)
        return entries

    @property
    def environments(self) -> list[str]:
        """The names of the environments, in alphabetical order."""
        return sorted(file.stem for file in self.terraform.glob("environments/*.tfvars"))

    def environment(self, name: str) -> Environment:
        """One environment.

        Raises:
            OpsError: there is no environment of this name.
        """
        if name not in self.environments:
            known = ", ".join(self.environments)
            raise OpsError(f"there is no environment '{name}'. Choose one of: {known}")
        return Environment(self, name)


@dataclass(frozen=True)
class Environment:
    """An environment: its name, and where its files are."""

    project: Project
    name: str

    @property
    def state(self) -> Path:
        """Its folder on this machine."""
        return self.project.state / self.name

    @property
    def variables(self) -> Path:
        """The folder of the inventory's variables for all its hosts."""
        return self.project.root / "inventory" / self.name / "group_vars" / "all"

    @cached_property
    def region(self) -> str:
        """The AWS region, from the inventory."""
        settings = yaml.safe_load((self.variables / "environment.yml").read_text(encoding="utf-8"))
        return str(settings["lastro_region"])

    @property
    def on_one_machine(self) -> bool:
        """Whether this machine stands in for AWS."""
        return (self.variables / "01_one_machine.yml").exists()

    @property
    def plan(self) -> Path:
        """Where a plan is saved: `tfplan` to apply and `summary.md` to read."""
        return self.state / "plan"

    def contract(self) -> Platform:
        """Terraform's output `platform`.

        Raises:
            OpsError: `make inventory` has not written it yet.
        """
        file = self.variables / "platform.json"
        try:
            platform: Platform = json.loads(file.read_text(encoding="utf-8"))["platform"]
        except FileNotFoundError:
            raise OpsError(
                f"{file} is missing: `make inventory ENV={self.name}` writes it."
            ) from None
        return platform

    def enter_aws(self) -> None:
        """Make this process and its children call the AWS API of this environment.

        Raises:
            OpsError: this machine stands in for AWS, and its API has not been started.
        """
        if self.on_one_machine:
            # Keep the variables of somebody's real account away from this one.
            for variable in [key for key in os.environ if key.startswith("AWS_")]:
                del os.environ[variable]
            try:
                lines = (self.state / "aws.env").read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                raise OpsError(
                    f"the AWS API of {self.name} does not run on this machine."
                    f" make up ENV={self.name}"
                ) from None
            for line in lines:
                name, _, value = line.partition("=")
                os.environ[name] = value
        os.environ["AWS_REGION"] = self.region


# scripts/setup installs this package from where it is: src/lastro_ops in services/ops.
CHECKOUT = Project(Path(__file__).resolve().parents[4])
