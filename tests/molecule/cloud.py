"""Create the resources of the roles in the AWS API of this machine, and print their settings.

Terraform makes the same for a platform; here seconds count. The connection to AWS comes from the
environment. Prints one JSON object:

- ``region``, ``endpoint_url``
- ``database``: the RDS instance's ``host``, ``port``, master ``user`` and ``password``
- ``buckets``: names of ``artifacts`` and ``dags``
- ``secrets``: a password or key for each login of the tests

Usage: cloud.py NAME=ADDRESS...    one EC2 instance for each, at its private address
"""

import base64
import json
import os
import secrets
import sys

import boto3

NAME = "lastro-molecule"
NETWORK = "10.44.0.0/16"
LOGINS = (
    "airflow_admin",
    "airflow_api",
    "airflow_database",
    "airflow_jwt",
    "airflow_reader",
    "dashboard_cookie",
    "mlflow_admin",
    "mlflow_auth_database",
    "mlflow_database",
    "mlflow_session",
    "mlflow_user",
    "model_api_key",
)


def make_buckets() -> dict[str, str]:
    s3 = boto3.client("s3")
    names = {purpose: f"{NAME}-{purpose}" for purpose in ("artifacts", "dags")}
    for name in names.values():
        s3.create_bucket(
            Bucket=name,
            CreateBucketConfiguration={"LocationConstraint": os.environ["AWS_REGION"]},
        )
    return names


def make_instance_profile() -> str:
    """A role that instances may take; IAM is not enforced here, so it needs no policy."""
    iam = boto3.client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ec2.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=json.dumps(trust))
    iam.create_instance_profile(InstanceProfileName=NAME)
    iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName=NAME)
    return NAME


def make_instances(addresses: dict[str, str], profile: str) -> None:
    """Instances that the metadata service knows by their addresses; Molecule makes the hosts."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.44.0.0/24")["Subnet"]["SubnetId"]
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    for name, address in addresses.items():
        ec2.run_instances(
            ImageId=image,
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            PrivateIpAddress=address,
            IamInstanceProfile={"Name": profile},
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}
            ],
        )


def make_database() -> dict[str, str | int]:
    rds = boto3.client("rds")
    made = rds.create_db_instance(
        DBInstanceIdentifier=NAME,
        Engine="postgres",
        EngineVersion="17",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        MasterUsername="lastro_admin",
        ManageMasterUserPassword=True,
    )["DBInstance"]
    secret = boto3.client("secretsmanager").get_secret_value(
        SecretId=made["MasterUserSecret"]["SecretArn"]
    )
    master = json.loads(secret["SecretString"])
    return {
        "host": made["Endpoint"]["Address"],
        "port": made["Endpoint"]["Port"],
        "user": master["username"],
        "password": master["password"],
    }


def fernet_key() -> str:
    """A key for Fernet: 32 bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def main() -> None:
    addresses = dict(argument.split("=") for argument in sys.argv[1:])
    make_instances(addresses, make_instance_profile())
    cloud = {
        "region": os.environ["AWS_REGION"],
        "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "database": make_database(),
        "buckets": make_buckets(),
        "secrets": {login: secrets.token_urlsafe(32) for login in LOGINS}
        | {name: fernet_key() for name in ("airflow_fernet", "mlflow_webhooks")},
    }
    print(json.dumps(cloud))


if __name__ == "__main__":
    main()
