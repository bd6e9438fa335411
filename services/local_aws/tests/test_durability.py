"""Acknowledged changes survive `kill -9`.

Such a test mostly waits for the emulator's start, so the tests that look at a part of the account
share one emulator.
"""

import hashlib
import itertools
import json
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import REGION, Emulator

from local_aws.store import Store

MIB = 1024 * 1024
PART = 5 * MIB


def make_bucket(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})


def body_files(emulator: Emulator) -> set[str]:
    return {path.name for path in (emulator.state / "bodies").glob("*/*")}


def restart(emulator: Emulator) -> None:
    emulator.kill()
    emulator.start()


def payload(number: int) -> bytes:
    seed = hashlib.sha256(str(number).encode()).digest()
    return seed * (1 + number % 700)


@pytest.mark.parametrize("objects", [60, pytest.param(300, marks=pytest.mark.full)])
def test_a_kill_in_the_middle_loses_nothing_acknowledged(
    restarted_emulator: Emulator, objects: int
) -> None:
    """Eight writers of objects and one of secrets are cut off by SIGKILL."""
    before = body_files(restarted_emulator)
    s3 = restarted_emulator.client("s3")
    bucket = f"busy-{objects}"
    make_bucket(s3, bucket)
    numbers = itertools.count()
    acknowledged: dict[str, bytes] = {}
    secrets: dict[str, str] = {}
    enough = threading.Event()

    def put() -> None:
        client = restarted_emulator.client("s3")
        while True:
            number = next(numbers)
            try:
                client.put_object(Bucket=bucket, Key=f"key/{number}", Body=payload(number))
            except (BotoCoreError, ClientError):
                return
            acknowledged[f"key/{number}"] = payload(number)
            if len(acknowledged) >= objects and len(secrets) > 5:
                enough.set()

    def create_secrets() -> None:
        client = restarted_emulator.client("secretsmanager")
        while True:
            number = next(numbers)
            try:
                client.create_secret(Name=f"secret/{objects}/{number}", SecretString=str(number))
            except (BotoCoreError, ClientError):
                return
            secrets[f"secret/{objects}/{number}"] = str(number)

    with ThreadPoolExecutor(9) as pool:
        writers = [pool.submit(put) for _ in range(8)] + [pool.submit(create_secrets)]
        assert enough.wait(600)
        restarted_emulator.kill()
        for writer in writers:
            writer.result()
    restarted_emulator.start()

    listed = {
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for item in page["Contents"]
    }
    assert acknowledged.keys() <= listed
    for key, body in acknowledged.items():
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    manager = restarted_emulator.client("secretsmanager")
    for name, value in secrets.items():
        assert manager.get_secret_value(SecretId=name)["SecretString"] == value
    left = body_files(restarted_emulator) - before
    assert len(left) == len(listed), "bodies without an object are left"


def test_versions_markers_and_configuration_survive(restarted_emulator: Emulator) -> None:
    s3 = restarted_emulator.client("s3")
    make_bucket(s3, "kept")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket="kept", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    policy = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*"}]})
    s3.put_bucket_policy(Bucket="kept", Policy=policy)
    versions = [
        s3.put_object(Bucket="kept", Key="ü/ +%", Body=body, Metadata={"my_key": "v"})["VersionId"]
        for body in (b"one", b"two", b"three")
    ]
    s3.put_object_tagging(
        Bucket="kept", Key="ü/ +%", Tagging={"TagSet": [{"Key": "t", "Value": "3"}]}
    )
    s3.delete_object(Bucket="kept", Key="ü/ +%", VersionId=versions[1])
    marker = s3.delete_object(Bucket="kept", Key="ü/ +%")["VersionId"]
    s3.put_object(Bucket="kept", Key="gone", Body=b"x")
    gone = s3.list_object_versions(Bucket="kept", Prefix="gone")["Versions"][0]["VersionId"]
    s3.delete_object(Bucket="kept", Key="gone", VersionId=gone)
    make_bucket(s3, "deleted")
    s3.delete_bucket(Bucket="deleted")

    restart(restarted_emulator)

    buckets = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert buckets & {"kept", "deleted"} == {"kept"}
    assert s3.get_bucket_versioning(Bucket="kept")["Status"] == "Enabled"
    assert s3.get_bucket_tagging(Bucket="kept")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert s3.get_bucket_policy(Bucket="kept")["Policy"] == policy
    listed = s3.list_object_versions(Bucket="kept")
    assert [v["VersionId"] for v in listed["Versions"]] == [versions[2], versions[0]]
    assert [m["VersionId"] for m in listed["DeleteMarkers"]] == [marker]
    first = s3.get_object(Bucket="kept", Key="ü/ +%", VersionId=versions[0])
    assert (first["Body"].read(), first["Metadata"]) == (b"one", {"my_key": "v"})
    tags = s3.get_object_tagging(Bucket="kept", Key="ü/ +%", VersionId=versions[2])["TagSet"]
    assert tags == [{"Key": "t", "Value": "3"}]
    s3.delete_object(Bucket="kept", Key="ü/ +%", VersionId=marker)
    assert s3.get_object(Bucket="kept", Key="ü/ +%")["Body"].read() == b"three"


