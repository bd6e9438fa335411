locals {
  prefix = "${var.project}-${var.environment}"

  # Every role a host can have, and the port of its service.
  services = {
    mlflow    = { port = 5000 }
    airflow   = { port = 8080 }
    model_api = { port = 8000 }
    dashboard = { port = 8501 }
  }

  database_port = 5432

  # Who opens connections to whom: the security groups allow these and no others between our components.
  service_connections = {
    for pair in [
      { client = "airflow", server = "mlflow" },
      { client = "model_api", server = "mlflow" },
      { client = "dashboard", server = "mlflow" },
      { client = "dashboard", server = "model_api" },
      { client = "mlflow", server = "database" },
      { client = "airflow", server = "database" },
      ] : "${pair.client}-to-${pair.server}" => merge(pair, {
        port = pair.server == "database" ? local.database_port : local.services[pair.server].port
    })
  }
}
