locals {
  prefix = "${var.project}-${var.environment}"

  # Every role a host can have, and the port of its service; a worker asks Airflow for its tasks and listens nowhere.
  roles = {
    mlflow         = { port = 5000 }
    airflow        = { port = 8080 }
    airflow_worker = { port = null }
    model_api      = { port = 8000 }
    dashboard      = { port = 8501 }
    edge           = { port = 443 }
  }

  # Those that this environment has.
  services = {
    for role, service in local.roles : role => service
    if anytrue([for host in var.hosts : contains(host.roles, role)])
  }

  database_port = 5432

  # Who opens connections to whom: the security groups allow these and no others between our components.
  service_connections = {
    for pair in [
      { client = "airflow", server = "mlflow" },
      { client = "airflow_worker", server = "airflow" },
      { client = "airflow_worker", server = "mlflow" },
      { client = "model_api", server = "mlflow" },
      { client = "dashboard", server = "mlflow" },
      { client = "dashboard", server = "airflow" },
      { client = "dashboard", server = "model_api" },
      { client = "edge", server = "mlflow" },
      { client = "edge", server = "airflow" },
      { client = "edge", server = "model_api" },
      { client = "edge", server = "dashboard" },
      { client = "mlflow", server = "database" },
      { client = "airflow", server = "database" },
      ] : "${pair.client}-to-${pair.server}" => merge(pair, {
        port = pair.server == "database" ? local.database_port : local.roles[pair.server].port
    }) if contains(keys(local.services), pair.client)
  }

  # What is worth looking up after an incident; older lines cost more than they tell.
  log_days = 30
}