AWKWARD_KEYS = ["a b+c", "ü/é", "100%", "100%41", "a//b", "a/", "../up", "a?b#c", "x" * 1000]


def test_awkward_keys_survive(restarted_emulator: Emulator) -> None:
    s3 = restarted_emulator.client("s3")
    make_bucket(s3, "odd")
    for key in AWKWARD_KEYS:
        s3.put_object(Bucket="odd", Key=key, Body=key.encode())
        s3.put_object_tagging(
            Bucket="odd", Key=key, Tagging={"TagSet": [{"Key": "tagged", "Value": "yes"}]}
        )
        s3.copy_object(Bucket="odd", Key=f"copy/{key}", CopySource={"Bucket": "odd", "Key": key})
    s3.delete_objects(Bucket="odd", Delete={"Objects": [{"Key": "a b+c"}, {"Key": "ü/é"}]})
    restart(restarted_emulator)
    kept = set(AWKWARD_KEYS[2:]) | {f"copy/{key}" for key in AWKWARD_KEYS}
    assert {item["Key"] for item in s3.list_objects_v2(Bucket="odd")["Contents"]} == kept
    for key in kept:
        found = s3.get_object(Bucket="odd", Key=key)
        assert (found["Body"].read(), found["TagCount"]) == (key.removeprefix("copy/").encode(), 1)


def test_an_upload_goes_on_after_a_kill(restarted_emulator: Emulator) -> None:
    s3 = restarted_emulator.client("s3")
    make_bucket(s3, "large")
    before = body_files(restarted_emulator)
    ids = {"Bucket": "large", "Key": "object"}
    ids["UploadId"] = s3.create_multipart_upload(**ids)["UploadId"]
    parts = [bytes([number]) * PART for number in (1, 2)] + [b"end"]

    def send(number: int) -> dict[str, Any]:
        etag = s3.upload_part(**ids, PartNumber=number, Body=parts[number - 1])["ETag"]
        return {"PartNumber": number, "ETag": etag}

    done = [send(1), send(2)]
    restart(restarted_emulator)
    done.append(send(3))
    completed = s3.complete_multipart_upload(**ids, MultipartUpload={"Parts": done})
    assert completed["ETag"].endswith('-3"')
    restart(restarted_emulator)
    assert s3.get_object(Bucket="large", Key="object")["Body"].read() == b"".join(parts)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="large")
    assert len(body_files(restarted_emulator) - before) == 1, "the parts are still there"


