# The most that a role of an environment can do, whatever its own policies say. CI may make roles, and give them policies,
# only with this boundary: otherwise it could make an administrator and become it.

data "aws_iam_policy_document" "boundary" {
  #checkov:skip=CKV_AWS_111:The agent's calls and metrics have no resource; this policy grants nothing, it only limits
  #checkov:skip=CKV_AWS_356:The agent's calls and metrics have no resource; this policy grants nothing, it only limits
  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = [for arn in concat(local.artifact_buckets, local.dag_buckets) : "${arn}/*"]
  }

  statement {
    sid       = "Lists"
    actions   = ["s3:ListBucket"]
    resources = concat(local.artifact_buckets, local.dag_buckets)
  }

  statement {
    sid = "Agent"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["Lastro"]
    }
  }

  # Data Lifecycle Manager's daily snapshots.
  statement {
    sid       = "FindDisks"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeVolumes"]
    resources = ["*"]
  }

  statement {
    sid     = "TakeSnapshots"
    actions = ["ec2:CreateSnapshot", "ec2:CreateSnapshots"]
    resources = [
      "${local.ec2}:instance/*",
      "${local.ec2}:volume/*",
      "arn:${local.partition}:ec2:${var.region}::snapshot/*",
    ]
  }

  statement {
    sid       = "TagSnapshots"
    actions   = ["ec2:CreateTags"]
    resources = ["arn:${local.partition}:ec2:${var.region}::snapshot/*"]
  }

  # Those that it made itself.
  statement {
    sid       = "ExpireSnapshots"
    actions   = ["ec2:DeleteSnapshot"]
    resources = ["arn:${local.partition}:ec2:${var.region}::snapshot/*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/aws:dlm:lifecycle-policy-id"
      values   = ["false"]
    }
  }

  # Flow logs of the VPC.
  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = [for group in local.log_groups : "${group}:*"]
  }
}

resource "aws_iam_policy" "boundary" {
  name        = "${var.project}-boundary"
  description = "The most that a role of an environment can do"
  policy      = data.aws_iam_policy_document.boundary.json
}
