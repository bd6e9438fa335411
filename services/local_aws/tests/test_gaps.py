"""Every gap is closed in the emulator and open in bare moto (the fixture `aws` runs both)."""

import ipaddress
import json
import subprocess
import sys
import uuid
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
DEBIAN_OWNER = "136693071363"
PARAMETER = "/aws/service/debian/release/13/latest/amd64"


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Network(NamedTuple):
    vpc: str
    subnet: str
    group: str


def network(ec2: Any) -> Network:
    """A VPC with its own subnet and security group."""
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="hosts", Description="hosts", VpcId=vpc)
    return Network(vpc, subnet, group["GroupId"])


def launch(ec2: Any, net: Network, address: str = "10.9.1.10") -> dict[str, Any]:
    """An instance, requested as Terraform requests one."""
    return ec2.run_instances(
        ImageId="ami-0d13b1a0000000001",
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[
            {
                "DeviceIndex": 0,
                "SubnetId": net.subnet,
                "PrivateIpAddress": address,
                "Groups": [net.group],
                "AssociatePublicIpAddress": False,
            }
        ],
    )["Instances"][0]


def described(ec2: Any, instance_id: str) -> dict[str, Any]:
    return ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def test_debian_image(aws: Any) -> None:
    images = aws("ec2").describe_images(
        Owners=[DEBIAN_OWNER],
        Filters=[
            {"Name": "name", "Values": ["debian-13-amd64-*"]},
            {"Name": "architecture", "Values": ["x86_64"]},
            {"Name": "virtualization-type", "Values": ["hvm"]},
            {"Name": "root-device-type", "Values": ["ebs"]},
        ],
    )["Images"]
    assert [image["OwnerId"] for image in images] == [DEBIAN_OWNER]


def test_debian_parameter(aws: Any) -> None:
    parameter = aws("ssm").get_parameter(Name=PARAMETER)["Parameter"]
    images = aws("ec2").describe_images(ImageIds=[parameter["Value"]])["Images"]
    assert images[0]["Name"].startswith("debian-13-amd64-")


def test_instance_shows_the_groups_of_its_interface(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    instance = launch(ec2, net)["InstanceId"]
    assert [g["GroupId"] for g in described(ec2, instance)["SecurityGroups"]] == [net.group]


def test_instance_shows_the_groups_its_interface_changed_to(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    other = ec2.create_security_group(GroupName="other", Description="other", VpcId=net.vpc)
    launched = launch(ec2, net)
    interface = launched["NetworkInterfaces"][0]["NetworkInterfaceId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[other["GroupId"]])
    groups = described(ec2, launched["InstanceId"])["SecurityGroups"]
    assert [g["GroupId"] for g in groups] == [other["GroupId"]]


def test_no_public_address_no_association(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    instance = launch(ec2, net)["InstanceId"]
    assert "Association" not in described(ec2, instance)["NetworkInterfaces"][0]


def test_a_terminated_instances_address_is_free(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    first = launch(ec2, net)
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    second = launch(ec2, net)
    assert second["PrivateIpAddress"] == first["PrivateIpAddress"]


def test_a_terminated_instances_own_interface_can_be_deleted(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    interface = ec2.create_network_interface(SubnetId=net.subnet, Groups=[net.group])[
        "NetworkInterface"
    ]
    interface_id = interface["NetworkInterfaceId"]
    instance = ec2.run_instances(
        ImageId="ami-0d13b1a0000000001",
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": interface_id}],
    )["Instances"][0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[instance])
    found = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface_id])
    assert found["NetworkInterfaces"][0]["Status"] == "available"
    assert "Attachment" not in found["NetworkInterfaces"][0]
    ec2.delete_network_interface(NetworkInterfaceId=interface_id)


def test_detailed_monitoring(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    instance = launch(ec2, net)["InstanceId"]
    ec2.monitor_instances(InstanceIds=[instance])
    assert described(ec2, instance)["Monitoring"]["State"] == "enabled"
    ec2.unmonitor_instances(InstanceIds=[instance])
    assert described(ec2, instance)["Monitoring"]["State"] == "disabled"


def test_a_rule_that_references_a_group_keeps_its_description(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)
    source = {"GroupId": net.group, "Description": "between hosts"}
    ec2.authorize_security_group_ingress(
        GroupId=net.group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "UserIdGroupPairs": [source]}
        ],
    )
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [net.group]}])
    descriptions = [rule.get("Description") for rule in rules["SecurityGroupRules"]]
    assert "between hosts" in descriptions


