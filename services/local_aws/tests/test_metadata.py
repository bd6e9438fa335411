"""Instances fetch credentials of their role, and the emulator accepts them."""

import json
import os
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
import requests
from conftest import REGION, Emulator

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
ROLES = "meta-data/iam/security-credentials"


@pytest.fixture(scope="module")
def instance(emulator: Emulator) -> dict[str, Any]:
    """A running instance with the address that the tests call from."""
    ec2, iam = emulator.client("ec2"), emulator.client("iam")
    vpc = ec2.create_vpc(CidrBlock="127.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="127.0.0.0/24", AvailabilityZone=f"{REGION}b")[
        "Subnet"
    ]["SubnetId"]
    iam.create_role(RoleName="host-role", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="host-profile")
    iam.add_role_to_instance_profile(InstanceProfileName="host-profile", RoleName="host-role")
    return launch(ec2, subnet)


def launch(ec2: Any, subnet: str, address: str = "127.0.0.1") -> dict[str, Any]:
    return ec2.run_instances(
        ImageId="ami-0d13b1a0000000001",
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        SubnetId=subnet,
        PrivateIpAddress=address,
        IamInstanceProfile={"Name": "host-profile"},
    )["Instances"][0]


def token(emulator: Emulator, **headers: str) -> requests.Response:
    url = f"{emulator.url}/latest/api/token"
    return requests.put(url, headers={TTL: "60"} | headers, timeout=10)


def get(emulator: Emulator, path: str) -> requests.Response:
    headers = {TOKEN: token(emulator).text}
    return requests.get(f"{emulator.url}/latest/{path}", headers=headers, timeout=10)


def test_an_instance_reads_its_metadata(emulator: Emulator, instance: dict[str, Any]) -> None:
    for path, expected in {
        "meta-data/instance-id": instance["InstanceId"],
        "meta-data/local-ipv4": "127.0.0.1",
        "meta-data/placement/region": REGION,
        "meta-data/placement/availability-zone": f"{REGION}b",
        f"{ROLES}/": "host-role",
        ROLES: "host-role",
    }.items():
        answer = get(emulator, path)
        assert (answer.status_code, answer.text) == (200, expected), path
    document = get(emulator, "dynamic/instance-identity/document").json()
    assert document["instanceId"] == instance["InstanceId"]
    assert document["region"] == REGION
    assert get(emulator, f"{ROLES}/other-role").status_code == 404
    assert get(emulator, "meta-data/public-keys").status_code == 404


def test_only_version_two_of_the_metadata_service_answers(
    emulator: Emulator, instance: dict[str, Any]
) -> None:
    url = f"{emulator.url}/latest/meta-data/instance-id"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={TOKEN: "forged"}, timeout=10).status_code == 401
    assert token(emulator, **{TTL: "0"}).status_code == 400
    assert token(emulator, **{TTL: "90000"}).status_code == 400
    assert token(emulator, **{"X-Forwarded-For": "10.0.0.1"}).status_code == 403
    assert requests.get(f"{emulator.url}/latest/api/token", timeout=10).status_code == 405


def test_strangers_learn_nothing(emulator: Emulator, instance: dict[str, Any]) -> None:
    with requests.Session() as stranger:
        adapter = requests.adapters.HTTPAdapter()
        adapter.init_poolmanager(1, 1, source_address=("127.0.0.2", 0))
        stranger.mount("http://", adapter)
        url = f"{emulator.url}/latest/api/token"
        assert stranger.put(url, headers={TTL: "60"}, timeout=10).status_code == 404
        # Nor with another instance's token.
        ec2 = emulator.client("ec2")
        other = launch(ec2, instance["SubnetId"], "127.0.0.2")
        stolen = {TOKEN: token(emulator).text}
        url = f"{emulator.url}/latest/meta-data/instance-id"
        assert stranger.get(url, headers=stolen, timeout=10).status_code == 401
        ec2.terminate_instances(InstanceIds=[other["InstanceId"]])


def test_boto3_uses_the_role_of_its_instance(emulator: Emulator, instance: dict[str, Any]) -> None:
    """As on a host: only the addresses of AWS and its metadata service are set."""
    program = (
        "import boto3, json; s3 = boto3.client('s3');"
        f"s3.create_bucket(Bucket='by-role', CreateBucketConfiguration="
        f"{{'LocationConstraint': '{REGION}'}});"
        "s3.put_object(Bucket='by-role', Key='k', Body=b'v');"
        "print(json.dumps([boto3.client('sts').get_caller_identity()['Arn'],"
        " boto3.Session().get_credentials().method]))"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": emulator.url,
        "AWS_DEFAULT_REGION": REGION,
    }
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    arn = f"arn:aws:sts::123456789012:assumed-role/host-role/{instance['InstanceId']}"
    assert json.loads(answer.stdout) == [arn, "iam-role"]


def test_credentials_cost_no_state_and_survive(own_emulator: Emulator) -> None:
    ec2, iam = own_emulator.client("ec2"), own_emulator.client("iam")
    vpc = ec2.create_vpc(CidrBlock="127.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="127.0.0.0/24")["Subnet"]["SubnetId"]
    iam.create_role(RoleName="host-role", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="host-profile")
    iam.add_role_to_instance_profile(InstanceProfileName="host-profile", RoleName="host-role")
    launch(ec2, subnet)

    def rows() -> list[tuple[Any, ...]]:
        with sqlite3.connect(own_emulator.state / "state.sqlite3") as state:
            return state.execute("SELECT * FROM state ORDER BY kind, name").fetchall()

    before = rows()
    fetched = [get(own_emulator, f"{ROLES}/host-role").json() for _ in range(3)]
    assert rows() == before
    own_emulator.kill()
    own_emulator.start()
    own_emulator.client(
        "s3",
        aws_access_key_id=fetched[0]["AccessKeyId"],
        aws_secret_access_key=fetched[0]["SecretAccessKey"],
        aws_session_token=fetched[0]["Token"],
    ).list_buckets()
    assert get(own_emulator, f"{ROLES}/host-role").status_code == 200
