# Daily snapshots of the hosts' disks, which hold nothing but logs and what Ansible makes again: for looking back, and for
# a start that is faster than from nothing.

data "aws_iam_policy_document" "snapshots_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["dlm.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "snapshots" {
  count = var.snapshot_days > 0 ? 1 : 0

  name                 = "${local.prefix}-snapshots"
  description          = "Data Lifecycle Manager makes and removes the hosts' snapshots"
  assume_role_policy   = data.aws_iam_policy_document.snapshots_assume.json
  permissions_boundary = local.permissions_boundary
}

resource "aws_iam_role_policy_attachment" "snapshots" {
  count = var.snapshot_days > 0 ? 1 : 0

  role       = aws_iam_role.snapshots[0].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole"
}

resource "aws_dlm_lifecycle_policy" "hosts" {
  count = var.snapshot_days > 0 ? 1 : 0

  description        = "Daily snapshots of the hosts of ${local.prefix}"
  execution_role_arn = aws_iam_role.snapshots[0].arn
  state              = "ENABLED"

  policy_details {
    resource_types = ["INSTANCE"]
    # One tag: with several, a resource needs only one of them.
    target_tags = { Snapshots = local.prefix }

    schedule {
      name      = "daily"
      copy_tags = true

      create_rule {
        interval      = 24
        interval_unit = "HOURS"
        times         = ["01:00"]
      }

      retain_rule {
        count = var.snapshot_days
      }
    }
  }

  tags = { Name = "${local.prefix}-hosts" }
}
