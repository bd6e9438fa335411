"""What the scripts that talk to AWS share: the contract, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PROJECT = Path(__file__).resolve().parents[1]
AWS_ERRORS = (BotoCoreError, ClientError)
# By default botocore tries to connect five times, for a minute each: too long to learn that the
# network is down.
PATIENCE = Config(
    connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5}
)
_MISSING = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_REFUSED = {
    "AuthFailure",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


def client(service: str, region: str) -> Any:
    """A client of an AWS service."""
    return boto3.client(service, region_name=region, config=PATIENCE)


def code(error: Exception) -> str:
    """The name of an error: AWS's own where it answered, boto3's where it did not come so far."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"]
    return type(error).__name__


def explain(error: Exception) -> str:
    """What went wrong with AWS, and what to do about it."""
    name = code(error)
    if name.startswith(("ExpiredToken", "RequestExpired")):
        return "the AWS credentials have expired. Log in again (`aws sso login`), then run again"
    if name in _MISSING:
        return (
            f"there are no AWS credentials here ({error}). Log in (`aws sso login`) and name the"
            " profile in AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if name in _REFUSED:
        return (
            f"AWS refuses the credentials ({name}). Check AWS_PROFILE, or log in again"
            " (`aws sso login`)"
        )
    if name in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"):
        return f"{error}. Use an administrator's credentials, or those of the role lastro-ci-apply"
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError"):
        return f"{error}. Check the network, the proxy and the region"
    return str(error)


def contract(environment: str) -> dict[str, Any]:
    """Terraform's output `platform` of an environment.

    Raises:
        SystemExit: there is none; it says what to do.
    """
    file = PROJECT / f"inventory/{environment}/group_vars/all/platform.json"
    try:
        return json.loads(file.read_text())["platform"]
    except FileNotFoundError:
        give_up(f"{file} is missing: `make inventory ENV={environment}` writes it")


def state_bucket(region: str) -> tuple[str, str, str | None]:
    """The account of these credentials, its bucket of Terraform's states, and where that lies.

    The region is None when there is no such bucket yet; ``region`` is where AWS is asked.
    """
    account = client("sts", region).get_caller_identity()["Account"]
    bucket = f"lastro-terraform-state-{account}"
    try:
        found = client("s3", region).head_bucket(Bucket=bucket)
    except ClientError as error:
        if code(error) != "404":
            raise
        return account, bucket, None
    return account, bucket, found.get("BucketRegion", region)


def give_up(message: str) -> NoReturn:
    """End with a message and the status 1."""
    raise SystemExit(f"{message}.")
