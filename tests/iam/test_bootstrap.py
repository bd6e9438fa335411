"""An account is prepared once, and left as it was: `make bootstrap`, `make bootstrap-destroy`."""

from __future__ import annotations

import json

import pytest
from account import ACCOUNT, STATE_BUCKET, Account, running

BOOTSTRAP = ["bootstrap", "AUTO_APPROVE=yes"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory):
    """A separate, empty account."""
    with running(tmp_path_factory.mktemp("empty")) as account:
        yield account


def roles(account: Account) -> set[str]:
    """The roles of an account."""
    return {role["RoleName"] for role in account.client("iam").list_roles()["Roles"]}


def buckets(account: Account) -> set[str]:
    """The buckets of an account."""
    return {bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]}


@pytest.mark.parametrize(
    ("key", "said"),
    [("", "there are no AWS credentials"), ("unknown", "AWS refuses the credentials")],
)
def test_credentials_that_aws_does_not_take_are_explained(
    empty: Account, key: str, said: str
) -> None:
    result = empty.make(*BOOTSTRAP, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=key)
    assert result.returncode == 2
    assert said in result.stderr
    assert "aws sso login" in result.stderr
    assert buckets(empty) == set()


def test_nothing_is_applied_that_nobody_could_approve(empty: Account) -> None:
    result = empty.make("bootstrap")
    assert result.returncode == 2
    assert "AUTO_APPROVE=yes" in result.stderr
    assert buckets(empty) == set()


def test_an_account_is_prepared_and_left_as_it_was(empty: Account) -> None:
    # Without GitHub: no role of CI.
    result = empty.make(*BOOTSTRAP)
    assert result.returncode == 0, result.stdout + result.stderr
    assert buckets(empty) == {STATE_BUCKET}
    assert empty.client("s3").get_bucket_versioning(Bucket=STATE_BUCKET)["Status"] == "Enabled"
    assert roles(empty) == set()
    assert empty.policy(f"arn:aws:iam::{ACCOUNT}:policy/lastro-boundary")

    # Another account's number, or an environment that is left: nothing happens.
    result = empty.make("bootstrap-destroy", "CONFIRM=444455556666")
    assert result.returncode == 2
    assert f"CONFIRM={ACCOUNT}" in result.stdout
    state = {"version": 4, "resources": [{"mode": "managed", "type": "aws_vpc", "name": "main"}]}
    s3 = empty.client("s3")
    s3.put_object(
        Bucket=STATE_BUCKET, Key="dev/terraform.tfstate", Body=json.dumps(state, indent=2).encode()
    )
    result = empty.make("bootstrap-destroy", f"CONFIRM={ACCOUNT}")
    assert result.returncode == 2
    assert "make destroy ENV=dev CONFIRM=dev" in result.stdout
    assert buckets(empty) == {STATE_BUCKET}

    # A destroyed environment leaves a state without resources.
    s3.put_object(Bucket=STATE_BUCKET, Key="dev/terraform.tfstate", Body=b'{"resources": []}')
    result = empty.make("bootstrap-destroy", f"CONFIRM={ACCOUNT}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (roles(empty), buckets(empty)) == (set(), set())
    assert empty.client("iam").list_policies(Scope="Local")["Policies"] == []


def test_a_second_run_changes_nothing_and_remembers_the_repository(account: Account) -> None:
    result = account.make(*BOOTSTRAP)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 added, 0 changed, 0 destroyed" in result.stdout
    assert {"lastro-ci-plan", "lastro-ci-apply"} < roles(account)
