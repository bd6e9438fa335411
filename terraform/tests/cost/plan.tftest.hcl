# Not a test: the plan that scripts/cost prices where there is no AWS account. In a folder of its own, since `terraform
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

run "plan" {
  command = plan
}
