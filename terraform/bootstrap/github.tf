# GitHub's workflows assume two roles with the token that GitHub signs for each job: no key is kept anywhere.

locals {
  # How the tokens of this repository begin.
  subject = "repo:${var.github_repository}"

  ci = var.github_repository == "" ? {} : {
    plan = {
      description = "Plans of any branch and of pull requests"
      # Whoever may push a branch may change what a plan runs: this role reads no secret and writes nothing but the lock.
      subjects = ["${local.subject}:ref:refs/heads/*", "${local.subject}:pull_request"]
      policies = {
        refresh = data.aws_iam_policy_document.refresh.json
        state   = data.aws_iam_policy_document.plan_state.json
        denied  = data.aws_iam_policy_document.plan_denied.json
      }
    }
    apply = {
      description = "What main and the protected environments apply, and the configuration of the hosts"
      subjects = concat(
        ["${local.subject}:ref:refs/heads/main"],
        [for name in sort(var.environments) : "${local.subject}:environment:${name}"],
      )
      policies = {
        refresh    = data.aws_iam_policy_document.refresh.json
        state      = data.aws_iam_policy_document.apply_state.json
        compute    = data.aws_iam_policy_document.apply_compute.json
        identity   = data.aws_iam_policy_document.apply_identity.json
        services   = data.aws_iam_policy_document.apply_services.json
        controller = data.aws_iam_policy_document.controller.json
      }
    }
  }

  ci_policies = merge([
    for name, role in local.ci : { for policy, json in role.policies : "${name}-${policy}" => { role = name, json = json } }
  ]...)
}

# AWS verifies GitHub's certificate by the authorities it trusts itself: no thumbprint is needed.
resource "aws_iam_openid_connect_provider" "github" {
  count = length(local.ci) > 0 ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "github_assumes" {
  for_each = local.ci

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = aws_iam_openid_connect_provider.github[*].arn
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "token.actions.githubusercontent.com:sub"
      values   = each.value.subjects
    }
  }
}

resource "aws_iam_role" "ci" {
  for_each = local.ci

  name               = "${var.project}-ci-${each.key}"
  description        = each.value.description
  assume_role_policy = data.aws_iam_policy_document.github_assumes[each.key].json
  # Hosts that are configured for the first time take longer than the hour that is given otherwise.
  max_session_duration = 2 * 60 * 60
}

# A policy for each concern; managed ones, since what is written into a role is limited to 10240 characters in all.
resource "aws_iam_policy" "ci" {
  for_each = local.ci_policies

  name   = "${var.project}-ci-${each.key}"
  policy = each.value.json
}

resource "aws_iam_role_policy_attachment" "ci" {
  for_each = local.ci_policies

  role       = aws_iam_role.ci[each.value.role].name
  policy_arn = aws_iam_policy.ci[each.key].arn
}