def test_credit_specifications(aws: Any) -> None:
    ec2 = aws("ec2")
    net = network(ec2)

    def credits_of(instance_id: str) -> str:
        found = ec2.describe_instance_credit_specifications(InstanceIds=[instance_id])
        return found["InstanceCreditSpecifications"][0]["CpuCredits"]

    told = ec2.run_instances(
        ImageId="ami-0d13b1a0000000001",
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        SubnetId=net.subnet,
        CreditSpecification={"CpuCredits": "standard"},
    )["Instances"][0]["InstanceId"]
    assert credits_of(told) == "standard"
    assert credits_of(launch(ec2, net)["InstanceId"]) == "unlimited"
    change = {"InstanceId": told, "CpuCredits": "unlimited"}
    ec2.modify_instance_credit_specification(InstanceCreditSpecifications=[change])
    assert credits_of(told) == "unlimited"


def test_managed_policies_can_be_attached(aws: Any) -> None:
    iam = aws("iam")
    role = unique("role")
    iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    policy = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    iam.attach_role_policy(RoleName=role, PolicyArn=policy)
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert [item["PolicyArn"] for item in attached] == [policy]


def test_a_set_parameter_has_the_user_as_its_source(aws: Any) -> None:
    rds = aws("rds")
    group = unique("parameters")
    rds.create_db_parameter_group(
        DBParameterGroupName=group, DBParameterGroupFamily="postgres17", Description="test"
    )
    parameter = {
        "ParameterName": "rds.force_ssl",
        "ParameterValue": "1",
        "ApplyMethod": "immediate",
    }
    rds.modify_db_parameter_group(DBParameterGroupName=group, Parameters=[parameter])
    found = rds.describe_db_parameters(DBParameterGroupName=group)["Parameters"]
    sources = {item["ParameterName"]: item.get("Source") for item in found}
    assert sources == {"rds.force_ssl": "user"}


def database(rds: Any, **options: Any) -> dict[str, Any]:
    return rds.create_db_instance(
        DBInstanceIdentifier=unique("db"),
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        AllocatedStorage=20,
        MasterUsername="platform",
        ManageMasterUserPassword=True,
        **options,
    )["DBInstance"]


def test_certificate_authority(aws: Any) -> None:
    assert database(aws("rds"))["CACertificateIdentifier"] == "rds-ca-rsa2048-g1"


def test_a_database_is_found_by_its_resource_id(aws: Any) -> None:
    rds = aws("rds")
    made = [database(rds) for _ in range(2)]
    for instance in made:
        one = {"Name": "dbi-resource-id", "Values": [instance["DbiResourceId"]]}
        found = rds.describe_db_instances(Filters=[one])["DBInstances"]
        assert [each["DBInstanceIdentifier"] for each in found] == [
            instance["DBInstanceIdentifier"]
        ]


def test_performance_insights(aws: Any) -> None:
    rds = aws("rds")
    created = database(rds, EnablePerformanceInsights=True, PerformanceInsightsRetentionPeriod=7)
    name = created["DBInstanceIdentifier"]

    def state() -> tuple[bool, int]:
        found = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
        return found["PerformanceInsightsEnabled"], found["PerformanceInsightsRetentionPeriod"]

    assert state() == (True, 7)
    rds.modify_db_instance(DBInstanceIdentifier=name, EnablePerformanceInsights=False)
    assert state() == (False, 7)


def test_the_master_secret_is_the_masters_and_secret(aws: Any) -> None:
    rds, secrets = aws("rds"), aws("secretsmanager")

    def secret(instance: dict[str, Any]) -> dict[str, str]:
        arn = instance["MasterUserSecret"]["SecretArn"]
        return json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])

    first, second = database(rds), database(rds)
    assert secret(first)["username"] == "platform"
    assert len(secret(first)["password"]) >= 24
    assert secret(first)["password"] != secret(second)["password"]


