"""The lines of a bill, the resources of a plan, and the price file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Self

import yaml

from lastro_ops.errors import OpsError
from lastro_ops.project import Project

PRICE_FILE = "terraform/prices.yml"
HOURS = Decimal(730)
ONE = Decimal(1)
ZERO = Decimal(0)
STORED = "objects in the buckets"


def decimal(value: Any) -> Decimal:
    """A number of YAML or JSON, exactly as it is written there."""
    if value is None:
        raise OpsError("the plan does not know a size")
    return Decimal(str(value))


@dataclass(frozen=True)
class Price:
    """What one unit costs, and how many sources say so."""

    usd: Decimal
    unit: str
    sources: int


@dataclass(frozen=True)
class Line:
    """One thing that is billed. A resource that is made several times counts ``times``."""

    resource: str
    what: str
    quantity: Decimal
    price: Price
    times: int = 1

    @property
    def usd(self) -> Decimal:
        """In whole cents, so that what is shown adds up."""
        return (self.quantity * self.price.usd).quantize(Decimal("0.01"), ROUND_HALF_UP)

    @property
    def name(self) -> str:
        """The resource, and how many there are of it."""
        return f"{self.resource} ({self.times})" if self.times > 1 else self.resource


@dataclass(frozen=True)
class Resource:
    """A resource as the plan knows it."""

    address: str
    type: str
    values: dict[str, Any]

    @property
    def group(self) -> str:
        """The address without this one's key: `aws_eip.nat` for `aws_eip.nat[0]`."""
        return self.address.rpartition("[")[0] if self.address.endswith("]") else self.address

    def __getitem__(self, name: str) -> Any:
        if (value := self.values.get(name)) is None:
            raise OpsError(f"{self.address}: the plan does not know its {name}")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """A value that may be absent."""
        return default if (value := self.values.get(name)) is None else value

    @property
    def roles(self) -> list[str]:
        """What a host runs."""
        return (self.get("tags", {}).get("Roles") or "").split()


class Prices:
    """The price file, for one region."""

    def __init__(self, data: dict[str, Any], region: str) -> None:
        if region not in data["regions"]:
            raise OpsError(
                f"{PRICE_FILE} has no prices for the region {region}, only for "
                f"{', '.join(data['regions'])}; add regions.{region} to it"
            )
        self.region, self.data = region, data
        self.assumed = {name: decimal(of["value"]) for name, of in data["assumptions"].items()}

    @classmethod
    def of(cls, project: Project, region: str) -> Self:
        """The price file of a checkout, for one region.

        Raises:
            OpsError: it has no prices for the region.
        """
        text = (project.root / PRICE_FILE).read_text(encoding="utf-8")
        return cls(yaml.safe_load(text), region)

    def __call__(self, what: str, name: str) -> Price:
        row = self.data["regions"][self.region].get(what, {}).get(name)
        if row is None:
            raise OpsError(
                f"{PRICE_FILE} has no price of {name}; add {name} to regions.{self.region}.{what}"
            )
        return Price(decimal(row["usd"]), row["unit"], len(row["from"]))

    def assume(self, settings: Iterable[str]) -> None:
        """Take NAME=VALUE instead of what the file assumes."""
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in self.assumed:
                raise OpsError(
                    f"there is no assumption '{name}'; choose of {', '.join(self.assumed)}"
                )
            if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
                raise OpsError(f"assumption {name} is '{value}'; give a number, such as {name}=10")
            self.assumed[name] = Decimal(value)


def total(lines: Iterable[Line]) -> Decimal:
    """What the lines come to; they are in whole cents."""
    return sum((line.usd for line in lines), ZERO)
