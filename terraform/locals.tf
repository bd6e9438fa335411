locals {
  prefix = "${var.project}-${var.environment}"

  # Host -> its name in AWS and in the inventory.
  host_names = { for name in keys(var.hosts) : name => "${local.prefix}-${name}" }

  # The namespace of the platform's own metrics in CloudWatch.
  metrics_namespace = "Lastro"

  # Long enough to investigate an incident; older logs cost more than they are worth.
  log_days = 30
}