def test_managing_a_managed_password_again_keeps_the_secret(aws: Any) -> None:
    rds = aws("rds")
    created = database(rds)
    modified = rds.modify_db_instance(
        DBInstanceIdentifier=created["DBInstanceIdentifier"], ManageMasterUserPassword=True
    )["DBInstance"]
    arns = {item["MasterUserSecret"]["SecretArn"] for item in (created, modified)}
    assert len(arns) == 1


def bucket(s3: Any) -> str:
    name = unique("bucket")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


TLS_ONLY = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Resource": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def test_a_tls_only_policy_denies_nobody(aws: Any) -> None:
    s3 = aws("s3")
    name = bucket(s3)
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Statement": [TLS_ONLY]}))
    s3.put_object(Bucket=name, Key="key", Body=b"body")
    assert s3.get_object(Bucket=name, Key="key")["Body"].read() == b"body"
    s3.head_object(Bucket=name, Key="key")
    s3.delete_object(Bucket=name, Key="key")


def test_another_deny_still_denies(emulator: Any) -> None:
    s3 = emulator.client("s3")
    name = bucket(s3)
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "*"}
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Statement": [TLS_ONLY, deny]}))
    with pytest.raises(ClientError, match="403"):
        s3.put_object(Bucket=name, Key="key", Body=b"body")


