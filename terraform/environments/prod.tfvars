# For a team that depends on it: hosts in private subnets, nothing is deleted by mistake, backups of a month.
environment   = "prod"
vpc_cidr      = "10.45.0.0/16"
private_hosts = true

# Only in this account, whatever credentials are at hand.
# account_id = "123456789012"

# What `make bootstrap` has made: the most that a role of this environment may do.
permissions_boundary = "lastro-boundary"

hosts = {
  mlflow  = { instance_type = "t3.small", roles = ["mlflow"], disk_gib = 30 }
  airflow = { instance_type = "t3.medium", roles = ["airflow"], disk_gib = 50 }
  serving = { instance_type = "t3.medium", roles = ["model_api", "dashboard"], disk_gib = 30 }

  # Tasks run here then, and no longer beside Airflow; one or more.
  # trainer = { instance_type = "t3.large", roles = ["airflow_worker"], disk_gib = 30 }

  # Together with the domain below: the way in for visitors.
  # edge = { instance_type = "t3.micro", roles = ["edge"] }
}

# With a hosted zone of this account the records are made; without zone, `dns_records` of the outputs says what to set.
# domain = { name = "lastro.example.com", zone = "example.com", allow_from = ["203.0.113.0/24"] }

database = {
  instance_class = "db.t4g.small"
  storage_gib    = 50
  backup_days    = 30

  # true: a standby in the second zone takes over by itself, in a minute or two, when the first fails and while RDS
  # updates; the database then costs twice as much. false: a lost zone means waiting for it, or restoring a backup.
  multi_az = false
}

snapshot_days = 14

# alerts = { emails = ["team@example.com"], monthly_budget_usd = 300 }
