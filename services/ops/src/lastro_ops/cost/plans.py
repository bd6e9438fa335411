"""The plan to price: a saved one, or one made with a mocked provider."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastro_ops.cost.bill import Resource
from lastro_ops.errors import OpsError
from lastro_ops.project import Environment
from lastro_ops.terraform import module
from lastro_ops.terraform.plan import Plan


@dataclass(frozen=True)
class Resources:
    """The resources before and after a plan, and their region.

    ``before`` is None where the plan did not look at what exists.
    """

    region: str
    before: list[Resource] | None
    after: list[Resource]


def read_plan(plan: Plan, mocked: bool = False) -> Resources:
    """The resources of a plan, in every module.

    Raises:
        OpsError: the plan does not say its region.
    """

    def side(name: Literal["before", "after"]) -> list[Resource]:
        return [
            Resource(change["address"], values, change["type"])
            for change in plan["resource_changes"]
            if change["mode"] == "managed" and (values := change["change"][name]) is not None
        ]

    platform = plan.get("output_changes", {}).get("platform")
    values = (platform.get("after") or platform.get("before") or {}) if platform else {}
    region = values.get("region")
    if not region:
        raise OpsError("the plan does not know platform.region, an output of terraform/")
    return Resources(str(region), None if mocked else side("before"), side("after"))


def mocked_plan(environment: Environment) -> Resources:
    """The resources of an environment that does not exist yet; AWS is not called.

    Raises:
        OpsError: Terraform cannot plan the environment.
    """
    result = module.initialised(environment.project, "terraform").capture(
        "test",
        "-json",
        "-verbose",
        "-test-directory=tests/cost",
        f"-var-file=environments/{environment.name}.tfvars",
        f"-var=region={environment.region}",
    )
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    for event in events:
        if event["type"] == "test_plan":
            return read_plan(event["test_plan"], mocked=True)
    faults = [event["diagnostic"] for event in events if event["type"] == "diagnostic"]
    text = "\n".join(f"{fault['summary']}: {fault['detail']}" for fault in faults)
    raise OpsError(
        f"Terraform cannot plan {environment.name} with a mocked provider:\n"
        f"{text or result.stderr}\n"
        "AWS was not called; the instance types are those of terraform/tests/cost/plan.tftest.hcl."
        " Add a new one there and its price to terraform/prices.yml, or price a saved plan."
    )


def saved_plan(file: Path, show: Callable[[Path], str]) -> Resources:
    """The resources of a plan in a file.

    Args:
        file: what `terraform plan -out` saved, or `terraform show -json` printed; ``-`` is standard
            input.
        show: prints the JSON of a file that `terraform plan -out` saved.

    Raises:
        OpsError: there is no such file.
    """
    if str(file) == "-":
        return read_plan(json.load(sys.stdin))
    if not file.is_file():
        raise OpsError(f"there is no plan {file}")
    content = file.read_bytes()
    return read_plan(json.loads(content if content.startswith(b"{") else show(file.resolve())))
