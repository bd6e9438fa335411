# The bucket of every Terraform state of this account, this one's too. Terraform needs it before it can make anything, so
# ansible/playbooks/tasks/state_bucket.yml makes it, with versions, and here it gets its other settings. Versions are not
# Terraform's: destroying them would suspend them, and leave what no ordinary removal of the bucket finds.

locals {
  state_bucket = "lastro-terraform-state-${local.account}"
  state_arn    = "arn:${local.partition}:s3:::${local.state_bucket}"
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket                  = local.state_bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = local.state_bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = local.state_bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# An old state is small, and it is the way back from a damaged one.
resource "aws_s3_bucket_lifecycle_configuration" "state" {
  bucket = local.state_bucket

  rule {
    id     = "expire-what-was-replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days           = 365
      newer_noncurrent_versions = 20
    }

    # Each lock leaves one.
    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.state_arn, "${local.state_arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "tls_only" {
  bucket = local.state_bucket
  policy = data.aws_iam_policy_document.tls_only.json

  depends_on = [aws_s3_bucket_public_access_block.state]
}
