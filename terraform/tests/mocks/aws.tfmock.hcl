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

# t3.small
mock_data "aws_ec2_instance_type" {
  defaults = {
    memory_size             = 2048
    default_vcpus           = 2
    supported_architectures = ["x86_64"]
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
  target          = aws_security_group.component["database"]
  override_during = plan
  values          = { id = "sg-database" }
}
