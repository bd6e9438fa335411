resource "aws_db_subnet_group" "main" {
  name       = local.prefix
  subnet_ids = [for subnet in aws_subnet.database : subnet.id]
}

resource "aws_db_parameter_group" "main" {
  name_prefix = "${local.prefix}-"
  family      = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  database_logs = ["postgresql", "upgrade"]
}

# RDS would make them too, and keep the lines for ever.
resource "aws_cloudwatch_log_group" "database" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with a key of its own; one of ours would be a dollar a month for no border
  #checkov:skip=CKV_AWS_338:local.log_days says how long, and why
  for_each = toset(local.database_logs)

  name              = "/aws/rds/instance/${local.prefix}/${each.key}"
  retention_in_days = local.log_days
}

resource "aws_db_instance" "main" {
  #checkov:skip=CKV_AWS_118:Enhanced monitoring is billed by the line; Performance Insights tells what a query waits for
  #checkov:skip=CKV_AWS_133:backup_days cannot be 0 (variables.tf), which checkov does not see through the variable
  #checkov:skip=CKV_AWS_157:multi_az is a choice of the environment: it doubles the price
  #checkov:skip=CKV_AWS_161:The services log in by passwords, which work on one machine as well
  #checkov:skip=CKV_AWS_293:deletion_protection is a choice of the environment, on unless it says otherwise
  #checkov:skip=CKV_AWS_354:The AWS-managed key is enough for statistics of queries
  #checkov:skip=CKV2_AWS_30:A statement may hold a password (ALTER ROLE ... PASSWORD), and would put it into the log
  identifier     = local.prefix
  engine         = "postgres"
  engine_version = "17"
  instance_class = var.database.instance_class
  port           = local.database_port
  multi_az       = var.database.multi_az

  # The databases and logins of MLflow and Airflow are made inside by Ansible, with this user.
  username                    = "lastro_admin"
  manage_master_user_password = true

  allocated_storage     = var.database.storage_gib
  max_allocated_storage = var.database.max_storage_gib
  storage_type          = "gp3"
  storage_encrypted     = true

  db_subnet_group_name   = aws_db_subnet_group.main.name
  vpc_security_group_ids = [aws_security_group.component["database"].id]
  parameter_group_name   = aws_db_parameter_group.main.name
  publicly_accessible    = false
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period = var.database.backup_days
  backup_window           = "02:00-03:00"
  maintenance_window      = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot   = true
  deletion_protection     = var.database.deletion_protection
  skip_final_snapshot     = var.database.skip_final_snapshot
  # With the date of creation, so that a later database of this name can make its own final snapshot.
  final_snapshot_identifier = "${local.prefix}-final-${formatdate("YYYYMMDDhhmmss", plantimestamp())}"

  # Free for as long as seven days back.
  performance_insights_enabled          = true
  performance_insights_retention_period = 7
  enabled_cloudwatch_logs_exports       = local.database_logs

  auto_minor_version_upgrade = true
  apply_immediately          = var.database.apply_immediately

  lifecycle {
    ignore_changes = [final_snapshot_identifier]
  }

  depends_on = [aws_cloudwatch_log_group.database]
}
