"""The account that the tests of least privilege share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from account import (
    ACCOUNT,
    ANALYST,
    LAYOUTS,
    MINISTACK,
    REGION,
    REPOSITORY,
    STATE_BUCKET,
    USER,
    Account,
    running,
    settings,
)


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The account after `make bootstrap`, with the roles and secrets of two environments."""
    assert MINISTACK, "LASTRO_MINISTACK_PYTHON must name a Python with MiniStack: scripts/test iam"
    with running(tmp_path_factory.mktemp("ministack")) as account:
        result = account.make("bootstrap", f"GITHUB_REPOSITORY={REPOSITORY}", "AUTO_APPROVE=yes")
        assert result.returncode == 0, result.stdout + result.stderr
        people(account)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda environment: apply(account, environment), LAYOUTS))
        contents(account)
        yield account


def apply(account: Account, environment: str) -> None:
    """Apply identity.tf, and the resources that it names."""
    state = [f"bucket={STATE_BUCKET}", f"region={REGION}", f"key={environment}/terraform.tfstate"]
    backend = [f"-backend-config={setting}" for setting in state]
    for arguments in (
        ["init", "-reconfigure", "-input=false", *backend],
        ["apply", "-auto-approve", *settings(environment)],
    ):
        result = account.terraform(environment, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr


def people(account: Account) -> None:
    """Data scientists as an account has them: a user, and a role of the company's sign-in."""
    iam = account.client("iam")
    may_assume = policy(Effect="Allow", Action="sts:AssumeRole", Resource="*")
    iam.create_user(UserName=USER)
    iam.put_user_policy(UserName=USER, PolicyName="assume", PolicyDocument=may_assume)
    iam.create_role(
        RoleName=ANALYST,
        AssumeRolePolicyDocument=policy(
            Effect="Allow",
            Action="sts:AssumeRole",
            Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        ),
    )
    iam.put_role_policy(RoleName=ANALYST, PolicyName="assume", PolicyDocument=may_assume)


def policy(**statement: object) -> str:
    """A policy of one statement."""
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def contents(account: Account) -> None:
    """Something to read, or to be refused, in each place."""
    s3 = account.client("s3")
    s3.create_bucket(
        Bucket="somebody-elses", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    s3.put_object(Bucket="somebody-elses", Key="mlflow/model", Body=b"x")
    for environment in LAYOUTS:
        for bucket, key in (
            ("artifacts", "mlflow/1/model"),
            ("artifacts", "predictions/model=wine/version=1/old.parquet"),
            ("dags", "dags/wine.py"),
        ):
            s3.put_object(Bucket=f"lastro-{environment}-{bucket}-{ACCOUNT}", Key=key, Body=b"x")
        s3.put_object(
            Bucket=f"lastro-{environment}-artifacts-{ACCOUNT}", Key="elsewhere", Body=b"x"
        )
    account.client("secretsmanager").create_secret(Name="somebody-elses", SecretString="x")
    account.client("ssm").put_parameter(Name="/somebody/elses", Value="x", Type="String")
