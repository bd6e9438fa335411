# The least that works in AWS: hosts in public subnets with no way in, a database in one zone. Everything may be thrown away.
environment = "dev"
vpc_cidr    = "10.44.0.0/16"

# Only in this account, whatever credentials are at hand.
# account_id = "123456789012"

# What `make bootstrap` has made: the most that a role of this environment may do.
permissions_boundary = "lastro-boundary"

database = {
  backup_days         = 1
  deletion_protection = false
  skip_final_snapshot = true
  apply_immediately   = true
}

buckets                     = { force_destroy = true }
secret_recovery_window_days = 0
snapshot_days               = 0

# alerts = { emails = ["you@example.com"], monthly_budget_usd = 120 }
