"""The lines of a bill, the resources of a plan, and the price file."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Self, TypedDict

import yaml

from lastro_ops.errors import OpsError
from lastro_ops.project import Project

PRICE_FILE = "terraform/prices.yml"
HOURS = Decimal(730)
ONE = Decimal(1)
ZERO = Decimal(0)
STORED = "objects in the buckets"


class PriceRow(TypedDict("PriceRow", {"from": list[str]})):
    """A price of the file: `from` names the sources."""

    usd: float
    unit: str


class Assumption(TypedDict):
    """A value that a plan cannot know, and why the file assumes it."""

    value: float
    unit: str
    why: str


class Comparison(TypedDict):
    """The sizes of Amazon's services for the same work, and notes for the reader."""

    mwaa: str
    mlflow: str
    notes: list[str]


class PriceFile(TypedDict):
    """terraform/prices.yml: the prices by region, group and name; free types with their reason."""

    date: datetime.date
    regions: dict[str, dict[str, dict[str, PriceRow]]]
    assumptions: dict[str, Assumption]
    not_counted: str
    free: dict[str, str]
    comparison: Comparison


def decimal(value: float | str) -> Decimal:
    """A number of YAML or JSON, without rounding."""
    return Decimal(str(value))


@dataclass(frozen=True)
class Price:
    """The price of one unit, and the number of its sources."""

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
class Block:
    """Values of a plan: those of a resource, or of a block in it.

    A value that is only known after apply is missing.

    Attributes:
        address: the resource.
        values: name -> value, as in the plan's JSON.
    """

    address: str
    values: Mapping[str, object]

    def value(self, name: str) -> object:
        """A required value.

        Raises:
            OpsError: the plan does not know it.
        """
        if (value := self.values.get(name)) is None:
            raise OpsError(f"{self.address}: the plan does not know its {name}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text; required without a default."""
        if default is not None and self.values.get(name) is None:
            return default
        return str(self.value(name))

    def number(self, name: str, default: int | None = None) -> Decimal:
        """A number; required without a default."""
        return decimal(self.text(name, None if default is None else str(default)))

    def has(self, name: str, default: bool = False) -> bool:
        """Whether a value is set: not false, zero or empty."""
        value = self.values.get(name)
        return default if value is None else bool(value)

    def blocks(self, name: str) -> list[Block]:
        """The blocks of a name; none if there is no such block."""
        found = self.values.get(name) or []
        assert isinstance(found, list)
        return [Block(self.address, values) for values in found]


@dataclass(frozen=True)
class Resource(Block):
    """A resource as the plan knows it."""

    type: str

    @property
    def group(self) -> str:
        """The address without this one's key: `aws_eip.nat` for `aws_eip.nat[0]`."""
        return self.address.rpartition("[")[0] if self.address.endswith("]") else self.address

    @property
    def roles(self) -> list[str]:
        """The roles of a host."""
        tags = self.values.get("tags") or {}
        assert isinstance(tags, dict)
        return (tags.get("Roles") or "").split()


class Prices:
    """The price file, for one region."""

    def __init__(self, data: PriceFile, region: str) -> None:
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
        """Take NAME=VALUE instead of the file's assumption."""
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in self.assumed:
                raise OpsError(
                    f"there is no assumption '{name}'. Choose one of: {', '.join(self.assumed)}"
                )
            if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
                raise OpsError(f"assumption {name} is '{value}'; give a number, such as {name}=10")
            self.assumed[name] = Decimal(value)


def total(lines: Iterable[Line]) -> Decimal:
    """The sum of the lines, which are in whole cents."""
    return sum((line.usd for line in lines), ZERO)
