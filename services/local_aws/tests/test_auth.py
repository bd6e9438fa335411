"""Only signed requests of known keys are served."""

import base64
import datetime
import hashlib
import os
import subprocess
import sys
from typing import Any

import pytest
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import REGION, ROOT_KEY, ROOT_SECRET, Emulator

OPERATIONS = [
    ("s3", "list_buckets", "InvalidAccessKeyId"),
    ("ec2", "describe_vpcs", "AuthFailure"),
    ("iam", "list_users", "InvalidClientTokenId"),
    ("secretsmanager", "list_secrets", "InvalidClientTokenId"),
]


@pytest.fixture(scope="module")
def bucket(emulator: Emulator) -> str:
    emulator.client("s3").create_bucket(
        Bucket="auth", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return "auth"


def code_of(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    assert 400 <= refused.value.response["ResponseMetadata"]["HTTPStatusCode"] < 404
    return refused.value.response["Error"]["Code"]


@pytest.mark.parametrize(("service", "operation", "code"), OPERATIONS)
def test_an_unknown_key_is_refused(
    emulator: Emulator, service: str, operation: str, code: str
) -> None:
    client = emulator.client(service, aws_access_key_id="AKIAUNKNOWNUNKNOWN00")
    assert code_of(getattr(client, operation)) == code


@pytest.mark.parametrize(("service", "operation", "code"), OPERATIONS)
def test_a_wrong_secret_is_refused(
    emulator: Emulator, service: str, operation: str, code: str
) -> None:
    client = emulator.client(service, aws_secret_access_key="wrong")
    assert code_of(getattr(client, operation)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/auth"),
        ("PUT", "/auth/key"),
        ("POST", "/"),
        ("POST", "/moto-api/reset"),
        ("GET", "/moto-api/"),
        ("GET", "/ec2_eu-west-1/"),
    ],
)
def test_an_unsigned_request_is_refused(
    emulator: Emulator, bucket: str, method: str, path: str
) -> None:
    data = "Action=DescribeVpcs&Version=2016-11-15" if method == "POST" else None
    answer = requests.request(method, emulator.url + path, data=data, timeout=10)
    assert answer.status_code == 403
    assert "MissingAuthenticationToken" in answer.text


def test_health_needs_no_key(emulator: Emulator) -> None:
    assert requests.get(f"{emulator.url}/health", timeout=10).json() == {"status": "ok"}


def signed(emulator: Emulator, method: str, path: str, service: str, region: str) -> Any:
    url = emulator.url + path
    request = AWSRequest(method=method, url=url, data=b"")
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    auth(Credentials(ROOT_KEY, ROOT_SECRET), service, region).add_auth(request)
    return requests.request(method, url, headers=dict(request.headers), timeout=10)


def test_motos_own_api_is_unreachable_even_for_root(emulator: Emulator, bucket: str) -> None:
    for service, region in (("s3", REGION), ("motoapi", REGION)):
        assert signed(emulator, "POST", "/moto-api/reset", service, region).status_code == 404
    assert signed(emulator, "POST", "/", "motoapi.amazonaws.com", REGION).status_code == 403
    emulator.client("s3").head_bucket(Bucket=bucket)


def test_the_account_cannot_be_chosen(emulator: Emulator) -> None:
    sts = emulator.client("sts")
    sts.meta.events.register(
        "before-call.sts",
        lambda params, **_: params["headers"].update({"x-moto-account-id": "999999999999"}),
    )
    assert sts.get_caller_identity()["Account"] == "123456789012"


def test_user_keys_work_until_they_are_inactive(emulator: Emulator) -> None:
    iam = emulator.client("iam")
    iam.create_user(UserName="caller")
    key = iam.create_access_key(UserName="caller")["AccessKey"]
    keys = {
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
    }
    s3 = emulator.client("s3", **keys)
    s3.list_buckets()
    iam.update_access_key(UserName="caller", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert code_of(s3.list_buckets) == "InvalidAccessKeyId"
    iam.delete_access_key(UserName="caller", AccessKeyId=key["AccessKeyId"])
    assert code_of(s3.list_buckets) == "InvalidAccessKeyId"


def test_a_session_needs_its_own_token(emulator: Emulator) -> None:
    sts = emulator.client("sts")
    role = "arn:aws:iam::123456789012:role/any"
    one, other = (
        sts.assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
        for name in ("one", "other")
    )
    keys = {
        "aws_access_key_id": one["AccessKeyId"],
        "aws_secret_access_key": one["SecretAccessKey"],
    }
    assert emulator.client("s3", **keys, aws_session_token=one["SessionToken"]).list_buckets()
    for token in (other["SessionToken"], one["SessionToken"] + "x", None):
        client = emulator.client("s3", **keys, aws_session_token=token)
        assert code_of(client.list_buckets) == "InvalidAccessKeyId"


def test_sessions_end(emulator: Emulator) -> None:
    sts = emulator.client("sts")
    # AWS allows no less than 15 minutes; boto3 checks that, and moto does not.
    sts.meta.events.register(
        "before-call.sts.AssumeRole",
        lambda params, **_: params["body"].update({"DurationSeconds": -1}),
    )
    role = "arn:aws:iam::123456789012:role/any"
    ended = sts.assume_role(RoleArn=role, RoleSessionName="ended")["Credentials"]
    client = emulator.client(
        "s3",
        aws_access_key_id=ended["AccessKeyId"],
        aws_secret_access_key=ended["SecretAccessKey"],
        aws_session_token=ended["SessionToken"],
    )
    assert code_of(client.list_buckets) == "ExpiredToken"


PRESIGNED = Config(signature_version="s3v4")


def test_presigned_urls(emulator: Emulator, bucket: str) -> None:
    s3 = emulator.client("s3", config=PRESIGNED)
    name = {"Bucket": bucket, "Key": "pre signed/ü"}
    put = s3.generate_presigned_url("put_object", Params=name, ExpiresIn=60)
    assert requests.put(put, data=b"body", timeout=10).status_code == 200
    get = s3.generate_presigned_url("get_object", Params=name, ExpiresIn=60)
    assert requests.get(get, timeout=10).content == b"body"
    assert requests.get(get.replace("pre", "prf"), timeout=10).status_code == 403
    assert requests.put(get, data=b"other", timeout=10).status_code == 403
    expired = s3.generate_presigned_url("get_object", Params=name, ExpiresIn=0)
    answer = requests.get(expired, timeout=10)
    assert (answer.status_code, "expired" in answer.text) == (403, True)
    unsigned = emulator.client("s3", config=Config(signature_version="s3"))
    old = unsigned.generate_presigned_url("get_object", Params=name)
    assert "s3v4" in requests.get(old, timeout=10).text


def test_an_old_request_is_refused(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: hour_ago)
    assert code_of(emulator.client("s3").list_buckets) == "RequestTimeTooSkewed"


def test_a_changed_body_is_refused(emulator: Emulator, bucket: str) -> None:
    """The signature covers the body's hash, the body has to match the hash."""
    for service, method, path in (("s3", "PUT", f"/{bucket}/changed"), ("ec2", "POST", "/")):
        url = emulator.url + path
        headers = {"X-Amz-Content-SHA256": hashlib.sha256(b"signed").hexdigest()}
        request = AWSRequest(method=method, url=url, data=b"signed", headers=headers)
        auth = S3SigV4Auth if service == "s3" else SigV4Auth
        auth(Credentials(ROOT_KEY, ROOT_SECRET), service, REGION).add_auth(request)
        answer = requests.request(
            method, url, data=b"forged", headers=dict(request.headers), timeout=10
        )
        assert (answer.status_code, "XAmzContentSHA256Mismatch" in answer.text) == (400, True)
    assert code_of_missing(emulator, bucket, "changed") == 404


def code_of_missing(emulator: Emulator, bucket: str, key: str) -> int:
    with pytest.raises(ClientError) as missing:
        emulator.client("s3").head_object(Bucket=bucket, Key=key)
    return missing.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256", "CRC64NVME"])
def test_checksums_of_every_kind_round_trip(
    emulator: Emulator, bucket: str, algorithm: str
) -> None:
    if algorithm == "CRC64NVME":
        # Python has no such checksum, so boto3 needs the value.
        options = {"ChecksumCRC64NVME": base64.b64encode(bytes(8)).decode()}
    else:
        options = {"ChecksumAlgorithm": algorithm}
    s3 = emulator.client("s3")
    s3.put_object(Bucket=bucket, Key=algorithm, Body=b"body", **options)
    found = s3.get_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
    assert found["Body"].read() == b"body"
    assert algorithm == "CRC64NVME" or f"Checksum{algorithm}" in found


def test_wrong_checksums_are_refused(emulator: Emulator, bucket: str) -> None:
    s3 = emulator.client("s3")
    wrong = base64.b64encode(bytes(16)).decode()
    target = {"Bucket": bucket, "Key": "wrong"}
    assert code_of(s3.put_object, **target, Body=b"body", ContentMD5=wrong) == "BadDigest"
    wrong = base64.b64encode(bytes(32)).decode()
    assert code_of(s3.put_object, **target, Body=b"body", ChecksumSHA256=wrong) == "BadDigest"
    assert code_of_missing(emulator, bucket, "wrong") == 404


def chunked(trailer: str) -> bytes:
    return b"4;chunk-signature=00\r\nbody\r\n0;chunk-signature=00\r\n" + trailer.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("content_hash", "body", "status"),
    [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", chunked(""), 200),
        (
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            b"2\r\nbo\r\n2\r\ndy\r\n0\r\nx-amz-checksum-crc32:26gLsg==\r\n\r\n",
            200,
        ),
        (
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            b"2\r\nbo\r\n2\r\ndy\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
            400,
        ),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"4\r\nbo", 400),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"nonsense\r\n", 400),
        ("UNSIGNED-PAYLOAD", b"body", 200),
    ],
)
def test_streamed_uploads(
    emulator: Emulator, bucket: str, content_hash: str, body: bytes, status: int
) -> None:
    url = f"{emulator.url}/{bucket}/streamed"
    headers = {"X-Amz-Content-SHA256": content_hash, "X-Amz-Decoded-Content-Length": "4"}
    if "TRAILER" in content_hash:
        headers |= {"X-Amz-Trailer": "x-amz-checksum-crc32", "Content-Encoding": "aws-chunked"}
    request = AWSRequest(method="PUT", url=url, data=body, headers=headers)
    # As botocore signs a body it does not hash.
    auth = SigV4Auth(Credentials(ROOT_KEY, ROOT_SECRET), "s3", REGION)
    auth.add_auth(request)
    answer = requests.put(url, data=body, headers=dict(request.headers), timeout=10)
    assert answer.status_code == status, answer.text
    if status == 200:
        found = emulator.client("s3").get_object(Bucket=bucket, Key="streamed")
        assert found["Body"].read() == b"body"
        assert "ContentEncoding" not in found


def test_it_does_not_start_without_a_root_key(tmp_path: Any) -> None:
    command = [sys.executable, "-m", "local_aws", "--state", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCAL_AWS")}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert "set LOCAL_AWS_ACCESS_KEY_ID and LOCAL_AWS_SECRET_ACCESS_KEY" in refused.stderr
