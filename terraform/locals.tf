locals {
  prefix = "${var.project}-${var.environment}"

  # Host -> its name in AWS and in the inventory.
  host_names = { for name in keys(var.hosts) : name => "${local.prefix}-${name}" }

  # The namespace of the platform's own metrics in CloudWatch.
  metrics_namespace = "Lastro"

  # What is worth looking up after an incident; older lines cost more than they tell.
  log_days = 30
}
