# Alarms, and the topic that sends them to its subscribers by e-mail.

locals {
  alerts_topic = "${local.prefix}-alerts"
}

# AWS's own key for SNS lets no other service of AWS use it.
data "aws_iam_policy_document" "alerts_key" {
  #checkov:skip=CKV_AWS_109:"*" is this key alone: the policy is the key's
  #checkov:skip=CKV_AWS_111:"*" is this key alone: the policy is the key's
  #checkov:skip=CKV_AWS_356:"*" is this key alone: the policy is the key's
  statement {
    sid       = "IamOfTheAccount"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  statement {
    sid       = "WhoPublishes"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:aws:sns:topicArn"
      values   = ["arn:${data.aws_partition.current.partition}:sns:${var.region}:${data.aws_caller_identity.current.account_id}:${local.alerts_topic}"]
    }
  }
}

resource "aws_kms_key" "alerts" {
  description             = "Encrypts the alerts of ${local.prefix}"
  policy                  = data.aws_iam_policy_document.alerts_key.json
  enable_key_rotation     = true
  deletion_window_in_days = 7
}

resource "aws_kms_alias" "alerts" {
  name          = "alias/${local.prefix}-alerts"
  target_key_id = aws_kms_key.alerts.key_id
}

resource "aws_sns_topic" "alerts" {
  name              = local.alerts_topic
  kms_master_key_id = aws_kms_key.alerts.key_id
}

data "aws_iam_policy_document" "alerts" {
  statement {
    sid       = "WhoPublishes"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alerts.emails

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.key
}

locals {
  alarm_actions = [aws_sns_topic.alerts.arn]

  # The inputs of max_connections: RDS gives PostgreSQL this many connections for its memory, at most 5000.
  database_memory_bytes    = data.aws_ec2_instance_type.main[local.database_instance_type].memory_size * pow(1024, 2)
  database_max_connections = min(floor(local.database_memory_bytes / 9531392), 5000)
}

resource "aws_cloudwatch_metric_alarm" "host_status" {
  for_each = var.hosts

  alarm_name          = "${local.prefix}-${each.key}-status"
  alarm_description   = "Host ${each.key} fails its status checks or is stopped. If its hardware fails, EC2 moves it automatically."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed"
  dimensions          = { InstanceId = aws_instance.host[each.key].id }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  # A stopped host reports nothing.
  treat_missing_data = "breaching"
  alarm_actions      = local.alarm_actions
  ok_actions         = local.alarm_actions
}

# Neither a host nor the database ever slows down for want of credits: both borrow, and AWS bills what they do not earn back.
resource "aws_cloudwatch_metric_alarm" "host_credits" {
  for_each = {
    for name, host in var.hosts : name => host
    if data.aws_ec2_instance_type.main[host.instance_type].burstable_performance_supported
  }

  alarm_name          = "${local.prefix}-${each.key}-cpu-credits"
  alarm_description   = "Host ${each.key} uses more CPU credits than ${each.value.instance_type} earns, and AWS bills the surplus. A larger type may be cheaper."
  namespace           = "AWS/EC2"
  metric_name         = "CPUSurplusCreditsCharged"
  dimensions          = { InstanceId = aws_instance.host[each.key].id }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "database_credits" {
  count = data.aws_ec2_instance_type.main[local.database_instance_type].burstable_performance_supported ? 1 : 0

  alarm_name          = "${local.prefix}-database-cpu-credits"
  alarm_description   = "The database uses more CPU credits than ${var.database.instance_class} earns, and AWS bills the surplus. A larger class may be cheaper."
  namespace           = "AWS/RDS"
  metric_name         = "CPUSurplusCreditsCharged"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.main.identifier }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "database_storage" {
  alarm_name          = "${local.prefix}-database-storage"
  alarm_description   = "The database's disk is almost full and did not grow automatically. It may have reached max_storage_gib."
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.main.identifier }
  statistic           = "Minimum"
  period              = 300
  evaluation_periods  = 6
  comparison_operator = "LessThanThreshold"
  # RDS lets it grow when a tenth has been left for five minutes.
  threshold          = var.database.storage_gib * pow(1024, 3) / 10
  treat_missing_data = "missing"
  alarm_actions      = local.alarm_actions
  ok_actions         = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "database_connections" {
  alarm_name          = "${local.prefix}-database-connections"
  alarm_description   = "The database may soon reject connections. A larger class than ${var.database.instance_class} allows more."
  namespace           = "AWS/RDS"
  metric_name         = "DatabaseConnections"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.main.identifier }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  # RDS computes from what its own processes leave of the memory, on the smallest class about three quarters: 60 % of
  # the whole is 80 % of that.
  threshold          = floor(local.database_max_connections * 0.6)
  treat_missing_data = "missing"
  alarm_actions      = local.alarm_actions
  ok_actions         = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "edge_errors" {
  count = var.domain == null ? 0 : 1

  alarm_name          = "${local.prefix}-edge-errors"
  alarm_description   = "Visitors get errors (5xx) from ${var.domain.name}, or the edge has stopped reporting."
  namespace           = local.metrics_namespace
  metric_name         = "Edge5xx"
  dimensions          = { Environment = var.environment }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  # A restart of a service costs its visitors a few.
  threshold = 10
  # The edge reports every minute, also that there were none.
  treat_missing_data = "breaching"
  alarm_actions      = local.alarm_actions
  ok_actions         = local.alarm_actions
}

resource "aws_budgets_budget" "monthly" {
  count = var.alerts.monthly_budget_usd > 0 ? 1 : 0

  name         = "${local.prefix}-monthly"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = format("%.2f", var.alerts.monthly_budget_usd)
  limit_unit   = "USD"

  dynamic "notification" {
    for_each = ["FORECASTED", "ACTUAL"]

    content {
      notification_type         = notification.value
      comparison_operator       = "GREATER_THAN"
      threshold                 = 100
      threshold_type            = "PERCENTAGE"
      subscriber_sns_topic_arns = [aws_sns_topic.alerts.arn]
    }
  }

  depends_on = [aws_sns_topic_policy.alerts]
}