def log_into(s3: Any, name: str, target: str) -> None:
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{target}/*",
    }
    s3.put_bucket_policy(Bucket=target, Policy=json.dumps({"Statement": [TLS_ONLY, allow]}))
    logging = {"LoggingEnabled": {"TargetBucket": target, "TargetPrefix": "logs/"}}
    s3.put_bucket_logging(Bucket=name, BucketLoggingStatus=logging)


def test_logging_into_a_bucket_with_a_tls_only_policy(aws: Any) -> None:
    s3 = aws("s3")
    name, target = bucket(s3), bucket(s3)
    log_into(s3, name, target)
    assert s3.get_bucket_logging(Bucket=name)["LoggingEnabled"]["TargetBucket"] == target


def test_no_invented_access_logs(aws: Any) -> None:
    s3 = aws("s3")
    name = bucket(s3)
    target = bucket(s3)
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{target}/*",
    }
    s3.put_bucket_policy(Bucket=target, Policy=json.dumps({"Statement": [allow]}))
    logging = {"LoggingEnabled": {"TargetBucket": target, "TargetPrefix": "logs/"}}
    s3.put_bucket_logging(Bucket=name, BucketLoggingStatus=logging)
    s3.list_objects_v2(Bucket=name)
    assert s3.list_objects_v2(Bucket=target)["KeyCount"] == 0


def test_a_copy_of_a_multipart_object_can_be_read(aws: Any) -> None:
    s3 = aws("s3")
    name = bucket(s3)
    parts = [b"a" * 5 * 1024 * 1024, b"b"]
    upload = s3.create_multipart_upload(Bucket=name, Key="key", ChecksumAlgorithm="CRC32")
    ids = {"Bucket": name, "Key": "key", "UploadId": upload["UploadId"]}
    done = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**ids, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32")[
                "ETag"
            ],
        }
        for number, part in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(**ids, MultipartUpload={"Parts": done})
    s3.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "key"})
    assert s3.get_object(Bucket=name, Key="copy")["Body"].read() == b"".join(parts)


def make_budget(budgets: Any) -> dict[str, str]:
    """A budget with a tag and a notification, created as Terraform does; returns its names."""
    name = unique("budget")
    budgets.create_budget(
        AccountId=ACCOUNT,
        Budget={
            "BudgetName": name,
            "BudgetType": "COST",
            "TimeUnit": "MONTHLY",
            "BudgetLimit": {"Amount": "100", "Unit": "USD"},
        },
        ResourceTags=[{"Key": "Environment", "Value": "dev"}],
    )
    return {"AccountId": ACCOUNT, "BudgetName": name}


def test_a_lifecycle_rule_shows_how_many_old_versions_it_keeps(aws: Any) -> None:
    s3 = aws("s3")
    name = bucket(s3)
    expiration = {"NoncurrentDays": 365, "NewerNoncurrentVersions": 20}
    rule = {
        "ID": "old",
        "Status": "Enabled",
        "Filter": {},
        "NoncurrentVersionExpiration": expiration,
    }
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    (found,) = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert found["NoncurrentVersionExpiration"] == expiration


def test_a_bucket_whose_versions_are_suspended_can_be_emptied(aws: Any) -> None:
    # As Terraform destroys one: first its versioning, then what is in it.
    s3 = aws("s3")
    name = bucket(s3)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=name, Key="gone", Body=b"x")
    s3.delete_object(Bucket=name, Key="gone")
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    listed = s3.list_object_versions(Bucket=name)
    objects = [
        {"Key": item["Key"], "VersionId": item["VersionId"]}
        for item in [*listed["Versions"], *listed["DeleteMarkers"]]
    ]
    s3.delete_objects(Bucket=name, Delete={"Objects": objects})
    assert "Versions" not in s3.list_object_versions(Bucket=name)
    s3.delete_bucket(Bucket=name)


def test_keys_of_versions_are_escaped_on_request(aws: Any) -> None:
    s3 = aws("s3")
    name = bucket(s3)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=name, Key="run=a%3Ab+c", Body=b"x")
    s3.delete_object(Bucket=name, Key="run=a%3Ab+c")
    listed = s3.list_object_versions(Bucket=name, EncodingType="url")
    assert listed["EncodingType"] == "url"
    entries = [*listed["Versions"], *listed["DeleteMarkers"]]
    assert [item["Key"] for item in entries] == ["run%3Da%253Ab%2Bc"] * 2


def test_a_bucket_without_lifecycle_rules_says_so(emulator: Any) -> None:
    s3 = emulator.client("s3")
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket(s3))


def test_tags_of_a_budget(aws: Any) -> None:
    budgets = aws("budgets")
    arn = f"arn:aws:budgets::{ACCOUNT}:budget/{make_budget(budgets)['BudgetName']}"

    def tags() -> dict[str, str]:
        found = budgets.list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
        return {tag["Key"]: tag["Value"] for tag in found}

    assert tags() == {"Environment": "dev"}
    budgets.tag_resource(ResourceARN=arn, ResourceTags=[{"Key": "Project", "Value": "lastro"}])
    budgets.untag_resource(ResourceARN=arn, ResourceTagKeys=["Environment"])
    assert tags() == {"Project": "lastro"}


def test_changes_of_a_budget(aws: Any) -> None:
    budgets = aws("budgets")
    named = make_budget(budgets)
    before = budgets.describe_budget(**named)["Budget"]
    new = {
        "BudgetName": named["BudgetName"],
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "200", "Unit": "USD"},
    }
    budgets.update_budget(AccountId=ACCOUNT, NewBudget=new)
    after = budgets.describe_budget(**named)["Budget"]
    assert after["BudgetLimit"]["Amount"] == "200"
    assert after["TimePeriod"] == before["TimePeriod"]


def test_subscribers_of_a_budgets_notifications(aws: Any) -> None:
    budgets = aws("budgets")
    named = make_budget(budgets)
    subscribers = {}
    for kind in ("FORECASTED", "ACTUAL"):
        notification = {
            "NotificationType": kind,
            "ComparisonOperator": "GREATER_THAN",
            "Threshold": 100.0,
            "ThresholdType": "PERCENTAGE",
        }
        subscriber = {"SubscriptionType": "EMAIL", "Address": f"{kind.lower()}@example.com"}
        budgets.create_notification(**named, Notification=notification, Subscribers=[subscriber])
        found = budgets.describe_subscribers_for_notification(**named, Notification=notification)
        subscribers[kind] = [each["Address"] for each in found["Subscribers"]]
    assert subscribers == {
        "FORECASTED": ["forecasted@example.com"],
        "ACTUAL": ["actual@example.com"],
    }


SCHEDULE = {
    "Name": "daily",
    "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["01:00"]},
    "RetainRule": {"Count": 7},
}


def test_lifecycle_policies(aws: Any) -> None:
    dlm = aws("dlm")
    name = dlm.create_lifecycle_policy(
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/snapshots",
        Description="daily",
        State="ENABLED",
        PolicyDetails={
            "ResourceTypes": ["INSTANCE"],
            "TargetTags": [{"Key": "Snapshots", "Value": "lastro"}],
            "Schedules": [SCHEDULE],
        },
        Tags={"Environment": "dev"},
    )["PolicyId"]
    made = dlm.get_lifecycle_policy(PolicyId=name)["Policy"]
    assert made["PolicyDetails"]["Schedules"] == [SCHEDULE]
    assert made["PolicyDetails"]["PolicyType"] == "EBS_SNAPSHOT_MANAGEMENT"

    dlm.update_lifecycle_policy(PolicyId=name, State="DISABLED")
    arn = made["PolicyArn"]
    dlm.tag_resource(ResourceArn=arn, Tags={"Project": "lastro"})
    dlm.untag_resource(ResourceArn=arn, TagKeys=["Environment"])
    assert dlm.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"Project": "lastro"}
    (listed,) = [
        each for each in dlm.get_lifecycle_policies()["Policies"] if each["PolicyId"] == name
    ]
    assert (listed["State"], listed["Description"]) == ("DISABLED", "daily")

    dlm.delete_lifecycle_policy(PolicyId=name)
    with pytest.raises(dlm.exceptions.ResourceNotFoundException):
        dlm.get_lifecycle_policy(PolicyId=name)


def test_the_bucket_is_never_in_the_host_name(emulator: Any) -> None:
    s3 = emulator.client("s3", endpoint_url=f"http://localhost.localdomain:{emulator.port}")
    host = f"localhost.localdomain:{emulator.port}"
    s3.meta.events.register(
        "before-sign.s3", lambda request, **_: request.headers.__setitem__("Host", host)
    )
    s3.meta.events.register(
        "before-send.s3",
        lambda request, **_: setattr(
            request, "url", request.url.replace("localhost.localdomain", "127.0.0.1")
        ),
    )
    assert isinstance(s3.list_buckets()["Buckets"], list)


def test_sessions_of_sts_are_accepted(aws: Any) -> None:
    sts = aws("sts")
    role_arn = "arn:aws:iam::123456789012:role/reader"
    granted = (
        sts.assume_role(RoleArn=role_arn, RoleSessionName="tests")["Credentials"],
        sts.get_session_token()["Credentials"],
        sts.get_federation_token(Name="somebody")["Credentials"],
    )
    callers = [
        aws(
            "sts",
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        ).get_caller_identity()["Arn"]
        for credentials in granted
    ]
    assert callers == [
        "arn:aws:sts::123456789012:assumed-role/reader/tests",
        "arn:aws:iam::123456789012:root",
        "arn:aws:sts::123456789012:federated-user/somebody",
    ]


def test_calls_that_moto_lacks_fail_at_once(aws: Any) -> None:
    with pytest.raises(ClientError) as missing_action:
        aws("ec2").create_verified_access_instance()
    assert missing_action.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    with pytest.raises(ClientError) as missing_service:
        aws("auditmanager").list_assessments()
    assert missing_service.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_addresses_stay_within_the_subnet(emulator: Any) -> None:
    ec2 = emulator.client("ec2")
    net = network(ec2)
    instance = ec2.run_instances(
        ImageId="ami-0d13b1a0000000001",
        MinCount=1,
        MaxCount=1,
        SubnetId=net.subnet,
    )["Instances"][0]
    assert ipaddress.ip_address(instance["PrivateIpAddress"]) in ipaddress.ip_network("10.9.1.0/24")


def test_deleted_resources_leave_the_memory() -> None:
    """In a separate process, for the change to moto is permanent: first without, then with it."""
    program = """
import weakref
from local_aws.gaps import core
from moto.sts.models import Token
print(weakref.ref(Token(duration=1))() is not None)
core.forget_what_is_gone()
print(weakref.ref(Token(duration=1))() is not None)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.split() == ["True", "False"], answer.stderr
