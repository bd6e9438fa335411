# One role and instance profile per host: Session Manager, and on S3 what its services need. No host can read Secrets
# Manager: the controller does, and writes root-owned files.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  # MLflow's server holds the artifacts for its clients, so model_api and dashboard need nothing on S3.
  bucket_access = {
    mlflow  = { bucket = "artifacts", object_actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] }
    airflow = { bucket = "dags", object_actions = ["s3:GetObject"] }
  }

  # Host -> the roles of it that use a bucket; hosts without any are left out.
  bucket_roles = {
    for name, host in var.hosts : name => setintersection(host.roles, keys(local.bucket_access))
    if length(setintersection(host.roles, keys(local.bucket_access))) > 0
  }
}

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

  name               = "${local.prefix}-${each.key}"
  description        = "Host ${each.key}"
  assume_role_policy = data.aws_iam_policy_document.ec2_assumes.json
}

resource "aws_iam_instance_profile" "host" {
  for_each = var.hosts

  name = "${local.prefix}-${each.key}"
  role = aws_iam_role.host[each.key].name
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  for_each = var.hosts

  role       = aws_iam_role.host[each.key].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

data "aws_iam_policy_document" "buckets" {
  for_each = local.bucket_roles

  dynamic "statement" {
    for_each = { for role in each.value : role => local.bucket_access[role] }

    content {
      sid       = "${title(statement.key)}List"
      actions   = ["s3:ListBucket"]
      resources = [aws_s3_bucket.main[statement.value.bucket].arn]
    }
  }

  dynamic "statement" {
    for_each = { for role in each.value : role => local.bucket_access[role] }

    content {
      sid       = "${title(statement.key)}Objects"
      actions   = statement.value.object_actions
      resources = ["${aws_s3_bucket.main[statement.value.bucket].arn}/*"]
    }
  }
}

resource "aws_iam_role_policy" "buckets" {
  for_each = local.bucket_roles

  name   = "buckets"
  role   = aws_iam_role.host[each.key].name
  policy = data.aws_iam_policy_document.buckets[each.key].json
}