def test_bodies_go_when_their_objects_go(restarted_emulator: Emulator) -> None:
    s3 = restarted_emulator.client("s3")
    make_bucket(s3, "brief")
    before = body_files(restarted_emulator)
    for body in (b"one", b"two"):
        s3.put_object(Bucket="brief", Key="key", Body=body)
    s3.copy_object(Bucket="brief", Key="copy", CopySource="brief/key")
    assert len(body_files(restarted_emulator) - before) == 2
    s3.delete_object(Bucket="brief", Key="key")
    assert s3.get_object(Bucket="brief", Key="copy")["Body"].read() == b"two"
    s3.delete_objects(Bucket="brief", Delete={"Objects": [{"Key": "copy"}]})
    assert body_files(restarted_emulator) == before
    upload = s3.create_multipart_upload(Bucket="brief", Key="key")["UploadId"]
    ids = {"Bucket": "brief", "Key": "key", "UploadId": upload}
    s3.upload_part(**ids, PartNumber=1, Body=b"part")
    s3.abort_multipart_upload(**ids)
    assert body_files(restarted_emulator) == before


def test_orphaned_bodies_are_removed_at_start(restarted_emulator: Emulator) -> None:
    s3 = restarted_emulator.client("s3")
    make_bucket(s3, "tidy")
    s3.put_object(Bucket="tidy", Key="key", Body=b"kept")
    orphan = restarted_emulator.state / "bodies" / "00" / ("0" * 32)
    orphan.write_bytes(b"half an upl")
    restart(restarted_emulator)
    assert not orphan.exists()
    assert s3.get_object(Bucket="tidy", Key="key")["Body"].read() == b"kept"


def test_a_reader_is_not_disturbed_by_an_overwrite(restarted_emulator: Emulator) -> None:
    s3 = restarted_emulator.client("s3")
    make_bucket(s3, "shared")
    old = b"a" * 24 * MIB
    s3.put_object(Bucket="shared", Key="key", Body=old)
    reader = s3.get_object(Bucket="shared", Key="key")["Body"]
    assert reader.read(10) == old[:10]
    s3.put_object(Bucket="shared", Key="key", Body=b"new")
    assert reader.read() == old[10:]
    assert s3.get_object(Bucket="shared", Key="key")["Body"].read() == b"new"


