# Permissions to create, change and destroy the environments with Terraform, and to configure their hosts with Ansible.
# Limited by name where AWS lets us choose the name, by the tag Project where it does not.

data "aws_iam_policy_document" "apply_state" {
  source_policy_documents = [data.aws_iam_policy_document.plan_state.json]

  statement {
    sid       = "Write"
    actions   = ["s3:PutObject"]
    resources = local.states
  }
}

# ---- EC2 --------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "apply_compute" {
  # New resources must have our tag...
  statement {
    sid       = "CreateTagged"
    actions   = [for action in local.ec2_creates : "ec2:${action}"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.project]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid       = "TagAtCreation"
    actions   = ["ec2:CreateTags"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = local.ec2_creates
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.project]
    }
  }

  # ...and what bears it may be changed, and take part in what is made: a VPC in a subnet, a subnet in an instance.
  statement {
    sid = "ChangeTagged"
    actions = [
      "ec2:Associate*",
      "ec2:Attach*",
      "ec2:Authorize*",
      "ec2:Create*",
      "ec2:Delete*",
      "ec2:Detach*",
      "ec2:Disassociate*",
      "ec2:Modify*",
      "ec2:MonitorInstances",
      "ec2:RebootInstances",
      "ec2:ReleaseAddress",
      "ec2:Replace*",
      "ec2:Revoke*",
      "ec2:RunInstances",
      "ec2:StartInstances",
      "ec2:StopInstances",
      "ec2:TerminateInstances",
      "ec2:UnmonitorInstances",
      "ec2:UpdateSecurityGroupRuleDescriptions*",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.project]
    }
  }

  # The parts that AWS creates with an instance have no tag yet.
  statement {
    sid       = "PartsOfInstances"
    actions   = ["ec2:RunInstances", "ec2:AssociateAddress", "ec2:DisassociateAddress", "ec2:ModifyNetworkInterfaceAttribute"]
    resources = ["${local.ec2}:network-interface/*", "${local.ec2}:volume/*"]
  }

  # Neither has a VPC's default group, which Terraform empties. IAM cannot tell it from untagged groups of others: an account
  # for the platform alone is the better place.
  statement {
    sid       = "EmptyDefaultGroups"
    actions   = ["ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress"]
    resources = ["${local.ec2}:security-group/*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/Project"
      values   = ["true"]
    }
  }

  statement {
    sid       = "TagWhatAwsMade"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:network-interface/*", "${local.ec2}:security-group/*", "${local.ec2}:volume/*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/Project"
      values   = ["true"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.project]
    }
  }

  statement {
    sid       = "DebianImages"
    actions   = ["ec2:RunInstances"]
    resources = ["arn:${local.partition}:ec2:${var.region}::image/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:Owner"
      values   = ["136693071363"]
    }
  }

  # Nothing of ours is handed to another account.
  statement {
    sid    = "ShareNothing"
    effect = "Deny"
    actions = [
      "ec2:CreateNetworkInterfacePermission",
      "ec2:ModifyImageAttribute",
      "ec2:ModifySnapshotAttribute",
      "ec2:ModifyVpcEndpointServicePermissions",
    ]
    resources = ["*"]
  }
}

locals {
  ec2_creates = [
    "AllocateAddress",
    "AuthorizeSecurityGroupEgress",
    "AuthorizeSecurityGroupIngress",
    "CreateFlowLogs",
    "CreateInternetGateway",
    "CreateNatGateway",
    "CreateRouteTable",
    "CreateSecurityGroup",
    "CreateSubnet",
    "CreateVpc",
    "CreateVpcEndpoint",
    "RunInstances",
  ]
}

# ---- IAM --------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "apply_identity" {
  statement {
    sid = "RolesInsideTheBoundary"
    actions = [
      "iam:AttachRolePolicy",
      "iam:CreateRole",
      "iam:DeleteRolePolicy",
      "iam:DetachRolePolicy",
      "iam:PutRolePermissionsBoundary",
      "iam:PutRolePolicy",
    ]
    resources = local.roles

    condition {
      test     = "StringEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.boundary.arn]
    }
  }

  # IAM cannot check the boundary for these actions. CI cannot create a role without the boundary, so every role keeps its limits.
  statement {
    sid = "Roles"
    actions = [
      "iam:DeleteRole",
      "iam:TagRole",
      "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole",
      "iam:UpdateRoleDescription",
    ]
    resources = local.roles
  }

  statement {
    sid = "Profiles"
    actions = [
      "iam:AddRoleToInstanceProfile",
      "iam:CreateInstanceProfile",
      "iam:DeleteInstanceProfile",
      "iam:RemoveRoleFromInstanceProfile",
      "iam:TagInstanceProfile",
      "iam:UntagInstanceProfile",
    ]
    resources = local.profiles
  }

  statement {
    sid       = "PassToOurServices"
    actions   = ["iam:PassRole"]
    resources = local.roles

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["dlm.amazonaws.com", "ec2.amazonaws.com", "vpc-flow-logs.amazonaws.com"]
    }
  }

  statement {
    sid       = "FirstDatabaseOfAnAccount"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["${local.iam}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["rds.amazonaws.com"]
    }
  }
}

# ---- everything else ----------------------------------------------------------------------------------

data "aws_iam_policy_document" "apply_services" {
  statement {
    sid = "Buckets"
    actions = [
      "s3:CreateBucket",
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:PutBucketOwnershipControls",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
      "s3:PutBucketTagging",
      "s3:PutBucketVersioning",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
      "s3:TagResource",
      "s3:UntagResource",
    ]
    resources = local.buckets
  }

  # A bucket that may be destroyed with what is in it (force_destroy) is emptied first. Reading is another matter.
  statement {
    sid       = "EmptyBuckets"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucketVersions"]
    resources = concat(local.buckets, [for bucket in local.buckets : "${bucket}/*"])
  }

  statement {
    sid = "Database"
    actions = [
      "rds:AddTagsToResource",
      "rds:CreateDBInstance",
      "rds:CreateDBParameterGroup",
      "rds:CreateDBSnapshot",
      "rds:CreateDBSubnetGroup",
      "rds:DeleteDBInstance",
      "rds:DeleteDBParameterGroup",
      "rds:DeleteDBSubnetGroup",
      "rds:ModifyDBInstance",
      "rds:ModifyDBParameterGroup",
      "rds:ModifyDBSubnetGroup",
      "rds:RebootDBInstance",
      "rds:RemoveTagsFromResource",
      "rds:ResetDBParameterGroup",
    ]
    resources = concat(local.databases, flatten([
      for prefix in local.prefixes : [
        "${local.rds}:subgrp:${prefix}",
        "${local.rds}:pg:${prefix}-*",
        "${local.rds}:snapshot:${prefix}-*",
      ]
    ]))
  }

  statement {
    sid       = "DefaultOptions"
    actions   = ["rds:CreateDBInstance", "rds:ModifyDBInstance"]
    resources = ["${local.rds}:og:default:*"]
  }

  # RDS keeps the master's password there, in the name of whoever makes the instance.
  statement {
    sid       = "MasterSecrets"
    actions   = ["secretsmanager:CreateSecret", "secretsmanager:RotateSecret", "secretsmanager:TagResource"]
    resources = ["${local.secretsmanager}:secret:rds!db-*"]

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "aws:CalledVia"
      values   = ["rds.amazonaws.com"]
    }
  }

  statement {
    sid = "Secrets"
    actions = [
      "secretsmanager:CreateSecret",
      "secretsmanager:DeleteSecret",
      "secretsmanager:PutSecretValue",
      "secretsmanager:RestoreSecret",
      "secretsmanager:TagResource",
      "secretsmanager:UntagResource",
      "secretsmanager:UpdateSecret",
      "secretsmanager:UpdateSecretVersionStage",
    ]
    resources = local.secrets
  }

  statement {
    sid = "Alarms"
    actions = [
      "cloudwatch:DeleteAlarms",
      "cloudwatch:PutMetricAlarm",
      "cloudwatch:TagResource",
      "cloudwatch:UntagResource",
      "sns:CreateTopic",
      "sns:DeleteTopic",
      "sns:SetSubscriptionAttributes",
      "sns:SetTopicAttributes",
      "sns:Subscribe",
      "sns:TagResource",
      "sns:Unsubscribe",
      "sns:UntagResource",
    ]
    resources = concat(local.alarms, local.topics)
  }

  statement {
    sid       = "Budgets"
    actions   = ["budgets:ModifyBudget", "budgets:TagResource", "budgets:UntagResource"]
    resources = local.budgets
  }

  statement {
    sid = "Documents"
    actions = [
      "ssm:AddTagsToResource",
      "ssm:CreateDocument",
      "ssm:DeleteDocument",
      "ssm:RemoveTagsFromResource",
      "ssm:UpdateDocument",
      "ssm:UpdateDocumentDefaultVersion",
    ]
    resources = local.documents
  }

  statement {
    sid     = "CreateSnapshotSchedules"
    actions = ["dlm:CreateLifecyclePolicy", "dlm:TagResource"]
    # A new policy has no name yet.
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.project]
    }
  }

  statement {
    sid       = "ChangeSnapshotSchedules"
    actions   = ["dlm:DeleteLifecyclePolicy", "dlm:TagResource", "dlm:UntagResource", "dlm:UpdateLifecyclePolicy"]
    resources = [local.lifecycles]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.project]
    }
  }

  statement {
    sid = "Logs"
    actions = [
      "logs:CreateLogGroup",
      "logs:DeleteLogGroup",
      "logs:DeleteRetentionPolicy",
      "logs:PutRetentionPolicy",
      "logs:TagResource",
      "logs:UntagResource",
    ]
    resources = local.log_groups
  }

  # A new key has no name to limit this by. Untagged keys of others could be tagged so: again, an account for the platform
  # alone is the better place.
  statement {
    sid       = "CreateKeys"
    actions   = ["kms:CreateKey", "kms:TagResource"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.project]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/Project"
      values   = ["true"]
    }
  }

  statement {
    sid = "ChangeKeys"
    actions = [
      "kms:CreateAlias",
      "kms:DeleteAlias",
      "kms:EnableKeyRotation",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
      "kms:TagResource",
      "kms:UntagResource",
      "kms:UpdateAlias",
      "kms:UpdateKeyDescription",
    ]
    resources = [local.keys]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.project]
    }
  }

  statement {
    sid       = "Aliases"
    actions   = ["kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"]
    resources = local.aliases
  }

  dynamic "statement" {
    for_each = length(local.zones) > 0 ? [local.zones] : []

    content {
      sid       = "Addresses"
      actions   = ["route53:ChangeResourceRecordSets"]
      resources = statement.value

      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsRecordTypes"
        values   = ["A"]
      }
    }
  }
}

# ---- Ansible's controller -------------------------------------------------------------------------------

data "aws_iam_policy_document" "controller" {
  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = local.secrets
  }

  # Their names are RDS's own, but each is tagged with its instance.
  statement {
    sid       = "MasterSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = ["${local.secretsmanager}:secret:rds!db-*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/aws:rds:primaryDBInstanceArn"
      values   = local.databases
    }
  }

  statement {
    sid       = "Dags"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObject"]
    resources = [for bucket in local.dag_buckets : "${bucket}/dags/*"]
  }

  # The one document that lets a key in for a while.
  statement {
    sid       = "Authorize"
    actions   = ["ssm:SendCommand"]
    resources = local.authorize
  }

  # Session Manager also checks the document's name, so no other document can be used.
  statement {
    sid       = "SshDocument"
    actions   = ["ssm:StartSession"]
    resources = ["arn:${local.partition}:ssm:${var.region}::document/AWS-StartSSHSession"]
  }

  statement {
    sid       = "AuthorizeOnOurHosts"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.ec2}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Project"
      values   = [var.project]
    }
  }

  statement {
    sid       = "SshToOurHosts"
    actions   = ["ssm:StartSession"]
    resources = ["${local.ec2}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Project"
      values   = [var.project]
    }

    condition {
      test     = "BoolIfExists"
      variable = "ssm:SessionDocumentAccessCheck"
      values   = ["true"]
    }
  }

  statement {
    sid       = "OwnSessions"
    actions   = ["ssm:ResumeSession", "ssm:TerminateSession"]
    resources = ["arn:${local.partition}:ssm:${var.region}:${local.account}:session/$${aws:userid}-*"]
  }

  statement {
    sid       = "Results"
    actions   = ["ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommandInvocations"]
    resources = ["*"]
  }
}
