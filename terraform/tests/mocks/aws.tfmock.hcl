# What the plan must know of AWS. Everything else a mocked provider makes up, or leaves unknown as AWS would.

mock_data "aws_caller_identity" {
  defaults = {
    account_id = "111122223333"
  }
}

mock_data "aws_partition" {
  defaults = {
    partition = "aws"
  }
}

mock_data "aws_availability_zones" {
  defaults = {
    names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
  }
}

mock_data "aws_ami" {
  defaults = {
    id = "ami-0123456789abcdef0"
  }
}

# Every type that the tests name, in both zones.
mock_data "aws_ec2_instance_type_offerings" {
  defaults = {
    instance_types = [
      "t3.micro", "t3.small", "t3.medium", "t3.large", "t4g.micro", "t4g.small", "m6i.large",
      "t3.micro", "t3.small", "t3.medium", "t3.large", "t4g.micro", "t4g.small", "m6i.large",
    ]
    locations = [
      "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a",
      "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b",
    ]
  }
}

# t3.small
mock_data "aws_ec2_instance_type" {
  defaults = {
    memory_size                     = 2048
    default_vcpus                   = 2
    supported_architectures         = ["x86_64"]
    burstable_performance_supported = true
  }
}

mock_data "aws_route53_zone" {
  defaults = {
    zone_id = "Z0123456789ABCDEFGHIJ"
  }
}

mock_data "aws_iam_policy_document" {
  defaults = {
    json = "{}"
  }
}

# Known group ids, so that the rules between groups can be read in the plan.

override_resource {
  target          = aws_security_group.component["mlflow"]
  override_during = plan
  values          = { id = "sg-mlflow" }
}

override_resource {
  target          = aws_security_group.component["airflow"]
  override_during = plan
  values          = { id = "sg-airflow" }
}

override_resource {
  target          = aws_security_group.component["airflow_worker"]
  override_during = plan
  values          = { id = "sg-airflow_worker" }
}

override_resource {
  target          = aws_security_group.component["model_api"]
  override_during = plan
  values          = { id = "sg-model_api" }
}

override_resource {
  target          = aws_security_group.component["dashboard"]
  override_during = plan
  values          = { id = "sg-dashboard" }
}

override_resource {
  target          = aws_security_group.component["edge"]
  override_during = plan
  values          = { id = "sg-edge" }
}

override_resource {
  target          = aws_security_group.component["database"]
  override_during = plan
  values          = { id = "sg-database" }
}

# Known ids of subnets and route tables, so that it can be read in the plan what stands where and leads whither.

override_resource {
  target          = aws_subnet.public
  override_during = plan
  values          = { id = "subnet-public" }
}

override_resource {
  target          = aws_subnet.private_hosts
  override_during = plan
  values          = { id = "subnet-private-hosts" }
}

override_resource {
  target          = aws_subnet.database
  override_during = plan
  values          = { id = "subnet-database" }
}

override_resource {
  target          = aws_route_table.public
  override_during = plan
  values          = { id = "rtb-public" }
}

override_resource {
  target          = aws_route_table.private_hosts
  override_during = plan
  values          = { id = "rtb-private-hosts" }
}

override_resource {
  target          = aws_route_table.database
  override_during = plan
  values          = { id = "rtb-database" }
}

override_resource {
  target          = aws_sns_topic.alerts
  override_during = plan
  values          = { arn = "arn:aws:sns:eu-west-1:111122223333:lastro-test-alerts" }
}

override_resource {
  target          = aws_eip.edge
  override_during = plan
  values          = { public_ip = "198.51.100.7" }
}
