"""The policies of every role, word by word: a change fails until the fixture has it as well.

LASTRO_WRITE_FIXTURES=yes scripts/test iam writes the fixtures again: read their diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from account import ACCOUNT, LAYOUTS, Account

FIXTURES = Path(__file__).parent / "fixtures"
HOSTS = {environment: list(layout["hosts"]) for environment, layout in LAYOUTS.items()}
ROLES = [
    "lastro-ci-plan",
    "lastro-ci-apply",
    *(f"lastro-{environment}-{host}" for environment in LAYOUTS for host in HOSTS[environment]),
    "lastro-dev-data-scientist",
]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_what_its_fixture_says(account: Account, role: str) -> None:
    compare(role, account.policies(role))


def test_the_boundary_is_what_its_fixture_says(account: Account) -> None:
    compare("lastro-boundary", account.policy(f"arn:aws:iam::{ACCOUNT}:policy/lastro-boundary"))


def test_every_fixture_is_used() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == {*ROLES, "lastro-boundary"}


def test_there_is_no_other_role(account: Account) -> None:
    roles = {role["RoleName"] for role in account.client("iam").list_roles()["Roles"]}
    assert {role for role in roles if role.startswith("lastro-")} == {
        *ROLES,
        "lastro-prod-data-scientist",
    }


@pytest.mark.parametrize("role", ROLES)
def test_iam_would_take_the_policies(account: Account, role: str) -> None:
    # IAM does not count white space. A managed policy may have 6144 characters, and a role ten.
    policies = account.policies(role)["policies"]
    sizes = {
        name: len(json.dumps(policy, separators=(",", ":"))) for name, policy in policies.items()
    }
    assert max(sizes.values()) <= 6144, sizes
    assert len(sizes) <= 10


def compare(name: str, found: dict[str, Any]) -> None:
    """Check that the found value equals the fixture of that name."""
    path = FIXTURES / f"{name}.json"
    if os.environ.get("LASTRO_WRITE_FIXTURES"):
        path.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(path.read_text())
