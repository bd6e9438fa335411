"""Compute the monthly cost of an environment, next to Amazon's managed services for the same work.

Without a plan, Terraform plans the environment with a mocked provider, which needs no AWS account.
terraform/prices.yml has the prices, the assumptions and their sources.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from lastro_ops.cost.bill import Prices
from lastro_ops.cost.plans import Resources, mocked_plan, saved_plan
from lastro_ops.cost.report import as_markdown, as_text
from lastro_ops.project import Environment, Project
from lastro_ops.terraform.environment import entered


def today() -> datetime.date:
    """The date against which the age of the prices is compared."""
    return datetime.date.today()


def resources_of(environment: Environment, file: Path | None) -> Resources:
    """The resources of the plan in a file, or of one made with a mocked provider."""
    if file is None:
        return mocked_plan(environment)
    return saved_plan(file, lambda path: entered(environment).read("show", "-json", str(path)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops cost`."""
    parser.add_argument("environment", metavar="ENV", help="a file in terraform/environments")
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="a saved plan, or what `terraform show -json` prints of it; -: standard input",
    )
    parser.add_argument("--format", choices=["text", "markdown"], default="text")
    parser.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="use this value of an assumption, and not that of the price file",
    )


def run(project: Project, options: argparse.Namespace) -> None:
    """Print the cost."""
    environment = project.environment(options.environment)
    plan = resources_of(environment, options.plan)
    price = Prices.of(project, plan.region)
    price.assume(options.assume)
    write = as_markdown if options.format == "markdown" else as_text
    print(write(environment.name, plan, price, today()))
