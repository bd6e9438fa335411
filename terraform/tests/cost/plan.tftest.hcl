# Not a test: the plan that lastro-ops cost prices where there is no AWS account. In a folder of its own, since `terraform
# test` runs all that is in tests/.

mock_provider "aws" {
  source = "./tests/mocks"
}

# Real and never called, as in the tests.
provider "aws" {
  alias                       = "ephemeral"
  region                      = "eu-west-1"
  access_key                  = "unused"
  secret_key                  = "unused"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

# Every type that prices.yml has, in both zones; a class of RDS is a type of EC2 with a prefix.
override_data {
  target = data.aws_ec2_instance_type_offerings.main
  values = {
    instance_types = [
      "t3.micro", "t3.small", "t3.medium", "t3.large", "t3.xlarge", "t4g.micro", "t4g.small", "t4g.medium", "t4g.large",
      "t3.micro", "t3.small", "t3.medium", "t3.large", "t3.xlarge", "t4g.micro", "t4g.small", "t4g.medium", "t4g.large",
    ]
    locations = [
      "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a",
      "eu-west-1a", "eu-west-1a", "eu-west-1a", "eu-west-1a",
      "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b",
      "eu-west-1b", "eu-west-1b", "eu-west-1b", "eu-west-1b",
    ]
  }
}

run "plan" {
  command = plan
}
