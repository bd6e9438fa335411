"""The AWS emulator (services/local_aws) in its own environment, which has boto3 and no pandas."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAROOTROOTROOTROOT",
    "AWS_SECRET_ACCESS_KEY": "root-secret-of-tests",
}
REGION = "eu-west-1"

# Calls from this machine's loopback address come from an instance whose role may do anything.
_INSTANCE = """
import boto3
ec2, iam = boto3.client("ec2"), boto3.client("iam")
vpc = ec2.create_vpc(CidrBlock="127.0.0.0/16")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="127.0.0.0/24")["Subnet"]["SubnetId"]
iam.create_role(RoleName="host", AssumeRolePolicyDocument="{}")
iam.create_instance_profile(InstanceProfileName="host")
iam.add_role_to_instance_profile(InstanceProfileName="host", RoleName="host")
ec2.run_instances(ImageId="ami-0d13b1a0000000001", InstanceType="t3.small", MinCount=1, MaxCount=1,
    SubnetId=subnet, PrivateIpAddress="127.0.0.1", IamInstanceProfile={"Name": "host"})
"""


class Emulator:
    """One emulator; nothing runs before `start`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION}
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._python = os.environ.get("LASTRO_LOCAL_AWS_PYTHON", "")
        if not self._python:
            pytest.fail(
                "LASTRO_LOCAL_AWS_PYTHON is not set: install locks/local_aws.txt and"
                " services/local_aws into an environment of their own and set it to its bin/python"
            )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        names = {name: f"LOCAL_{name}" for name in KEYS}
        self._process = subprocess.Popen(
            [self._python, "-m", "local_aws", f"--port={self._port}", "--state", self._folder],
            env=os.environ | {names[name]: value for name, value in KEYS.items()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)

    def stop(self) -> None:
        """Kill it; its state is on the disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def run(self, script: str) -> None:
        """Run Python with boto3 as the account's root."""
        variables = self.environment | KEYS | {"AWS_DEFAULT_REGION": REGION}
        subprocess.run([self._python, "-c", script], env=os.environ | variables, check=True)

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        where = {"LocationConstraint": REGION}
        self.run(
            f"import boto3; boto3.client('s3').create_bucket(Bucket={name!r},"
            f" CreateBucketConfiguration={where!r})"
        )

    def be_an_instance(self) -> dict[str, str]:
        """Make this machine an instance; return the variables that lead to its credentials."""
        self.run(_INSTANCE)
        return self.environment | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url}
