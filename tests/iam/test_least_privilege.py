"""What each role may do and what it may not, decided by an evaluator of IAM and not by us.

CALLS are sent as the role: MiniStack finds out itself which action on which resource each is.
DECISIONS are for what MiniStack does not derive from a request, or does not have: tags of EC2 and SSM,
the boundary of a new role, the service that a role is passed to, the namespace of a metric... Their context
is written here as AWS's Service Authorization Reference has it; MiniStack's evaluator decides.

The name of an own session (`${aws:userid}`) is in neither, and only compared with its fixture.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    arn,
    role_arn,
    settings,
)
from botocore.exceptions import ClientError

REFUSALS = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
ARTIFACTS, DAGS = f"lastro-dev-artifacts-{ACCOUNT}", f"lastro-dev-dags-{ACCOUNT}"
ONE_ARTIFACTS, ONE_DAGS = f"lastro-prod-artifacts-{ACCOUNT}", f"lastro-prod-dags-{ACCOUNT}"


@dataclass(frozen=True)
class Call:
    """A call to AWS. ``expected`` is an error that says the call was allowed."""

    operation: str
    parameters: dict[str, Any] = field(default_factory=dict)
    expected: str = ""

    def __str__(self) -> str:
        named = [v for v in self.parameters.values() if isinstance(v, str)]
        return " ".join([self.operation, *named])

    def may(self, account: Account, role: str) -> bool:
        """Whether AWS lets the role do this."""
        service, method = self.operation.split(".")
        client = account.client(service, account.as_role(role))
        try:
            getattr(client, method)(**self.parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in REFUSALS:
                return False
            assert self.expected and code == self.expected, error
        return True


def get(bucket: str, key: str) -> Call:
    return Call("s3.get_object", {"Bucket": bucket, "Key": key})


def put(bucket: str, key: str) -> Call:
    return Call("s3.put_object", {"Bucket": bucket, "Key": key, "Body": b"x"})


def delete(bucket: str, key: str) -> Call:
    return Call("s3.delete_object", {"Bucket": bucket, "Key": key})


def delete_version(bucket: str, key: str) -> Call:
    return Call("s3.delete_object", {"Bucket": bucket, "Key": key, "VersionId": "null"})


def list_(bucket: str, prefix: str | None = None) -> Call:
    prefixed = {} if prefix is None else {"Prefix": prefix}
    return Call("s3.list_objects_v2", {"Bucket": bucket, **prefixed})


def read_secret(name: str) -> Call:
    return Call("secretsmanager.get_secret_value", {"SecretId": name})


# No host and no data scientist may do any of this.
NOBODY = [
    Call("s3.list_buckets"),
    get("somebody-elses", "mlflow/model"),
    put("somebody-elses", "mlflow/model"),
    list_("somebody-elses"),
    get(STATE_BUCKET, "dev/terraform.tfstate"),
    put(STATE_BUCKET, "dev/terraform.tfstate"),
    list_(STATE_BUCKET),
    Call("secretsmanager.list_secrets"),
    read_secret("somebody-elses"),
    *[read_secret(f"secret of {service}") for service in ("mlflow", "airflow", "dashboard")],
    Call("ssm.get_parameter", {"Name": "/somebody/elses"}),
    Call("ssm.get_parameters_by_path", {"Path": "/"}),
    Call("ec2.describe_instances"),
    Call("iam.list_roles"),
    Call("iam.create_user", {"UserName": "mallory"}),
    Call(
        "iam.attach_role_policy",
        {
            "RoleName": "lastro-dev-mlflow",
            "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess",
        },
    ),
    Call("sts.assume_role", {"RoleArn": role_arn("lastro-ci-apply"), "RoleSessionName": "test"}),
]
MLFLOW = (
    [
        put(ARTIFACTS, "mlflow/1/new"),
        get(ARTIFACTS, "mlflow/1/model"),
        Call("s3.head_object", {"Bucket": ARTIFACTS, "Key": "mlflow/1/model"}),
        list_(ARTIFACTS, "mlflow/1/"),
        Call("s3.create_multipart_upload", {"Bucket": ARTIFACTS, "Key": "mlflow/1/large"}),
        delete(ARTIFACTS, "mlflow/1/new"),
    ],
    [
        delete_version(ARTIFACTS, "mlflow/1/model"),
        get(ARTIFACTS, "elsewhere"),
        put(ARTIFACTS, "elsewhere"),
        list_(ARTIFACTS),
        list_(ARTIFACTS, "else"),
        Call("s3.put_bucket_versioning", {"Bucket": ARTIFACTS, "VersioningConfiguration": {"Status": "Suspended"}}),
        Call("s3.delete_bucket", {"Bucket": ARTIFACTS}),
    ],
)
AIRFLOW = (
    [
        get(DAGS, "dags/wine.py"),
        list_(DAGS, "dags/"),
        Call("s3.head_bucket", {"Bucket": DAGS}),
    ],
    [
        put(DAGS, "dags/wine.py"),
        put(DAGS, "dags/new.py"),
        delete(DAGS, "dags/wine.py"),
        delete_version(DAGS, "dags/wine.py"),
    ],
)
DATA_SCIENTIST = (
    [
        put(DAGS, "dags/theirs.py"),
        get(DAGS, "dags/wine.py"),
        list_(DAGS, "dags/"),
        delete(DAGS, "dags/theirs.py"),
        get(ARTIFACTS, "mlflow/1/model"),
        list_(ARTIFACTS, "mlflow/"),
    ],
    [
        delete_version(DAGS, "dags/wine.py"),
        put(DAGS, "elsewhere"),
        put(ARTIFACTS, "mlflow/1/model"),
        delete(ARTIFACTS, "mlflow/1/model"),
        get(ARTIFACTS, "elsewhere"),
    ],
)
OTHER_ENVIRONMENT = [
    get(ONE_ARTIFACTS, "mlflow/1/model"),
    put(ONE_ARTIFACTS, "mlflow/1/model"),
    get(ONE_DAGS, "dags/wine.py"),
    put(ONE_DAGS, "dags/wine.py"),
    list_(ONE_DAGS, "dags/"),
]


def of(environment: str, calls: list[Call]) -> list[Call]:
    """The same calls, on the buckets of another environment."""
    return [
        Call(
            call.operation,
            {
                key: value.replace("lastro-dev-", f"lastro-{environment}-") if isinstance(value, str) else value
                for key, value in call.parameters.items()
            },
            call.expected,
        )
        for call in calls
    ]


# Role -> what it may do, and what it may not.
CALLS: dict[str, tuple[list[Call], list[Call]]] = {
    "lastro-dev-mlflow": (
        MLFLOW[0],
        [*MLFLOW[1], *AIRFLOW[0], *AIRFLOW[1], *OTHER_ENVIRONMENT, *NOBODY],
    ),
    "lastro-dev-airflow": (
        AIRFLOW[0],
        [*AIRFLOW[1], *MLFLOW[0], *MLFLOW[1], *OTHER_ENVIRONMENT, *NOBODY],
    ),
    "lastro-dev-serving": (
        [],
        [*MLFLOW[0], *AIRFLOW[0], *AIRFLOW[1], *OTHER_ENVIRONMENT, *NOBODY],
    ),
    "lastro-prod-all": (
        of("prod", [*MLFLOW[0], *AIRFLOW[0]]),
        [*of("prod", [*MLFLOW[1], *AIRFLOW[1]]), *MLFLOW[0], *AIRFLOW[0], *NOBODY],
    ),
    "lastro-dev-data-scientist": (
        DATA_SCIENTIST[0],
        [*DATA_SCIENTIST[1], *OTHER_ENVIRONMENT, *NOBODY],
    ),
    "lastro-ci-plan": (
        [
            get(STATE_BUCKET, "dev/terraform.tfstate"),
            list_(STATE_BUCKET),
            put(STATE_BUCKET, "dev/terraform.tfstate.tflock"),
            delete(STATE_BUCKET, "dev/terraform.tfstate.tflock"),
            Call("secretsmanager.get_random_password"),
            Call("secretsmanager.describe_secret", {"SecretId": "secret of mlflow"}),
            Call("s3.get_bucket_versioning", {"Bucket": ARTIFACTS}),
            Call("iam.get_role", {"RoleName": "lastro-dev-mlflow"}),
            Call("ec2.describe_instances"),
        ],
        [
            put(STATE_BUCKET, "dev/terraform.tfstate"),
            delete(STATE_BUCKET, "dev/terraform.tfstate"),
            get(STATE_BUCKET, "bootstrap/terraform.tfstate"),
            put(STATE_BUCKET, "bootstrap/terraform.tfstate"),
            *[read_secret(f"secret of {service}") for service in ("mlflow", "airflow")],
            read_secret("somebody-elses"),
            Call("secretsmanager.put_secret_value", {"SecretId": "secret of mlflow", "SecretString": "x"}),
            Call("secretsmanager.list_secrets"),
            get(ARTIFACTS, "mlflow/1/model"),
            put(ARTIFACTS, "mlflow/1/model"),
            get(DAGS, "dags/wine.py"),
            put(DAGS, "dags/wine.py"),
            get("somebody-elses", "mlflow/model"),
            Call("ssm.get_parameter", {"Name": "/somebody/elses"}),
            Call("s3.put_bucket_versioning", {"Bucket": ARTIFACTS, "VersioningConfiguration": {"Status": "Suspended"}}),
            Call("s3.delete_bucket", {"Bucket": ARTIFACTS}),
            Call("iam.get_role", {"RoleName": ANALYST}),
            Call("iam.create_user", {"UserName": "mallory"}),
            Call("iam.delete_role", {"RoleName": "lastro-dev-mlflow"}),
            Call("ec2.create_vpc", {"CidrBlock": "10.0.0.0/16"}),
            Call("sts.assume_role", {"RoleArn": role_arn("lastro-ci-apply"), "RoleSessionName": "test"}),
        ],
    ),
    "lastro-ci-apply": (
        [
            get(STATE_BUCKET, "dev/terraform.tfstate"),
            put(STATE_BUCKET, "test/terraform.tfstate".replace("test", "dev") + ".tflock"),
            delete(STATE_BUCKET, "dev/terraform.tfstate.tflock"),
            read_secret("secret of mlflow"),
            read_secret("secret of airflow"),
            put(DAGS, "dags/new.py"),
            delete(DAGS, "dags/new.py"),
            list_(DAGS, "dags/"),
            Call("s3.put_bucket_versioning", {"Bucket": ARTIFACTS, "VersioningConfiguration": {"Status": "Enabled"}}),
            Call("iam.update_role", {"RoleName": "lastro-dev-mlflow", "MaxSessionDuration": 3600}),
            Call("ec2.describe_instances"),
        ],
        [
            get(ARTIFACTS, "mlflow/1/model"),
            put(ARTIFACTS, "mlflow/1/model"),
            put(DAGS, "elsewhere"),
            get("somebody-elses", "mlflow/model"),
            Call("s3.delete_bucket", {"Bucket": "somebody-elses"}),
            Call("s3.delete_bucket", {"Bucket": STATE_BUCKET}),
            get(STATE_BUCKET, "bootstrap/terraform.tfstate"),
            put(STATE_BUCKET, "bootstrap/terraform.tfstate"),
            delete(STATE_BUCKET, "dev/terraform.tfstate"),
            delete_version(STATE_BUCKET, "dev/terraform.tfstate"),
            read_secret("somebody-elses"),
            Call("secretsmanager.list_secrets"),
            Call("ssm.get_parameter", {"Name": "/somebody/elses"}),
            Call("iam.create_user", {"UserName": "mallory"}),
            Call("iam.create_access_key", {"UserName": USER}),
            Call("iam.create_role", {"RoleName": "lastro-dev-admin", "AssumeRolePolicyDocument": "{}"}),
            Call("iam.delete_role_permissions_boundary", {"RoleName": "lastro-dev-mlflow"}),
            *[
                Call(
                    "iam.attach_role_policy",
                    {"RoleName": role, "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
                )
                for role in ("lastro-ci-apply", "lastro-ci-plan", ANALYST)
            ],
            Call(
                "iam.create_policy_version",
                {
                    "PolicyArn": arn("iam", "policy/lastro-boundary", region=""),
                    "PolicyDocument": "{}",
                    "SetAsDefault": True,
                },
            ),
            Call("iam.update_assume_role_policy", {"RoleName": "lastro-ci-apply", "PolicyDocument": "{}"}),
            Call("iam.update_assume_role_policy", {"RoleName": ANALYST, "PolicyDocument": "{}"}),
        ],
    ),
}


@pytest.fixture(scope="session")
def secrets(account: Account) -> dict[str, str]:
    """How a table's names of secrets are called in the account."""
    listed = account.client("secretsmanager").list_secrets(MaxResults=100)["SecretList"]
    names = [secret["Name"] for secret in listed]
    return {
        f"secret of {service}": next(n for n in names if n.startswith(f"lastro-dev/{service}-"))
        for service in ("mlflow", "airflow", "model_api", "dashboard")
    }


def named(call: Call, secrets: dict[str, str]) -> Call:
    """The call with the account's own name of a secret."""
    parameters = {
        key: secrets.get(value, value) if isinstance(value, str) else value
        for key, value in call.parameters.items()
    }
    return Call(call.operation, parameters, call.expected)


@pytest.mark.parametrize(
    ("role", "call"),
    [pytest.param(role, call, id=f"{role}: {call}") for role, (may, _) in CALLS.items() for call in may],
)
def test_a_role_may(account: Account, secrets: dict[str, str], role: str, call: Call) -> None:
    assert named(call, secrets).may(account, role)


@pytest.mark.parametrize(
    ("role", "call"),
    [
        pytest.param(role, call, id=f"{role}: {call}")
        for role, (_, may_not) in CALLS.items()
        for call in may_not
    ],
)
def test_a_role_may_not(account: Account, secrets: dict[str, str], role: str, call: Call) -> None:
    assert not named(call, secrets).may(account, role)