def test_the_control_plane_survives(own_emulator: Emulator) -> None:
    ec2, iam = own_emulator.client("ec2"), own_emulator.client("iam")
    rds, secrets = own_emulator.client("rds"), own_emulator.client("secretsmanager")
    kms, ssm = own_emulator.client("kms"), own_emulator.client("ssm")

    default_vpc = ec2.describe_vpcs()["Vpcs"]  # created by looking, with random ids
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.1.0/24")["Subnet"]["SubnetId"]
    instance = ec2.run_instances(
        ImageId="ami-0d13b1a0000000001", MinCount=1, MaxCount=1, SubnetId=subnet
    )["Instances"][0]["InstanceId"]
    policy = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    iam.create_role(RoleName="host", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="host", PolicyArn=policy)
    iam.create_user(UserName="someone")
    key = iam.create_access_key(UserName="someone")["AccessKey"]
    kms_key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=kms_key, Plaintext=b"plain")["CiphertextBlob"]
    ssm.put_parameter(Name="/a/b", Value="c", Type="SecureString")
    created = rds.create_db_instance(
        DBInstanceIdentifier="platform",
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        MasterUsername="master",
        ManageMasterUserPassword=True,
    )["DBInstance"]
    arn = created["MasterUserSecret"]["SecretArn"]
    secret = secrets.get_secret_value(SecretId=arn)["SecretString"]
    instances = ec2.describe_instances(InstanceIds=[instance])["Reservations"]

    restart(own_emulator)

    assert ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"] == [
        vpc for vpc in default_vpc if vpc["IsDefault"]
    ]
    assert ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"] == vpc
    assert ec2.describe_instances(InstanceIds=[instance])["Reservations"] == instances
    attached = iam.list_attached_role_policies(RoleName="host")["AttachedPolicies"]
    assert [item["PolicyArn"] for item in attached] == [policy]
    assert iam.get_policy(PolicyArn=policy)["Policy"]["AttachmentCount"] == 1
    user = own_emulator.client(
        "sts",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    assert user.get_caller_identity()["Arn"].endswith(":user/someone")
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"plain"
    assert ssm.get_parameter(Name="/a/b", WithDecryption=True)["Parameter"]["Value"] == "c"
    found = rds.describe_db_instances()["DBInstances"][0]
    assert found["Endpoint"]["Address"] == created["Endpoint"]["Address"]
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == secret

    # The restored backends still refer to each other: RDS deletes its secret in Secrets Manager.
    rds.delete_db_instance(DBInstanceIdentifier="platform", SkipFinalSnapshot=True)
    assert secrets.list_secrets()["SecretList"] == []
    restart(own_emulator)
    assert rds.describe_db_instances()["DBInstances"] == []
    assert secrets.list_secrets()["SecretList"] == []


def test_after_a_restart_an_instance_gets_an_address_that_is_free(
    restarted_emulator: Emulator,
) -> None:
    ec2 = restarted_emulator.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.1.0/28")["Subnet"]["SubnetId"]

    def launch(count: int) -> list[str]:
        launched = ec2.run_instances(
            ImageId="ami-0d13b1a0000000001", MinCount=count, MaxCount=count, SubnetId=subnet
        )
        return sorted(instance["PrivateIpAddress"] for instance in launched["Instances"])

    # The first three are AWS's own, and so are the first and the last of the block.
    assert launch(2) == ["10.1.1.4", "10.1.1.5"]
    restart(restarted_emulator)
    assert launch(2) == ["10.1.1.6", "10.1.1.7"]
    launch(7)
    with pytest.raises(ClientError, match="InsufficientFreeAddressesInSubnet"):
        launch(1)


def test_the_emulators_own_additions_survive(restarted_emulator: Emulator) -> None:
    dlm, budgets = restarted_emulator.client("dlm"), restarted_emulator.client("budgets")
    policy = dlm.create_lifecycle_policy(
        ExecutionRoleArn="arn:aws:iam::123456789012:role/snapshots",
        Description="daily",
        State="ENABLED",
        PolicyDetails={"ResourceTypes": ["INSTANCE"]},
        Tags={"Environment": "dev"},
    )["PolicyId"]
    made = dlm.get_lifecycle_policy(PolicyId=policy)["Policy"]
    budgets.create_budget(
        AccountId="123456789012",
        Budget={
            "BudgetName": "monthly",
            "BudgetType": "COST",
            "TimeUnit": "MONTHLY",
            "BudgetLimit": {"Amount": "100", "Unit": "USD"},
        },
        ResourceTags=[{"Key": "Environment", "Value": "dev"}],
    )

    restart(restarted_emulator)

    assert dlm.get_lifecycle_policy(PolicyId=policy)["Policy"] == made
    arn = "arn:aws:budgets::123456789012:budget/monthly"
    tags = budgets.list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
    assert tags == [{"Key": "Environment", "Value": "dev"}]

    dlm.delete_lifecycle_policy(PolicyId=policy)
    restart(restarted_emulator)
    assert dlm.get_lifecycle_policies()["Policies"] == []


def test_amazons_policies_are_not_part_of_the_state(restarted_emulator: Emulator) -> None:
    def size() -> int:
        with sqlite3.connect(restarted_emulator.state / "state.sqlite3") as state:
            return state.execute("SELECT sum(length(content)) FROM state").fetchone()[0]

    before = size()
    iam = restarted_emulator.client("iam")
    iam.create_role(RoleName="policed", AssumeRolePolicyDocument="{}")
    arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    iam.attach_role_policy(RoleName="policed", PolicyArn=arn)
    assert 0 < size() - before < 100_000


@pytest.mark.parametrize("objects", [800, pytest.param(5000, marks=pytest.mark.full)])
def test_a_put_costs_the_same_with_many_objects(restarted_emulator: Emulator, objects: int) -> None:
    s3 = restarted_emulator.client("s3")
    few_objects, many_objects = f"few-{objects}", f"many-{objects}"
    for name in (few_objects, many_objects):
        make_bucket(s3, name)

    def fill(worker: int) -> None:
        client = restarted_emulator.client("s3")
        for number in range(worker, objects, 8):
            client.put_object(Bucket=many_objects, Key=f"key/{number:05}", Body=b"body")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(8)))

    # In turns, so that other work of the machine slows both.
    times: dict[str, list[float]] = {few_objects: [], many_objects: []}
    for number in range(60):
        for name in times:
            start = time.perf_counter()
            s3.put_object(Bucket=name, Key=f"probe/{number}", Body=b"body")
            times[name].append(time.perf_counter() - start)
    few, many = (statistics.median(times[name]) for name in times)
    assert many < 3 * few, (
        f"{many * 1000:.1f} ms with {objects} objects, {few * 1000:.1f} ms with few"
    )


