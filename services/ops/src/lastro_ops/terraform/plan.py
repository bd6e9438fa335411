"""The content of a plan or a state of Terraform."""

from __future__ import annotations

from typing import TypedDict

# The resources whose data cannot be recovered: type -> its word for people, and the attribute with
# its name.
PRECIOUS = {
    "aws_db_instance": ("database", "identifier"),
    "aws_s3_bucket": ("bucket", "bucket"),
}


class Change(TypedDict):
    """The change of a resource, and its values before and after: None where it does not exist."""

    actions: list[str]
    before: dict[str, object] | None
    after: dict[str, object] | None


class ResourceChange(TypedDict):
    """One resource of a plan."""

    address: str
    mode: str
    type: str
    change: Change


class Plan(TypedDict, total=False):
    """A plan, as `terraform show -json` prints it. Each of our outputs is an object or a text."""

    resource_changes: list[ResourceChange]
    output_changes: dict[str, Change]


class StateResource(TypedDict):
    """One resource of a state."""

    type: str
    values: dict[str, object]


class RootModule(TypedDict, total=False):
    """The resources of a state that are in no module."""

    resources: list[StateResource]


class StateValues(TypedDict, total=False):
    """The values of a state."""

    root_module: RootModule


class State(TypedDict, total=False):
    """A state, as `terraform show -json` prints it; empty where nothing has been made."""

    values: StateValues


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
    doomed = {}
    for item in changes(plan):
        before = item["change"]["before"]
        if before and item["type"] in PRECIOUS and "delete" in item["change"]["actions"]:
            kind, attribute = PRECIOUS[item["type"]]
            doomed[str(before[attribute])] = kind
    return doomed


def protection(state: State) -> list[str]:
    """The settings that keep the resources of a state from being destroyed."""
    resources = state.get("values", {}).get("root_module", {}).get("resources", [])
    kept = []
    databases = (item["values"] for item in resources if item["type"] == "aws_db_instance")
    if any(database["deletion_protection"] for database in databases):
        kept.append("deletion_protection = false in `database`")
    buckets = (item["values"] for item in resources if item["type"] == "aws_s3_bucket")
    if any(not bucket["force_destroy"] for bucket in buckets):
        kept.append("force_destroy = true in `buckets`")
    return kept
