"""What a plan of Terraform, or a state, says."""

from __future__ import annotations

from typing import Any, TypedDict

# The resources whose data nothing else brings back: type -> what it is called, and which attribute
# is its name.
PRECIOUS = {
    "aws_db_instance": ("database", "identifier"),
    "aws_s3_bucket": ("bucket", "bucket"),
}


class Change(TypedDict):
    """What happens to a resource or an output, with its values on both sides."""

    actions: list[str]
    before: Any
    after: Any


class ResourceChange(TypedDict):
    """One resource of a plan."""

    address: str
    mode: str
    type: str
    change: Change


class Plan(TypedDict, total=False):
    """A plan, as `terraform show -json` prints it."""

    resource_changes: list[ResourceChange]
    output_changes: dict[str, Change]


def changes(plan: Plan) -> list[ResourceChange]:
    """The resources that a plan would change."""
    found = plan.get("resource_changes", [])
    return [item for item in found if item["change"]["actions"] not in (["no-op"], ["read"])]


def changes_nothing(plan: Plan) -> bool:
    """Whether a plan changes neither a resource nor an output."""
    outputs = [change["actions"] for change in plan.get("output_changes", {}).values()]
    return not changes(plan) and all(actions == ["no-op"] for actions in outputs)


def count(plan: Plan) -> str:
    """How much a plan would change, in a line."""
    if changes_nothing(plan):
        return "nothing to change"
    actions = [item["change"]["actions"] for item in changes(plan)]
    words = {"add": "create", "change": "update", "destroy": "delete"}
    numbers = {word: sum(verb in each for each in actions) for word, verb in words.items()}
    return ", ".join(f"{number} to {word}" for word, number in numbers.items())


def doomed_by(plan: Plan) -> dict[str, str]:
    """The resources with data that a plan would destroy: name -> kind."""
    return {
        item["change"]["before"][PRECIOUS[item["type"]][1]]: PRECIOUS[item["type"]][0]
        for item in changes(plan)
        if item["type"] in PRECIOUS and "delete" in item["change"]["actions"]
    }


def protection(state: dict[str, Any]) -> list[str]:
    """The settings that keep the resources of a state from being destroyed."""
    resources = state.get("values", {}).get("root_module", {}).get("resources", [])
    values: dict[str, list[dict[str, Any]]] = {type_: [] for type_ in PRECIOUS}
    for item in resources:
        values.setdefault(item["type"], []).append(item["values"])
    kept = []
    if any(database["deletion_protection"] for database in values["aws_db_instance"]):
        kept.append("deletion_protection = false in `database`")
    if any(not bucket["force_destroy"] for bucket in values["aws_s3_bucket"]):
        kept.append("force_destroy = true in `buckets`")
    return kept
