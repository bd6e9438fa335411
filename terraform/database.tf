resource "aws_db_subnet_group" "main" {
  name       = local.prefix
  subnet_ids = [for subnet in aws_subnet.private : subnet.id]
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

resource "aws_db_instance" "main" {
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

  backup_retention_period   = var.database.backup_days
  backup_window             = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot     = true
  deletion_protection       = var.database.deletion_protection
  skip_final_snapshot       = var.database.skip_final_snapshot
  final_snapshot_identifier = "${local.prefix}-final"

  auto_minor_version_upgrade = true
  apply_immediately          = var.database.apply_immediately
}
