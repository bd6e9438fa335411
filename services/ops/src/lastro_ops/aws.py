"""Clients of AWS that give up in time, and errors of AWS that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lastro_ops.errors import OpsError

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


def client(service: str, region: str) -> BaseClient:
    """A client of an AWS service."""
    return boto3.client(service, region_name=region, config=PATIENCE)


def code(error: Exception) -> str:
    """The name of an error: the code that AWS returned, or the class of an error of boto3."""
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__


def explain(error: Exception) -> str:
    """The problem with AWS, and what to do about it."""
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


@contextmanager
def explained(subject: str = "") -> Iterator[None]:
    """Turn an error of AWS into an OpsError that says what to do.

    Args:
        subject: what the message begins with, such as the name of the environment.
    """
    try:
        yield
    except AWS_ERRORS as error:
        prefix = f"{subject}: " if subject else ""
        raise OpsError(f"{prefix}{explain(error)}.") from error


def account_of(region: str) -> str:
    """The number of the account that the credentials belong to."""
    return str(client("sts", region).get_caller_identity()["Account"])


def state_bucket(region: str) -> tuple[str, str, str | None]:
    """The account of these credentials, its bucket of Terraform's states, and the bucket's region.

    The bucket's region is None when there is no such bucket yet. ``region`` is where AWS is called.
    """
    account = account_of(region)
    bucket = f"lastro-terraform-state-{account}"
    try:
        found = client("s3", region).head_bucket(Bucket=bucket)
    except ClientError as error:
        if code(error) != "404":
            raise
        return account, bucket, None
    return account, bucket, str(found.get("BucketRegion", region))
