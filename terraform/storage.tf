resource "aws_s3_bucket" "main" {
  #checkov:skip=CKV_AWS_18:Access logs would need a bucket of their own; who may read is IAM's business and CloudTrail's to record
  #checkov:skip=CKV_AWS_144:S3 keeps objects in three zones; a copy in a second region is beyond what this platform promises
  #checkov:skip=CKV_AWS_145:Encrypted by S3's own keys; a key of KMS would be billed by the request and add no border
  #checkov:skip=CKV2_AWS_62:Nothing listens to the buckets
  for_each = toset(["artifacts", "dags"])

  # Bucket names are global: the account id keeps them apart from everybody else's.
  bucket        = "${local.prefix}-${each.key}-${data.aws_caller_identity.current.account_id}"
  force_destroy = var.buckets.force_destroy
}

resource "aws_s3_bucket_public_access_block" "main" {
  for_each = aws_s3_bucket.main

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "main" {
  for_each = aws_s3_bucket.main

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "main" {
  for_each = aws_s3_bucket.main

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "main" {
  for_each = aws_s3_bucket.main

  bucket = each.value.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "main" {
  for_each = aws_s3_bucket.main

  bucket = each.value.id

  rule {
    id     = "expire-what-was-replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.buckets.noncurrent_days[each.key]
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = each.key == "artifacts" ? [var.buckets.predictions_days] : []

    content {
      id     = "expire-predictions"
      status = "Enabled"

      filter {
        prefix = "${local.prefixes.predictions}/"
      }

      expiration {
        days = rule.value
      }

      # They may hold what concerns people: gone is gone.
      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.main]
}

data "aws_iam_policy_document" "tls_only" {
  for_each = aws_s3_bucket.main

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

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
  for_each = aws_s3_bucket.main

  bucket = each.value.id
  policy = data.aws_iam_policy_document.tls_only[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.main]
}
