# The platform on one machine: an emulator stands in for AWS, containers for hosts. Everything may be thrown away.
environment = "local"
vpc_cidr    = "10.42.0.0/16"

database = {
  deletion_protection = false
  skip_final_snapshot = true
  apply_immediately   = true
}

buckets                     = { force_destroy = true }
secret_recovery_window_days = 0
