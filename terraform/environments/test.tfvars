# Like local, under another name and network: tests never touch the platform of whoever runs them.
environment = "test"
vpc_cidr    = "10.43.0.0/16"

database = {
  deletion_protection = false
  skip_final_snapshot = true
  apply_immediately   = true
}

buckets                     = { force_destroy = true }
secret_recovery_window_days = 0
