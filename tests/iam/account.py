"""An AWS account that enforces IAM, prepared by Terraform: MiniStack with AUTH on.

CI's roles are assumed with tokens like GitHub's, the hosts' roles as EC2 would. MiniStack takes its
plain HTTP for what it is, and would enforce the buckets' TLS-only policies: they stay out.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from lastro_ops.project import CHECKOUT
from lastro_ops.terraform.process import Terraform
from wiring import PROJECT

ACCOUNT = "111122223333"
REGION = "eu-west-1"
REPOSITORY = "acme/platform"
STATE_BUCKET = f"lastro-terraform-state-{ACCOUNT}"
STATE = PROJECT / ".lastro" / "tests" / "iam"
MINISTACK = os.environ.get("LASTRO_MINISTACK_PYTHON", "")

# Environment -> how its hosts are laid out: a host a role with two together, and everything on one.
LAYOUTS: dict[str, dict[str, Any]] = {
    "dev": {
        "domain": {"name": "lastro.example.com"},
        "hosts": {
            "mlflow": {"instance_type": "t3.small", "roles": ["mlflow"]},
            "airflow": {"instance_type": "t3.small", "roles": ["airflow"]},
            "serving": {"instance_type": "t3.small", "roles": ["model_api", "dashboard"]},
            "trainer": {"instance_type": "t3.small", "roles": ["airflow_worker"]},
            "edge": {"instance_type": "t3.micro", "roles": ["edge"]},
        },
    },
    "prod": {
        "hosts": {
            "all": {
                "instance_type": "t3.large",
                "roles": ["mlflow", "airflow", "model_api", "dashboard"],
            }
        }
    },
}
USER, ANALYST = "ana", "analysts"
# The parts of Terraform under test, and what they name. Instance profiles stay out: MiniStack takes
# a call on one for a call on all, which would be refused.
BOOTSTRAP_TARGETS = (
    "aws_iam_policy.boundary",
    "aws_iam_role_policy_attachment.ci",
    "aws_s3_bucket_ownership_controls.state",
    "aws_s3_bucket_public_access_block.state",
    "aws_s3_bucket_server_side_encryption_configuration.state",
)
PLATFORM_TARGETS = (
    "aws_iam_role_policy.host",
    "aws_iam_role_policy.data_scientist",
    "aws_secretsmanager_secret_version.service",
)


def arn(service: str, resource: str, region: str = REGION, account: str = ACCOUNT) -> str:
    """An ARN of this account."""
    return f"arn:aws:{service}:{region}:{account}:{resource}"


def role_arn(name: str) -> str:
    """The ARN of a role."""
    return arn("iam", f"role/{name}", region="")


def token(subject: str, audience: str = "sts.amazonaws.com") -> str:
    """A token as GitHub gives one to a job; MiniStack does not verify who signed it."""
    claims = {
        "iss": "https://token.actions.githubusercontent.com",
        "aud": audience,
        "sub": subject,
    }

    def encode(part: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

    return f"{encode({'alg': 'RS256'})}.{encode(claims)}.signature"


@dataclass
class Account:
    """The account at an endpoint; sessions are of its root unless a role is named."""

    endpoint: str
    sessions: dict[str, boto3.Session] = field(default_factory=dict)
    clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def environment(self, session: boto3.Session | None = None) -> dict[str, str]:
        """The environment of a process that calls this account."""
        credentials = (session or self.root()).get_credentials()
        names = {name for name in os.environ if name.startswith(("AWS_", "TF_"))}
        return {
            **{name: value for name, value in os.environ.items() if name not in names},
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            **({"AWS_SESSION_TOKEN": credentials.token} if credentials.token else {}),
        }

    def root(self) -> boto3.Session:
        """A session that no policy limits."""
        return self.session({"AccessKeyId": "test", "SecretAccessKey": "test"})

    def client(self, service: str, session: boto3.Session | None = None) -> Any:
        """A client of one service."""
        session = session or self.root()
        key = service, session.get_credentials().access_key
        if key not in self.clients:
            self.clients[key] = session.client(
                service,
                endpoint_url=self.endpoint,
                config=Config(retries={"max_attempts": 1}),
            )
        return self.clients[key]

    def as_role(self, name: str) -> boto3.Session:
        """A session of a role, assumed as its trust policy asks."""
        if name not in self.sessions:
            if name == "lastro-ci-plan":
                session = self.as_job(name, f"repo:{REPOSITORY}:pull_request")
            elif name == "lastro-ci-apply":
                session = self.as_job(name, f"repo:{REPOSITORY}:environment:dev")
            elif name.endswith("-data-scientist"):
                session = self.assume(name, self.assume(ANALYST))
            else:
                session = self.assume(name)
            self.sessions[name] = session
        return self.sessions[name]

    def assume(self, name: str, session: boto3.Session | None = None) -> boto3.Session:
        """AssumeRole."""
        answer = self.client("sts", session).assume_role(
            RoleArn=role_arn(name), RoleSessionName="test"
        )
        return self.session(answer["Credentials"])

    def as_job(self, name: str, subject: str, audience: str = "sts.amazonaws.com") -> boto3.Session:
        """AssumeRoleWithWebIdentity, with the token of a job of GitHub's."""
        sts = boto3.client(
            "sts",
            region_name=REGION,
            endpoint_url=self.endpoint,
            config=Config(signature_version=UNSIGNED),
        )
        answer = sts.assume_role_with_web_identity(
            RoleArn=role_arn(name),
            RoleSessionName="test",
            WebIdentityToken=token(subject, audience),
        )
        return self.session(answer["Credentials"])

    def policies(self, role: str) -> dict[str, Any]:
        """The policies of a role in IAM: who may assume it, what it may do, and its boundary."""
        iam = self.client("iam")
        found = iam.get_role(RoleName=role)["Role"]
        policies = {
            name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        }
        for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            policies[attached["PolicyName"]] = self.policy(attached["PolicyArn"])
        boundary = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        return {
            "trust": found["AssumeRolePolicyDocument"],
            "policies": dict(sorted(policies.items())),
            "boundary": boundary,
        }

    def policy(self, policy_arn: str) -> dict[str, Any]:
        """The document of a managed policy."""
        iam = self.client("iam")
        version = iam.get_policy(PolicyArn=policy_arn)["Policy"]["DefaultVersionId"]
        answer = iam.get_policy_version(PolicyArn=policy_arn, VersionId=version)
        return answer["PolicyVersion"]["Document"]

    def terraform(
        self, environment: str, *arguments: str, session: boto3.Session | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Terraform of one environment, with its state in the account's bucket."""
        terraform = Terraform(CHECKOUT, "terraform", STATE / environment)
        return subprocess.run(
            terraform.argv(*arguments),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            env=self.environment(session) | terraform.variables,
        )

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """make, with the credentials of this account's root."""
        targets = " ".join(f"-target={target}" for target in BOOTSTRAP_TARGETS)
        # The whole would take a minute, since the provider waits that long for a lifecycle rule.
        limits = {"TF_CLI_ARGS_apply": targets, "TF_CLI_ARGS": "-no-color"}
        return subprocess.run(
            ["make", *arguments],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=self.environment() | limits | environment,
        )

    def session(self, credentials: dict[str, str]) -> boto3.Session:
        """A session with an access key."""
        return boto3.Session(
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials.get("SessionToken"),
            region_name=REGION,
        )


def settings(environment: str) -> list[str]:
    """The settings of an environment, as options of Terraform."""
    variables = {
        "environment": environment,
        "vpc_cidr": "10.44.0.0/16",
        "permissions_boundary": "lastro-boundary",
        "data_scientists": [
            arn("iam", f"user/{USER}", region=""),
            role_arn(ANALYST),
        ],
        "secret_recovery_window_days": 0,
        **LAYOUTS[environment],
    }
    file = STATE / f"{environment}.tfvars.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(variables))
    targets = [f"-target={target}" for target in PLATFORM_TARGETS]
    return ["-no-color", "-input=false", f"-var-file={file}", *targets]


@contextmanager
def running(folder: Path) -> Iterator[Account]:
    """An empty account for as long as the context lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "ministack.log").open("w") as log:
        process = subprocess.Popen(
            [Path(MINISTACK).with_name("ministack")],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ
            | {
                "AUTH": "true",
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "MINISTACK_ACCOUNT_ID": ACCOUNT,
                "MINISTACK_REGION": REGION,
                "PERSIST_STATE": "0",
            },
        )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"MiniStack does not answer; its log is {folder}/ministack.log")
        yield Account(endpoint)
    finally:
        process.terminate()
        process.wait(timeout=20)
