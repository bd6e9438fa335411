# Who may do what in AWS. A host's role is the union of what its services need and no more. No host can read Secrets
# Manager or Parameter Store: the controller reads secrets, and writes root-owned files. DAGs are written by the
# controller and by data scientists, never by a host.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  # The folders of the buckets, which the contract names.
  prefixes = {
    artifacts   = "mlflow"
    dags        = "dags"
    predictions = "predictions"
    batch       = "batch"
  }

  permissions_boundary = var.permissions_boundary == "" ? null : join("", [
    "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:policy/",
    var.permissions_boundary,
  ])

  # Prefix of the artifacts bucket -> the right to list what is below it.
  lists = {
    for prefix in [local.prefixes.artifacts, local.prefixes.predictions, local.prefixes.batch] : prefix => {
      actions    = ["s3:ListBucket"]
      resources  = [aws_s3_bucket.main["artifacts"].arn]
      conditions = [{ test = "StringLike", variable = "s3:prefix", values = ["${prefix}/*"] }]
    }
  }
  # Airflow first asks whether the bucket is there, and that request names no prefix.
  list_dags = {
    actions    = ["s3:ListBucket"]
    resources  = [aws_s3_bucket.main["dags"].arn]
    conditions = []
  }

  # Logged predictions, to compute drift. Nothing changes them, and they expire (storage.tf).
  read_predictions = {
    actions    = ["s3:GetObject"]
    resources  = ["${aws_s3_bucket.main["artifacts"].arn}/${local.prefixes.predictions}/*"]
    conditions = []
  }
  # The input of batch scoring, and its output next to it.
  batch_objects = {
    actions    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources  = ["${aws_s3_bucket.main["artifacts"].arn}/${local.prefixes.batch}/*"]
    conditions = []
  }

  # Name in the catalogue -> statement -> what it allows. MLflow's server holds the models for its clients, so nobody else
  # reads those.
  permissions = {
    artifacts = {
      list = local.lists[local.prefixes.artifacts]
      # No version can be deleted: what was overwritten or deleted can be brought back.
      objects = {
        actions    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        resources  = ["${aws_s3_bucket.main["artifacts"].arn}/${local.prefixes.artifacts}/*"]
        conditions = []
      }
    }
    # Wherever tasks run, they read the DAG files and may score batches.
    tasks = {
      list = local.list_dags
      objects = {
        actions    = ["s3:GetObject"]
        resources  = ["${aws_s3_bucket.main["dags"].arn}/${local.prefixes.dags}/*"]
        conditions = []
      }
      list-batch = local.lists[local.prefixes.batch]
      batch      = local.batch_objects
    }
    # It adds predictions and sees none: an intruder sees only predictions made after the break-in.
    log-predictions = {
      predictions = {
        actions    = ["s3:PutObject", "s3:AbortMultipartUpload"]
        resources  = ["${aws_s3_bucket.main["artifacts"].arn}/${local.prefixes.predictions}/*"]
        conditions = []
      }
    }
    read-predictions = {
      list-predictions = local.lists[local.prefixes.predictions]
      predictions      = local.read_predictions
    }
    metrics = {
      metrics = {
        actions    = ["cloudwatch:PutMetricData"]
        resources  = ["*"]
        conditions = [{ test = "StringEquals", variable = "cloudwatch:namespace", values = [local.metrics_namespace] }]
      }
    }
  }

  # Role of a host -> its statements.
  role_permissions = {
    for role, service in local.catalogue : role => merge([for name in service.aws : local.permissions[name]]...)
  }

  # The agent's permissions for Session Manager and Run Command. AWS's own AmazonSSMManagedInstanceCore would also let every
  # host read every parameter of the account; the agent has not used ec2messages since version 3.3.40.
  agent_permissions = {
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources  = ["*"]
    conditions = []
  }

  # Host -> statement -> what it allows.
  host_permissions = {
    for name, host in var.hosts : name => merge(
      { agent = local.agent_permissions },
      [
        for role in setintersection(host.roles, keys(local.role_permissions)) : {
          for statement, permissions in local.role_permissions[role] : "${role}-${statement}" => permissions
        }
      ]...
    )
  }

  data_scientist_permissions = {
    read-artifacts = {
      actions    = ["s3:GetObject"]
      resources  = ["${aws_s3_bucket.main["artifacts"].arn}/${local.prefixes.artifacts}/*"]
      conditions = []
    }
    list-artifacts   = local.lists[local.prefixes.artifacts]
    list-predictions = local.lists[local.prefixes.predictions]
    predictions      = local.read_predictions
    list-batch       = local.lists[local.prefixes.batch]
    batch            = local.batch_objects
    list-dags        = local.list_dags
    dags = {
      actions    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      resources  = ["${aws_s3_bucket.main["dags"].arn}/${local.prefixes.dags}/*"]
      conditions = []
    }
  }
}

data "aws_iam_policy_document" "permissions" {
  # No host has a name with a space.
  for_each = merge(local.host_permissions, { "data scientist" = local.data_scientist_permissions })

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = replace(title(replace(statement.key, "/[-_]/", " ")), " ", "")
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = statement.value.conditions

        content {
          test     = condition.value.test
          variable = condition.value.variable
          values   = condition.value.values
        }
      }
    }
  }
}

# ---- hosts ----------------------------------------------------------------------------------------

data "aws_iam_policy_document" "ec2_assumes" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "host" {
  for_each = var.hosts

  name                 = "${local.prefix}-${each.key}"
  description          = "Host ${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.ec2_assumes.json
  permissions_boundary = local.permissions_boundary
}

resource "aws_iam_instance_profile" "host" {
  for_each = var.hosts

  name = "${local.prefix}-${each.key}"
  role = aws_iam_role.host[each.key].name
}

resource "aws_iam_role_policy" "host" {
  for_each = local.host_permissions

  name   = "host"
  role   = aws_iam_role.host[each.key].name
  policy = data.aws_iam_policy_document.permissions[each.key].json
}

# ---- data scientists --------------------------------------------------------------------------------

locals {
  data_scientists = {
    users = [for arn in var.data_scientists : arn if strcontains(arn, ":user/")]
    roles = [for arn in var.data_scientists : arn if !strcontains(arn, ":user/")]
  }
}

# A user shows a second factor here, by `mfa_serial` in its AWS profile. A role cannot: sessions of roles, those of IAM
# Identity Center among them, never carry the key, and their sign-in has asked for the factor before.
data "aws_iam_policy_document" "data_scientists_assume" {
  dynamic "statement" {
    for_each = length(local.data_scientists.users) > 0 ? [local.data_scientists.users] : []

    content {
      sid     = "Users"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }

      condition {
        test     = "Bool"
        variable = "aws:MultiFactorAuthPresent"
        values   = ["true"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.data_scientists.roles) > 0 ? [local.data_scientists.roles] : []

    content {
      sid     = "Roles"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

resource "aws_iam_role" "data_scientist" {
  count = length(var.data_scientists) > 0 ? 1 : 0

  name                 = "${local.prefix}-data-scientist"
  description          = "Writes DAGs and batches, reads artifacts and predictions"
  assume_role_policy   = data.aws_iam_policy_document.data_scientists_assume.json
  permissions_boundary = local.permissions_boundary
}

resource "aws_iam_role_policy" "data_scientist" {
  count = length(var.data_scientists) > 0 ? 1 : 0

  name   = "data-scientist"
  role   = aws_iam_role.data_scientist[0].name
  policy = data.aws_iam_policy_document.permissions["data scientist"].json
}
