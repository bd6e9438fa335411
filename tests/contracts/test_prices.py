"""The price file against Terraform's resources, in every environment."""

from __future__ import annotations

import datetime
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from lastro_ops.cost.bill import PRICE_FILE, Prices, total
from lastro_ops.cost.plans import mocked_plan
from lastro_ops.cost.pricing import PRICED, managed, price_all
from lastro_ops.cost.report import as_markdown, as_text
from lastro_ops.project import CHECKOUT
from wiring import PROJECT

FILE = yaml.safe_load((PROJECT / PRICE_FILE).read_text())
ROWS = [
    pytest.param(row, id=f"{region}-{what}-{name}")
    for region, groups in FILE["regions"].items()
    for what, names in groups.items()
    for name, row in names.items()
]


@pytest.fixture(scope="module")
def plans() -> dict[str, Any]:
    """The plan of each environment, made without AWS, two at a time."""
    environments = [CHECKOUT.environment(name) for name in CHECKOUT.environments]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CHECKOUT.environments, pool.map(mocked_plan, environments), strict=True))


@pytest.mark.parametrize("environment", CHECKOUT.environments)
def test_an_environment_can_be_priced_without_an_account(
    plans: dict[str, Any], environment: str
) -> None:
    plan = plans[environment]
    price = Prices(FILE, plan.region)
    lines = price_all(plan.after, price)
    hosts = {of.address for of in plan.after if of.type == "aws_instance"}
    assert hosts and hosts <= {line.resource for line in lines}
    services = managed(plan.after, lines, price)
    assert all(service.usd > 0 for service in services)
    for write in (as_text, as_markdown):
        assert f"{total(lines):,.2f}" in write(environment, plan, price, datetime.date.today())


def test_every_type_of_resource_is_priced_or_free() -> None:
    # In the files, not in plans, so that resources of rare settings are also priced.
    text = "".join(path.read_text() for path in PROJECT.glob("terraform/*.tf"))
    types = set(re.findall(r'^resource "(\w+)"', text, re.MULTILINE))
    assert types and types <= set(PRICED) | set(FILE["free"])
    assert not set(PRICED) & set(FILE["free"])


@pytest.mark.parametrize("row", ROWS)
def test_a_price_says_where_it_is_from(row: dict[str, Any]) -> None:
    assert row["usd"] > 0
    assert row["unit"]
    assert row["from"] and set(row["from"]) <= set(FILE["sources"])


def test_a_source_says_what_it_is_and_when_it_was_written() -> None:
    used = {name for row in ROWS for name in row.values[0]["from"]}
    notes = " ".join(of["note"] for of in FILE["sources"].values())
    assert all(name in used or name in notes for name in FILE["sources"])
    dates = [of["written"] for of in FILE["sources"].values()]
    assert all(dates)
    assert FILE["date"] == max(date for date in dates if isinstance(date, datetime.date))


def test_regions_have_the_same_kinds_of_prices() -> None:
    kinds = [set(groups) for groups in FILE["regions"].values()]
    assert all(kind == kinds[0] for kind in kinds)


def test_the_mocked_aws_offers_what_has_a_price() -> None:
    text = (PROJECT / "terraform/tests/cost/plan.tftest.hcl").read_text()
    offered = re.findall(r'"([a-z0-9]+\.[a-z0-9]+)"', text)
    assert len(re.findall(r'"eu-west-1[ab]"', text)) == len(offered)
    for region in FILE["regions"].values():
        for group in ("instance", "database", "database_multi_az"):
            for name in region[group]:
                assert offered.count(name.removeprefix("db.")) == 2, f"{name}, once for each zone"
