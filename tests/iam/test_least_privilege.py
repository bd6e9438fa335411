"""The permissions and denials of each role, decided by an evaluator of IAM and not by us.

CALLS are sent as the role: MiniStack finds out itself which action on which resource each is.
DECISIONS are for what MiniStack does not derive from a request, or does not have: tags of EC2, KMS
and SSM, the boundary of a new role, the service that a role is passed to, a metric's namespace.
Their context is written here as AWS's Service Authorization Reference has it, and MiniStack's
evaluator decides. Own sessions (`${aws:userid}`) are in neither: only a fixture holds them.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import catalogue
import pytest
from account import (
    ACCOUNT,
    ANALYST,
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


def set_versioning(status: str) -> Call:
    settings = {"Bucket": ARTIFACTS, "VersioningConfiguration": {"Status": status}}
    return Call("s3.put_bucket_versioning", settings)


def attach_administrator(role: str) -> Call:
    policy = {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}
    return Call("iam.attach_role_policy", {"RoleName": role, **policy})


def assume(role: str) -> Call:
    return Call("sts.assume_role", {"RoleArn": role_arn(role), "RoleSessionName": "test"})


def trust_everybody(role: str) -> Call:
    return Call("iam.update_assume_role_policy", {"RoleName": role, "PolicyDocument": "{}"})


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
    *[read_secret(f"secret of {service}") for service in catalogue.SECRETS],
    Call("ssm.get_parameter", {"Name": "/somebody/elses"}),
    Call("ssm.get_parameters_by_path", {"Path": "/"}),
    Call("ec2.describe_instances"),
    Call("iam.list_roles"),
    Call("iam.create_user", {"UserName": "mallory"}),
    attach_administrator("lastro-dev-mlflow"),
    assume("lastro-ci-apply"),
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
        set_versioning("Suspended"),
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
BATCH = (
    [
        put(ARTIFACTS, "batch/in/new.csv"),
        get(ARTIFACTS, "batch/in/new.csv"),
        list_(ARTIFACTS, "batch/in/"),
        Call("s3.create_multipart_upload", {"Bucket": ARTIFACTS, "Key": "batch/out/large"}),
        delete(ARTIFACTS, "batch/in/new.csv"),
    ],
    [
        delete_version(ARTIFACTS, "batch/in/new.csv"),
        put(ARTIFACTS, "batches/new.csv"),
    ],
)
ADD_PREDICTIONS = [
    put(ARTIFACTS, "predictions/model=wine/version=1/new.parquet"),
    Call("s3.create_multipart_upload", {"Bucket": ARTIFACTS, "Key": "predictions/large"}),
]
READ_PREDICTIONS = [
    get(ARTIFACTS, "predictions/model=wine/version=1/old.parquet"),
    list_(ARTIFACTS, "predictions/model=wine/"),
]
# Logged predictions must not change.
ALTER_PREDICTIONS = [
    delete(ARTIFACTS, "predictions/model=wine/version=1/old.parquet"),
    delete_version(ARTIFACTS, "predictions/model=wine/version=1/old.parquet"),
]
DATA_SCIENTIST = (
    [
        put(DAGS, "dags/theirs.py"),
        get(DAGS, "dags/wine.py"),
        list_(DAGS, "dags/"),
        delete(DAGS, "dags/theirs.py"),
        get(ARTIFACTS, "mlflow/1/model"),
        list_(ARTIFACTS, "mlflow/"),
        *READ_PREDICTIONS,
        *BATCH[0],
    ],
    [
        delete_version(DAGS, "dags/wine.py"),
        put(DAGS, "elsewhere"),
        put(ARTIFACTS, "mlflow/1/model"),
        delete(ARTIFACTS, "mlflow/1/model"),
        get(ARTIFACTS, "elsewhere"),
        *ADD_PREDICTIONS,
        *ALTER_PREDICTIONS,
        *BATCH[1],
    ],
)
SCORING = [*BATCH[0], *ADD_PREDICTIONS, *READ_PREDICTIONS, *ALTER_PREDICTIONS]
OTHER_ENVIRONMENT = [
    get(ONE_ARTIFACTS, "mlflow/1/model"),
    put(ONE_ARTIFACTS, "mlflow/1/model"),
    get(ONE_DAGS, "dags/wine.py"),
    put(ONE_DAGS, "dags/wine.py"),
    list_(ONE_DAGS, "dags/"),
]
# The hosts of tasks: Airflow's own, or a worker.
TASKS = (
    [*AIRFLOW[0], *BATCH[0]],
    [
        *AIRFLOW[1],
        *BATCH[1],
        *ADD_PREDICTIONS,
        *READ_PREDICTIONS,
        *ALTER_PREDICTIONS,
        *MLFLOW[0],
        *MLFLOW[1],
        *OTHER_ENVIRONMENT,
        *NOBODY,
    ],
)


def of(environment: str, calls: list[Call]) -> list[Call]:
    """The same calls, on the buckets of another environment."""
    return [
        Call(
            call.operation,
            {
                key: value.replace("lastro-dev-", f"lastro-{environment}-")
                if isinstance(value, str)
                else value
                for key, value in call.parameters.items()
            },
            call.expected,
        )
        for call in calls
    ]


# Role -> the requests that are allowed, and those that are denied.
CALLS: dict[str, tuple[list[Call], list[Call]]] = {
    "lastro-dev-mlflow": (
        MLFLOW[0],
        [*MLFLOW[1], *AIRFLOW[0], *AIRFLOW[1], *SCORING, *OTHER_ENVIRONMENT, *NOBODY],
    ),
    "lastro-dev-airflow": TASKS,
    "lastro-dev-trainer": TASKS,
    "lastro-dev-serving": (
        [*ADD_PREDICTIONS, *READ_PREDICTIONS],
        [
            *ALTER_PREDICTIONS,
            *BATCH[0],
            *MLFLOW[0],
            *AIRFLOW[0],
            *AIRFLOW[1],
            *OTHER_ENVIRONMENT,
            *NOBODY,
        ],
    ),
    "lastro-dev-edge": (
        [],
        [*MLFLOW[0], *AIRFLOW[0], *AIRFLOW[1], *SCORING, *OTHER_ENVIRONMENT, *NOBODY],
    ),
    "lastro-prod-all": (
        of("prod", [*MLFLOW[0], *AIRFLOW[0], *BATCH[0], *ADD_PREDICTIONS, *READ_PREDICTIONS]),
        [
            *of("prod", [*MLFLOW[1], *AIRFLOW[1], *BATCH[1], *ALTER_PREDICTIONS]),
            *MLFLOW[0],
            *AIRFLOW[0],
            *SCORING,
            *NOBODY,
        ],
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
            Call(
                "secretsmanager.put_secret_value",
                {"SecretId": "secret of mlflow", "SecretString": "x"},
            ),
            Call("secretsmanager.list_secrets"),
            get(ARTIFACTS, "mlflow/1/model"),
            put(ARTIFACTS, "mlflow/1/model"),
            get(DAGS, "dags/wine.py"),
            put(DAGS, "dags/wine.py"),
            get("somebody-elses", "mlflow/model"),
            Call("ssm.get_parameter", {"Name": "/somebody/elses"}),
            set_versioning("Suspended"),
            Call("s3.delete_bucket", {"Bucket": ARTIFACTS}),
            Call("iam.get_role", {"RoleName": ANALYST}),
            Call("iam.create_user", {"UserName": "mallory"}),
            Call("iam.delete_role", {"RoleName": "lastro-dev-mlflow"}),
            Call("ec2.create_vpc", {"CidrBlock": "10.0.0.0/16"}),
            assume("lastro-ci-apply"),
        ],
    ),
    "lastro-ci-apply": (
        [
            get(STATE_BUCKET, "dev/terraform.tfstate"),
            put(STATE_BUCKET, "dev/terraform.tfstate.tflock"),
            delete(STATE_BUCKET, "dev/terraform.tfstate.tflock"),
            read_secret("secret of mlflow"),
            read_secret("secret of airflow"),
            put(DAGS, "dags/new.py"),
            delete(DAGS, "dags/new.py"),
            list_(DAGS, "dags/"),
            set_versioning("Enabled"),
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
            Call(
                "iam.create_role",
                {"RoleName": "lastro-dev-admin", "AssumeRolePolicyDocument": "{}"},
            ),
            Call("iam.delete_role_permissions_boundary", {"RoleName": "lastro-dev-mlflow"}),
            *[
                attach_administrator(role)
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
            trust_everybody("lastro-ci-apply"),
            trust_everybody(ANALYST),
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
        for service in catalogue.SECRETS
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
    [
        pytest.param(role, call, id=f"{role}: {call}")
        for role, (may, _) in CALLS.items()
        for call in may
    ],
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


# ---- rules on the context of a request --------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """An action on one resource, with the condition keys that AWS would give it."""

    action: str
    resource: str = "*"
    context: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        context = " ".join(f"{key}={value}" for key, value in self.context.items())
        return f"{self.action} {self.resource.removeprefix('arn:aws:')} {context}".rstrip()


OURS = {"aws:ResourceTag/Project": "lastro"}
THEIRS = {"aws:ResourceTag/Project": "other"}
TAGGED = {"aws:RequestTag/Project": "lastro", "aws:RequestedRegion": REGION}
SSM_OURS = {"ssm:resourceTag/Project": "lastro"}
SSM_THEIRS = {"ssm:resourceTag/Project": "other"}
INSTANCE = arn("ec2", "instance/i-0123456789abcdef0")
ROLE = role_arn("lastro-dev-mlflow")
BOUNDARY = {"iam:PermissionsBoundary": arn("iam", "policy/lastro-boundary", region="")}
MASTER_SECRET = arn("secretsmanager", "secret:rds!db-0a1b2c-AbCdEf")


def master_of(instance: str) -> dict[str, str]:
    """The tag of RDS's own on a master's secret."""
    return {"aws:ResourceTag/aws:rds:primaryDBInstanceArn": arn("rds", f"db:{instance}")}


AGENT = [
    Request(action)
    for action in (
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
    )
]
METRIC = Request("cloudwatch:PutMetricData", context={"cloudwatch:namespace": "Lastro"})
# No host may write AWS's own metrics, which alarms read.
AWS_METRIC = Request("cloudwatch:PutMetricData", context={"cloudwatch:namespace": "AWS/EC2"})
NO_HOST = [
    AWS_METRIC,
    Request("ssm:SendCommand", INSTANCE, SSM_OURS),
    Request("ssm:StartSession", INSTANCE, SSM_OURS),
    Request("ssm:GetParametersByPath", arn("ssm", "parameter/")),
    Request("kms:Decrypt", arn("kms", "key/0a1b2c")),
    Request("ec2:TerminateInstances", INSTANCE, OURS),
    Request("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
]

# Role -> the requests that are allowed, and those that are denied.
DECISIONS: dict[str, tuple[list[Request], list[Request]]] = {
    "lastro-dev-mlflow": (AGENT, [METRIC, *NO_HOST]),
    "lastro-dev-airflow": (AGENT, [METRIC, *NO_HOST]),
    "lastro-dev-trainer": (AGENT, [METRIC, *NO_HOST]),
    "lastro-dev-serving": (AGENT, [METRIC, *NO_HOST]),
    "lastro-dev-edge": ([METRIC, *AGENT], NO_HOST),
    "lastro-prod-all": (AGENT, [METRIC, *NO_HOST]),
    "lastro-dev-data-scientist": ([], [*AGENT, METRIC, *NO_HOST]),
    "lastro-ci-plan": (
        [
            Request("sns:GetTopicAttributes", arn("sns", "lastro-dev-alarms")),
            Request("ssm:GetDocument", arn("ssm", "document/lastro-prod-authorize")),
            Request(
                "iam:GetInstanceProfile",
                arn("iam", "instance-profile/lastro-dev-mlflow", region=""),
            ),
        ],
        [
            METRIC,
            *NO_HOST,
            Request("secretsmanager:GetSecretValue", MASTER_SECRET, master_of("lastro-dev")),
            Request("secretsmanager:BatchGetSecretValue"),
            Request("s3:GetObjectVersion", f"arn:aws:s3:::{ARTIFACTS}/mlflow/1/model"),
            Request("ec2:CreateVpc", arn("ec2", "vpc/*"), TAGGED),
            Request("iam:CreateRole", ROLE, BOUNDARY),
        ],
    ),
    "lastro-ci-apply": (
        [
            # Calls of Ansible's module after it has published a DAG, and of RDS before its secret.
            Request("s3:GetObjectTagging", f"arn:aws:s3:::{DAGS}/dags/new.py"),
            Request("kms:DescribeKey", arn("kms", "key/0a1b2c")),
            # New resources have our tag, are in our region, and are made from our own.
            Request("ec2:CreateVpc", arn("ec2", "vpc/*"), TAGGED),
            Request("ec2:CreateSubnet", arn("ec2", "subnet/*"), TAGGED),
            Request("ec2:CreateSubnet", arn("ec2", "vpc/vpc-1"), OURS),
            Request("ec2:RunInstances", arn("ec2", "instance/*"), TAGGED),
            Request("ec2:RunInstances", arn("ec2", "subnet/subnet-1"), OURS),
            Request("ec2:RunInstances", arn("ec2", "security-group/sg-1"), OURS),
            Request("ec2:RunInstances", arn("ec2", "volume/*")),
            Request("ec2:RunInstances", arn("ec2", "network-interface/*")),
            Request(
                "ec2:RunInstances",
                arn("ec2", "image/ami-1", account=""),
                {"ec2:Owner": "136693071363"},
            ),
            Request("ec2:CreateTags", INSTANCE, {**TAGGED, "ec2:CreateAction": "RunInstances"}),
            Request("ec2:CreateTags", arn("ec2", "volume/vol-1"), TAGGED),
            Request("ec2:AuthorizeSecurityGroupIngress", arn("ec2", "security-group/sg-1"), OURS),
            Request(
                "ec2:AuthorizeSecurityGroupIngress", arn("ec2", "security-group-rule/*"), TAGGED
            ),
            Request("ec2:RevokeSecurityGroupEgress", arn("ec2", "security-group/sg-default")),
            Request("ec2:TerminateInstances", INSTANCE, OURS),
            Request("ec2:DeleteVpc", arn("ec2", "vpc/vpc-1"), OURS),
            # Roles inside the boundary, handed to our services.
            Request("iam:CreateRole", ROLE, BOUNDARY),
            Request("iam:PutRolePolicy", ROLE, BOUNDARY),
            Request("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
            Request("iam:DeleteRole", ROLE),
            Request(
                "iam:CreateInstanceProfile",
                arn("iam", "instance-profile/lastro-dev-mlflow", region=""),
            ),
            Request(
                "iam:CreateServiceLinkedRole",
                role_arn("aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"),
                {"iam:AWSServiceName": "rds.amazonaws.com"},
            ),
            Request("rds:CreateDBInstance", arn("rds", "db:lastro-prod")),
            Request("rds:CreateDBInstance", arn("rds", "subgrp:lastro-prod")),
            Request("rds:CreateDBInstance", arn("rds", "pg:lastro-prod-20260101")),
            Request("rds:CreateDBSnapshot", arn("rds", "snapshot:lastro-prod-final")),
            Request(
                "secretsmanager:CreateSecret",
                MASTER_SECRET,
                {"aws:CalledVia": ["rds.amazonaws.com"]},
            ),
            Request("sns:CreateTopic", arn("sns", "lastro-dev-alarms")),
            Request("cloudwatch:PutMetricAlarm", arn("cloudwatch", "alarm:lastro-dev-storage")),
            Request("budgets:ModifyBudget", arn("budgets", "budget/lastro-dev-monthly", region="")),
            Request("kms:CreateKey", context=TAGGED),
            Request("kms:ScheduleKeyDeletion", arn("kms", "key/0a1b2c"), OURS),
            Request("kms:CreateAlias", arn("kms", "alias/lastro-dev-alerts")),
            Request("logs:CreateLogGroup", arn("logs", "log-group:/lastro-dev/rejected-traffic")),
            Request(
                "logs:CreateLogGroup",
                arn("logs", "log-group:/aws/rds/instance/lastro-dev/postgresql"),
            ),
            Request("iam:PassRole", ROLE, {"iam:PassedToService": "vpc-flow-logs.amazonaws.com"}),
            Request("dlm:CreateLifecyclePolicy", context=TAGGED),
            Request("dlm:DeleteLifecyclePolicy", arn("dlm", "policy/policy-1"), OURS),
            Request("ssm:CreateDocument", arn("ssm", "document/lastro-dev-authorize")),
            # The controller.
            Request("secretsmanager:GetSecretValue", MASTER_SECRET, master_of("lastro-dev")),
            Request("ssm:SendCommand", arn("ssm", "document/lastro-dev-authorize")),
            Request("ssm:SendCommand", INSTANCE, SSM_OURS),
            Request("ssm:StartSession", arn("ssm", "document/AWS-StartSSHSession", account="")),
            Request(
                "ssm:StartSession", INSTANCE, {**SSM_OURS, "ssm:SessionDocumentAccessCheck": "true"}
            ),
            Request("ssm:GetCommandInvocation"),
        ],
        [
            # Nothing without our tag, elsewhere, or of others.
            Request("ec2:CreateVpc", arn("ec2", "vpc/*")),
            Request(
                "ec2:CreateVpc", arn("ec2", "vpc/*"), {**TAGGED, "aws:RequestTag/Project": "x"}
            ),
            Request(
                "ec2:CreateVpc", arn("ec2", "vpc/*"), {**TAGGED, "aws:RequestedRegion": "us-east-1"}
            ),
            Request("ec2:CreateSubnet", arn("ec2", "vpc/vpc-1"), THEIRS),
            Request("ec2:RunInstances", arn("ec2", "subnet/subnet-1"), THEIRS),
            Request("ec2:RunInstances", arn("ec2", "subnet/subnet-1")),
            Request(
                "ec2:RunInstances", arn("ec2", "image/ami-1", account=""), {"ec2:Owner": "666"}
            ),
            Request("ec2:TerminateInstances", INSTANCE, THEIRS),
            Request("ec2:TerminateInstances", INSTANCE),
            Request("ec2:RevokeSecurityGroupEgress", arn("ec2", "security-group/sg-1"), THEIRS),
            # Others' things cannot be made ours by a tag.
            Request("ec2:CreateTags", INSTANCE, TAGGED),
            Request("ec2:CreateTags", arn("ec2", "vpc/vpc-1"), TAGGED),
            Request("ec2:CreateTags", arn("ec2", "volume/vol-1"), {**TAGGED, **THEIRS}),
            Request("ec2:ModifySnapshotAttribute", arn("ec2", "snapshot/snap-1", account=""), OURS),
            # No way to more than it has.
            Request("iam:CreateRole", ROLE),
            Request(
                "iam:CreateRole",
                ROLE,
                {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess"},
            ),
            Request("iam:CreateRole", role_arn("lastro-ci-apply"), BOUNDARY),
            Request("iam:CreateRole", role_arn("admin"), BOUNDARY),
            Request("iam:PutRolePolicy", ROLE),
            Request("iam:PutRolePolicy", role_arn("lastro-ci-apply"), BOUNDARY),
            Request("iam:AttachRolePolicy", ROLE),
            Request("iam:AttachRolePolicy", role_arn("lastro-ci-apply"), BOUNDARY),
            Request("iam:DeleteRolePermissionsBoundary", ROLE, BOUNDARY),
            Request("iam:PassRole", ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
            Request(
                "iam:PassRole",
                role_arn("lastro-ci-apply"),
                {"iam:PassedToService": "ec2.amazonaws.com"},
            ),
            Request("iam:CreatePolicyVersion", BOUNDARY["iam:PermissionsBoundary"]),
            Request(
                "iam:CreatePolicyVersion", arn("iam", "policy/lastro-ci-apply-state", region="")
            ),
            Request("iam:UpdateOpenIDConnectProviderThumbprint"),
            Request(
                "iam:CreateServiceLinkedRole",
                role_arn("aws-service-role/x/y"),
                {"iam:AWSServiceName": "x"},
            ),
            Request("kms:ScheduleKeyDeletion", arn("kms", "key/0a1b2c"), THEIRS),
            Request("kms:ScheduleKeyDeletion", arn("kms", "key/0a1b2c")),
            Request("kms:TagResource", arn("kms", "key/0a1b2c"), {**TAGGED, **THEIRS}),
            Request("kms:CreateAlias", arn("kms", "alias/aws-rds")),
            Request("kms:Decrypt", arn("kms", "key/0a1b2c"), OURS),
            Request("logs:DeleteLogGroup", arn("logs", "log-group:/somebody/elses")),
            Request("rds:DeleteDBInstance", arn("rds", "db:somebody-elses")),
            Request("rds:ModifyDBSnapshotAttribute", arn("rds", "snapshot:lastro-dev-final")),
            Request("secretsmanager:CreateSecret", MASTER_SECRET),
            Request("secretsmanager:GetSecretValue", MASTER_SECRET, master_of("somebody-elses")),
            Request("secretsmanager:GetSecretValue", MASTER_SECRET),
            Request("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z1"),
            METRIC,
            # Only the one document, and only on our hosts.
            Request("ssm:SendCommand", arn("ssm", "document/AWS-RunShellScript", account="")),
            Request("ssm:SendCommand", arn("ssm", "document/lastro-dev-other")),
            Request("ssm:SendCommand", INSTANCE, SSM_THEIRS),
            Request("ssm:SendCommand", INSTANCE),
            Request("ssm:StartSession", arn("ssm", "document/SSM-SessionManagerRunShell")),
            Request(
                "ssm:StartSession",
                INSTANCE,
                {**SSM_OURS, "ssm:SessionDocumentAccessCheck": "false"},
            ),
            Request("ssm:StartSession", INSTANCE, SSM_THEIRS),
        ],
    ),
}


@pytest.fixture(scope="session")
def decisions(account: Account) -> dict[tuple[str, str], str]:
    """Role and request -> the decision of the evaluator."""
    asked = [
        (role, request)
        for role, (may, may_not) in DECISIONS.items()
        for request in [*may, *may_not]
    ]
    answers = evaluate(account, asked)
    return {
        (role, str(request)): answer for (role, request), answer in zip(asked, answers, strict=True)
    }


def evaluate(
    account: Account, asked: list[tuple[str, Request]], added: dict[str, Any] | None = None
) -> list[str]:
    """Decide requests by the roles' policies, and one more if it is ``added``."""
    known = {}
    for role in {role for role, _ in asked}:
        found = account.policies(role)
        boundaries = [account.policy(found["boundary"])] if found["boundary"] else []
        policies = [*found["policies"].values(), *([added] if added else [])]
        known[role] = {"policies": policies, "boundaries": boundaries}
    requests = [
        {
            "principal": arn("sts", f"assumed-role/{role}/test", region=""),
            "action": request.action,
            "resource": request.resource,
            "context": request.context,
            "region": request.context.get("aws:RequestedRegion", REGION),
            **known[role],
        }
        for role, request in asked
    ]
    result = subprocess.run(
        [MINISTACK, Path(__file__).parent / "evaluate.py"],
        input=json.dumps({"requests": requests}),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("role", "request_"),
    [pytest.param(role, r, id=f"{role}: {r}") for role, (may, _) in DECISIONS.items() for r in may],
)
def test_a_role_is_allowed(
    decisions: dict[tuple[str, str], str], role: str, request_: Request
) -> None:
    assert decisions[role, str(request_)] == "Allow"