def test_memory_does_not_grow_with_the_object(own_emulator: Emulator, tmp_path: Path) -> None:
    s3 = own_emulator.client("s3")
    make_bucket(s3, "huge")
    source = tmp_path / "source"
    with source.open("wb") as file:
        for number in range(192):
            file.write(bytes([number % 251]) * MIB)
    s3.put_object(Bucket="huge", Key="warm", Body=b"up")
    before = peak_memory(own_emulator)
    with source.open("rb") as file:
        s3.put_object(Bucket="huge", Key="object", Body=file)
    s3.copy_object(Bucket="huge", Key="copy", CopySource="huge/object")
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket="huge", Key="copy")["Body"].iter_chunks(MIB):
        digest.update(chunk)
    with source.open("rb") as file:
        assert digest.digest() == hashlib.file_digest(file, "sha256").digest()
    assert peak_memory(own_emulator) - before < 64 * MIB


def peak_memory(emulator: Emulator) -> int:
    """The highest resident set of the emulator's process so far, in bytes."""
    status = Path(f"/proc/{emulator.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_only_one_of_many_conditional_writers_wins(restarted_emulator: Emulator) -> None:
    make_bucket(restarted_emulator.client("s3"), "locks")

    def take(number: int) -> bool:
        client = restarted_emulator.client("s3")
        barrier.wait()
        try:
            client.put_object(Bucket="locks", Key="lock", Body=str(number), IfNoneMatch="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            return False
        return True

    barrier = threading.Barrier(12)
    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(take, range(12))) == 1


def test_sigterm_stops_at_once(restarted_emulator: Emulator) -> None:
    restarted_emulator.client("secretsmanager").create_secret(Name="kept", SecretString="s")
    # An agent's request for work waits for up to 20 s.
    start = time.monotonic()
    assert restarted_emulator.stop() == 0
    assert time.monotonic() - start < 15
    restarted_emulator.start()
    found = restarted_emulator.client("secretsmanager").get_secret_value(SecretId="kept")
    assert found["SecretString"] == "s"


def refused_start(emulator: Emulator) -> str:
    command = [sys.executable, "-m", "local_aws", "--port", "0", "--state", str(emulator.state)]
    refused = subprocess.run(
        command, env=emulator.environment, capture_output=True, text=True, timeout=30
    )
    assert refused.returncode == 1
    return refused.stderr.splitlines()[-1]


def test_a_state_has_one_emulator(restarted_emulator: Emulator) -> None:
    assert "is in use by another emulator" in refused_start(restarted_emulator)
    restarted_emulator.client("s3").list_buckets()


def test_a_state_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path)
    store = Store(emulator.state / "state.sqlite3")
    name = "moto.gone.models:GoneBackend/123456789012/eu-west-1"
    store.submit({("backend", name): b"x"}).result()
    store.close()
    message = refused_start(emulator)
    assert "cannot be read with moto" in message
    assert "moto.gone" in message


def test_rows_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    store.submit({("kind", "name"): b"old"}).result()
    with sqlite3.connect(tmp_path / "state.sqlite3") as connection:
        connection.execute("DROP TABLE state")
    with pytest.raises(sqlite3.OperationalError):
        store.submit({("kind", "name"): b"new"}).result(timeout=10)
    store.close()


def test_unexpected_rows_do_not_end_the_writer(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    with pytest.raises(Exception, match="unhashable"):
        store.submit(Unusable({("kind", "name"): b"x"})).result(timeout=10)
    store.submit({("kind", "name"): b"new"}).result(timeout=10)
    store.close()


class Unusable(dict):
    """Rows that cannot be iterated."""

    def items(self) -> Any:
        raise TypeError("unhashable")
