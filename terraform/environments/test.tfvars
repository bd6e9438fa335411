# Like local, under another name and network: tests never touch the platform of whoever runs them. It has an edge, too,
# under a name that nobody can own.
environment = "test"
vpc_cidr    = "10.43.0.0/16"

hosts = {
  mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
  airflow = { instance_type = "t3.small", roles = ["airflow"] }
  serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "edge"] }
}

domain = { name = "lastro.test" }

database = {
  deletion_protection = false
  skip_final_snapshot = true
  apply_immediately   = true
}

buckets                     = { force_destroy = true }
secret_recovery_window_days = 0
