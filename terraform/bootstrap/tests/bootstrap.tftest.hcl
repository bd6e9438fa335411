mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_resource "aws_iam_openid_connect_provider" {
    override_during = plan
    defaults        = { arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com" }
  }
}

run "the_state_is_safe" {
  command = plan

  assert {
    condition     = output.state_bucket == "lastro-terraform-state-111122223333"
    error_message = "the bucket is ${output.state_bucket}; Ansible makes it, and every environment looks for it, under the name above"
  }

  assert {
    condition = (
      aws_s3_bucket_public_access_block.state.block_public_acls && aws_s3_bucket_public_access_block.state.block_public_policy
      && aws_s3_bucket_public_access_block.state.ignore_public_acls && aws_s3_bucket_public_access_block.state.restrict_public_buckets
    )
    error_message = "the bucket must refuse every kind of public access"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.state.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "states must be encrypted"
  }

  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.state.rule).noncurrent_version_expiration).noncurrent_days == 365
    error_message = "old states must be kept for a year"
  }

  assert {
    condition = (
      one(data.aws_iam_policy_document.tls_only.statement).effect == "Deny"
      && one(one(data.aws_iam_policy_document.tls_only.statement).condition).variable == "aws:SecureTransport"
    )
    error_message = "connections without TLS must be denied"
  }
}

run "without_github_there_is_no_role" {
  command = plan

  assert {
    condition     = length(aws_iam_role.ci) == 0 && length(aws_iam_openid_connect_provider.github) == 0 && length(aws_iam_policy.ci) == 0
    error_message = "nobody may assume anything"
  }

  assert {
    condition     = output.role_arns == {} && output.permissions_boundary == "lastro-boundary"
    error_message = "the boundary must be there without CI, too"
  }
}

run "github_assumes_two_roles" {
  command = plan

  variables {
    github_repository = "acme/platform"
  }

  assert {
    condition     = { for name, role in aws_iam_role.ci : name => role.name } == { plan = "lastro-ci-plan", apply = "lastro-ci-apply" }
    error_message = "the workflows assume the roles by these names"
  }

  assert {
    condition = (
      aws_iam_openid_connect_provider.github[0].url == "https://token.actions.githubusercontent.com"
      && aws_iam_openid_connect_provider.github[0].client_id_list == toset(["sts.amazonaws.com"])
    )
    error_message = "only GitHub's tokens for AWS count"
  }

  # Word by word they are compared with tests/iam/fixtures.
  assert {
    condition = jsonencode({ for name, role in local.ci : name => role.subjects }) == jsonencode({
      plan = ["repo:acme/platform:ref:refs/heads/*", "repo:acme/platform:pull_request"]
      apply = [
        "repo:acme/platform:ref:refs/heads/main",
        "repo:acme/platform:environment:dev",
        "repo:acme/platform:environment:prod",
      ]
    })
    error_message = "subjects: ${jsonencode({ for name, role in local.ci : name => role.subjects })}"
  }

  assert {
    condition = alltrue([
      for document in data.aws_iam_policy_document.github_assumes :
      toset([for condition in one(document.statement).condition : condition.variable])
      == toset(["token.actions.githubusercontent.com:aud", "token.actions.githubusercontent.com:sub"])
    ])
    error_message = "both the audience and the subject of a token must be asked for"
  }
}

run "repository_of_2026" {
  command = plan

  variables {
    github_repository = "acme@123456/platform@456789"
    environments      = ["dev"]
  }

  assert {
    condition     = local.ci.apply.subjects == ["repo:acme@123456/platform@456789:ref:refs/heads/main", "repo:acme@123456/platform@456789:environment:dev"]
    error_message = "subjects: ${jsonencode(local.ci.apply.subjects)}"
  }
}

run "reject_malformed" {
  command = plan

  variables {
    project           = "Lastro"
    region            = "eu-west-1a"
    environments      = ["pre-prod"]
    github_repository = "https://github.com/acme/platform"
    hosted_zone_ids   = ["lastro.example.com"]
  }

  expect_failures = [var.project, var.region, var.environments, var.github_repository, var.hosted_zone_ids]
}

run "reject_wildcards" {
  command = plan

  variables {
    github_repository = "acme/*"
    hosted_zone_ids   = ["*"]
  }

  expect_failures = [var.github_repository, var.hosted_zone_ids]
}

run "reject_half_an_identity" {
  command = plan

  variables {
    github_repository = "acme@123456/platform"
  }

  expect_failures = [var.github_repository]
}

run "reject_no_environment" {
  command = plan

  variables {
    environments = []
  }

  expect_failures = [var.environments]
}

# An environment of this name would make CI's own roles CI's to change.
run "reject_environment_ci" {
  command = plan

  variables {
    environments = ["ci", "dev"]
  }

  expect_failures = [var.environments]
}
