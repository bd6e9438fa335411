"""The output of lastro-ops for a plan, a state, and an error of Terraform."""

from __future__ import annotations

from typing import Any

import pytest
from lastro_ops.terraform.explain import explain
from lastro_ops.terraform.plan import changes_nothing, count, doomed_by, protection


def change(type_: str, actions: list[str], **before: Any) -> dict[str, Any]:
    return {"type": type_, "change": {"actions": actions, "before": before}}


def test_a_replaced_resource_counts_as_destroyed() -> None:
    plan = {
        "resource_changes": [
            change("aws_db_instance", ["delete", "create"], identifier="lastro-prod"),
            change("aws_s3_bucket", ["create", "delete"], bucket="lastro-prod-dags"),
            change("aws_s3_bucket", ["update"], bucket="lastro-prod-artifacts"),
            change("aws_instance", ["delete"], id="i-1"),
        ]
    }
    assert doomed_by(plan) == {"lastro-prod": "database", "lastro-prod-dags": "bucket"}
    assert count(plan) == "2 to add, 1 to change, 3 to destroy"


def test_a_plan_with_only_outputs_is_a_change() -> None:
    untouched = {"resource_changes": [change("aws_vpc", ["no-op"]), change("aws_ami", ["read"])]}
    assert count(untouched) == "nothing to change"
    assert not changes_nothing(
        untouched | {"output_changes": {"platform": {"actions": ["update"]}}}
    )


@pytest.mark.parametrize(
    ("deletion_protection", "force_destroy", "settings"),
    [(True, False, 2), (True, True, 1), (False, False, 1), (False, True, 0)],
)
def test_a_protected_resource_names_its_setting(
    deletion_protection: bool, force_destroy: bool, settings: int
) -> None:
    values = [
        ("aws_db_instance", {"deletion_protection": deletion_protection}),
        ("aws_s3_bucket", {"force_destroy": True}),
        ("aws_s3_bucket", {"force_destroy": force_destroy}),
    ]
    resources = [{"type": type_, "values": value} for type_, value in values]
    state = {"values": {"root_module": {"resources": resources}}}
    assert len(protection(state)) == settings
    assert protection({}) == []


LOCKED = """
╷
│ Error: Error acquiring the state lock
│
│ Lock Info:
│   ID:        656d42ec-6a76-af87-2ccd-6fb6799a8464
│   Path:      bucket/prod/terraform.tfstate
│   Operation: OperationTypeApply
│   Who:       runner@fv-az1
│   Version:   1.11.4
│   Created:   2026-11-24 10:14:34.777732868 +0000 UTC
╵
"""


@pytest.mark.parametrize(
    ("output", "parts"),
    [
        (LOCKED, ["runner@fv-az1", "2026-11-24 10:14:34 UTC", "force-unlock 656d42ec-"]),
        ("│ Error: Saved plan is stale", ["is stale", "Nothing was applied", "make plan ENV=prod"]),
        (
            "│ Error: AWS account ID not allowed: 123456789012",
            ["account 123456789012", "account_id"],
        ),
        ("api error ExpiredToken: The provided token has expired", ["have expired", "Log in"]),
    ],
)
def test_common_errors_are_explained(output: str, parts: list[str]) -> None:
    said = explain(output, "prod")
    assert all(part in said for part in parts), said


def test_an_unknown_error_is_left_to_terraform() -> None:
    assert explain("│ Error: Invalid index", "prod") is None