@pytest.mark.parametrize(
    ("role", "request_"),
    [pytest.param(role, r, id=f"{role}: {r}") for role, (_, no) in DECISIONS.items() for r in no],
)
def test_a_role_is_denied(
    decisions: dict[tuple[str, str], str], role: str, request_: Request
) -> None:
    assert decisions[role, str(request_)] != "Allow"


def test_a_policy_that_is_attached_later_opens_no_secret_to_plans(account: Account) -> None:
    everything = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    asked = [
        ("lastro-ci-plan", Request("secretsmanager:GetSecretValue", MASTER_SECRET)),
        ("lastro-ci-plan", Request("s3:GetObject", f"arn:aws:s3:::{ARTIFACTS}/mlflow/1/model")),
        (
            "lastro-ci-plan",
            Request("s3:GetObject", f"arn:aws:s3:::{STATE_BUCKET}/dev/terraform.tfstate"),
        ),
    ]
    assert evaluate(account, asked, everything) == ["Deny", "Deny", "Allow"]


def test_the_boundary_holds_whatever_ci_writes_into_a_role(account: Account) -> None:
    everything = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    role = "lastro-dev-mlflow"
    may = [
        Request(
            "ec2:DeleteSnapshot",
            arn("ec2", "snapshot/snap-1", account=""),
            {"aws:ResourceTag/aws:dlm:lifecycle-policy-id": "policy-1"},
        ),
        Request("s3:GetObject", f"arn:aws:s3:::{ARTIFACTS}/mlflow/1/model"),
        METRIC,
        Request("ec2:CreateSnapshot", arn("ec2", "volume/vol-1")),
        Request(
            "logs:PutLogEvents",
            arn("logs", "log-group:/lastro-dev/rejected-traffic:log-stream:eni-1"),
        ),
    ]
    may_not = [
        Request("iam:CreateUser", arn("iam", "user/mallory", region="")),
        Request("sts:AssumeRole", role_arn("lastro-ci-apply")),
        Request("secretsmanager:GetSecretValue", MASTER_SECRET, master_of("lastro-dev")),
        Request("s3:GetObject", f"arn:aws:s3:::{STATE_BUCKET}/dev/terraform.tfstate"),
        Request("s3:GetObject", "arn:aws:s3:::somebody-elses/mlflow/model"),
        Request("s3:DeleteObjectVersion", f"arn:aws:s3:::{ARTIFACTS}/mlflow/1/model"),
        Request("ec2:TerminateInstances", INSTANCE, OURS),
        Request("ec2:DeleteSnapshot", arn("ec2", "snapshot/snap-1", account=""), OURS),
        AWS_METRIC,
    ]
    answers = evaluate(account, [(role, request) for request in [*may, *may_not]], everything)
    assert answers == ["Allow"] * len(may) + ["ImplicitDeny"] * len(may_not)


