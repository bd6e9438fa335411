# Like test, under another name and network: the workflows of CI run on it while test is used and broken. One host has every
# role that it needs: services that share a host must not get into each other's way.
environment = "pipeline"
vpc_cidr    = "10.45.0.0/16"

hosts = {
  all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard", "edge"] }
}

domain = { name = "lastro-pipeline.test" }

database = {
  deletion_protection = false
  skip_final_snapshot = true
  apply_immediately   = true
}

buckets                     = { force_destroy = true }
secret_recovery_window_days = 0
