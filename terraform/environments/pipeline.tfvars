# Like test, under another name and network: the workflows of CI run on it while test is used and broken.
environment = "pipeline"
vpc_cidr    = "10.45.0.0/16"

hosts = {
  mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
  airflow = { instance_type = "t3.small", roles = ["airflow"] }
  serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "edge"] }
}

domain = { name = "lastro-pipeline.test" }

database = {
  deletion_protection = false
  skip_final_snapshot = true
  apply_immediately   = true
}

buckets                     = { force_destroy = true }
secret_recovery_window_days = 0