# ---- who may become a role --------------------------------------------------------------------

SUBJECTS = {
    # a job's token: (may plan, may apply)
    f"repo:{REPOSITORY}:ref:refs/heads/main": (True, True),
    f"repo:{REPOSITORY}:environment:dev": (False, True),
    f"repo:{REPOSITORY}:environment:prod": (False, True),
    f"repo:{REPOSITORY}:ref:refs/heads/feature/x": (True, False),
    f"repo:{REPOSITORY}:pull_request": (True, False),
    f"repo:{REPOSITORY}:environment:staging": (False, False),
    f"repo:{REPOSITORY}:ref:refs/tags/v1": (False, False),
    f"repo:{REPOSITORY}:ref:refs/heads/main2": (True, False),
    f"repo:{REPOSITORY}-fork:ref:refs/heads/main": (False, False),
    "repo:mallory/platform:ref:refs/heads/main": (False, False),
    "repo:mallory/platform:pull_request": (False, False),
    f"repo:{REPOSITORY}@1:ref:refs/heads/main": (False, False),
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_job_of_github_becomes_what_its_token_allows(account: Account, subject: str) -> None:
    assert (
        becomes(account, "lastro-ci-plan", subject),
        becomes(account, "lastro-ci-apply", subject),
    ) == SUBJECTS[subject]


def test_a_token_for_somebody_else_is_refused(account: Account) -> None:
    subject = f"repo:{REPOSITORY}:ref:refs/heads/main"
    assert not becomes(account, "lastro-ci-plan", subject, "https://github.com/acme")


def becomes(account: Account, role: str, subject: str, audience: str = "sts.amazonaws.com") -> bool:
    """Whether a job with this token may assume the role."""
    try:
        account.as_job(role, subject, audience)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied"
        return False
    return True


def test_a_user_without_a_second_factor_is_no_data_scientist(account: Account) -> None:
    key = account.client("iam").create_access_key(UserName=USER)["AccessKey"]
    session = account.session(key)
    with pytest.raises(ClientError, match="AccessDenied"):
        account.assume("lastro-dev-data-scientist", session)


def test_nobody_else_is_a_data_scientist(account: Account) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        account.assume("lastro-dev-data-scientist", account.as_role("lastro-dev-mlflow"))


# ---- the work of the roles of CI --------------------------------------------------------------


def test_the_apply_role_suffices_to_refresh(account: Account) -> None:
    session = account.as_role("lastro-ci-apply")
    result = account.terraform(
        "dev", "plan", "-detailed-exitcode", *settings("dev"), session=session
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_plan_role_suffices_for_a_plan(account: Account) -> None:
    # The provider reads the value of a secret at each refresh, and must not get it.
    session = account.as_role("lastro-ci-plan")
    arguments = ["plan", "-refresh=false", "-detailed-exitcode", *settings("dev")]
    result = account.terraform("dev", *arguments, session=session)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_plan_role_may_refresh_all_but_the_secrets_values(account: Account) -> None:
    session = account.as_role("lastro-ci-plan")
    result = account.terraform("dev", "plan", *settings("dev"), session=session)
    refused = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    listed = account.client("secretsmanager").list_secrets(MaxResults=100)["SecretList"]
    own = [secret for secret in listed if secret["Name"].startswith("lastro-dev/")]
    assert len(refused) == len(own) > 0, result.stderr
    assert all("GetSecretValue" in line for line in refused), refused
