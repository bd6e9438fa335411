# Permissions of a plan: to read everything that Terraform refreshes and the state, and to lock the state.

data "aws_iam_policy_document" "refresh" {
  #checkov:skip=CKV_AWS_356:Terraform looks for things before it knows their names, and none of these shows what is inside
  statement {
    sid = "Describe"
    actions = [
      "cloudwatch:DescribeAlarms",
      "ec2:Describe*",
      "kms:ListAliases",
      "logs:DescribeLogGroups",
      "rds:Describe*",
      "route53:GetChange",
      "route53:ListHostedZones",
      "route53:ListHostedZonesByName",
      "secretsmanager:GetRandomPassword",
    ]
    resources = ["*"]
  }

  statement {
    sid = "Identity"
    actions = [
      "iam:GetInstanceProfile",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
    ]
    resources = concat(local.roles, local.profiles)
  }

  # Settings of buckets; not one object.
  statement {
    sid = "Buckets"
    actions = [
      "s3:GetAccelerateConfiguration",
      "s3:GetBucket*",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
      "s3:GetReplicationConfiguration",
      "s3:ListBucket",
      "s3:ListTagsForResource",
    ]
    resources = local.buckets
  }

  statement {
    sid = "Others"
    actions = [
      "budgets:ListTagsForResource",
      "budgets:ViewBudget",
      "cloudwatch:ListTagsForResource",
      "dlm:GetLifecyclePolicy",
      "dlm:ListTagsForResource",
      "logs:ListTagsForResource",
      "rds:ListTagsForResource",
      "secretsmanager:DescribeSecret",
      "secretsmanager:GetResourcePolicy",
      "secretsmanager:ListSecretVersionIds",
      "sns:GetSubscriptionAttributes",
      "sns:GetTopicAttributes",
      "sns:ListSubscriptionsByTopic",
      "sns:ListTagsForResource",
      "ssm:DescribeDocument",
      "ssm:DescribeDocumentPermission",
      "ssm:GetDocument",
      "ssm:ListTagsForResource",
    ]
    resources = concat(
      local.alarms, local.budgets, local.databases, local.documents, local.log_groups, local.secrets, local.topics,
      flatten([for prefix in local.prefixes : ["${local.rds}:subgrp:${prefix}", "${local.rds}:pg:${prefix}-*"]]),
      [local.lifecycles],
    )
  }

  # RDS looks at AWS's own key for secrets in the name of whoever makes the database. It tells nothing but what the key is.
  statement {
    sid       = "WhatKeysAre"
    actions   = ["kms:DescribeKey"]
    resources = [local.keys]
  }

  statement {
    sid       = "Keys"
    actions   = ["kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags"]
    resources = [local.keys]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.project]
    }
  }

  statement {
    sid       = "Zones"
    actions   = ["route53:GetHostedZone", "route53:ListResourceRecordSets", "route53:ListTagsForResource"]
    resources = ["arn:${local.partition}:route53:::hostedzone/*"]
  }
}

data "aws_iam_policy_document" "plan_state" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.state_arn]
  }

  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = local.states
  }

  statement {
    sid       = "Lock"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = [for state in local.states : "${state}.tflock"]
  }
}

# Denied, and not only left out: a policy that is attached later cannot give it.
data "aws_iam_policy_document" "plan_denied" {
  statement {
    sid       = "SecretValues"
    effect    = "Deny"
    actions   = ["secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue"]
    resources = ["*"]
  }

  statement {
    sid           = "ObjectsButTheStates"
    effect        = "Deny"
    actions       = ["s3:GetObject*"]
    not_resources = ["${local.state_arn}/*"]
  }
}
