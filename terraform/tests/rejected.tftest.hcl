# Input that must be refused. A run lists what it expects to fail, so that each rule is missed when it goes; the rules of
# hosts, all of one variable, take a run each.

mock_provider "aws" {
  source = "./tests/mocks"
}

# Real, since a mocked provider cannot hold ephemeral resources, but never called: a plan of a new environment draws no
# password (see secrets.tf).
provider "aws" {
  alias                       = "ephemeral"
  region                      = "eu-west-1"
  access_key                  = "unused"
  secret_key                  = "unused"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

variables {
  environment = "test"
  vpc_cidr    = "10.43.0.0/16"
}

run "reject_role_unknown" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "grafana"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_host_without_role" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      spare   = { instance_type = "t3.small", roles = [] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_host_name_with_capitals" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      "Spare" = { instance_type = "t3.small", roles = ["dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_mlflow_nowhere" {
  command = plan

  variables {
    hosts = {
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_mlflow_twice" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      second  = { instance_type = "t3.small", roles = ["mlflow"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_airflow_nowhere" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_airflow_twice" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      second  = { instance_type = "t3.small", roles = ["airflow"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_model_api_nowhere" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_dashboard_nowhere" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_instance_type_that_is_none" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_disk_too_small" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"], disk_gib = 4 }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_third_zone" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"], zone = 3 }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_airflow_on_small_memory" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.micro", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  override_data {
    target = data.aws_ec2_instance_type.main["t3.micro"]
    values = {
      memory_size             = 1024
      supported_architectures = ["x86_64"]
    }
  }

  expect_failures = [aws_instance.host["airflow"]]
}

run "reject_worker_on_small_memory" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      trainer = { instance_type = "t3.micro", roles = ["airflow_worker"] }
    }
  }

  # A t3.nano, were it offered here.
  override_data {
    target = data.aws_ec2_instance_type.main["t3.micro"]
    values = {
      memory_size             = 512
      supported_architectures = ["x86_64"]
    }
  }

  expect_failures = [aws_instance.host["trainer"]]
}

run "reject_worker_without_airflow" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      trainer = { instance_type = "t3.small", roles = ["airflow_worker"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_more_roles_than_a_host_can_wear_groups" {
  command = plan

  variables {
    domain = { name = "lastro.example.com" }

    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "airflow_worker", "model_api", "dashboard", "edge"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_arm_host" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t4g.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  override_data {
    target = data.aws_ec2_instance_type.main["t4g.small"]
    values = {
      memory_size             = 2048
      supported_architectures = ["arm64"]
    }
  }

  expect_failures = [aws_instance.host["mlflow"]]
}

run "reject_type_not_offered_in_the_zone" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"], zone = 2 }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
    }
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.main
    values = {
      instance_types = ["t3.small", "t4g.micro", "t4g.micro"]
      locations      = ["eu-west-1a", "eu-west-1a", "eu-west-1b"]
    }
  }

  expect_failures = [data.aws_ec2_instance_type_offerings.main]
}

run "reject_database_class_not_offered" {
  command = plan

  variables {
    database = { instance_class = "db.t4g.mirco" }
  }

  expect_failures = [data.aws_ec2_instance_type_offerings.main]
}

run "reject_edge_without_domain" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "edge"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_domain_without_edge" {
  command = plan

  variables {
    domain = { name = "lastro.example.com" }
  }

  expect_failures = [var.hosts]
}

run "reject_edge_twice" {
  command = plan

  variables {
    domain = { name = "lastro.example.com" }

    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow", "edge"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "edge"] }
    }
  }

  expect_failures = [var.hosts]
}

run "reject_malformed" {
  command = plan

  variables {
    project       = "Lastro"
    environment   = "pre-prod"
    region        = "eu-west-1a"
    account_id    = "1234"
    vpc_cidr      = "10.43.0.0"
    domain        = { name = "lastro" }
    database      = { instance_class = "t4g.micro" }
    alerts        = { emails = ["nobody"] }
    snapshot_days = 1.5
  }

  # Terraform does not get to the rules of hosts and data_scientists, which look at domain and hosts.
  expect_failures = [
    var.project,
    var.environment,
    var.region,
    var.account_id,
    var.vpc_cidr,
    var.domain,
    var.database,
    var.alerts,
    var.snapshot_days,
  ]
}

run "reject_zone_of_another_domain" {
  command = plan

  variables {
    domain = { name = "lastro.example.com", zone = "ample.com" }

    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard", "edge"] }
    }
  }

  expect_failures = [var.domain]
}

run "reject_visitors_from_a_host_address" {
  command = plan

  variables {
    domain = { name = "lastro.example.com", allow_from = ["203.0.113.7/24"] }

    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard", "edge"] }
    }
  }

  expect_failures = [var.domain]
}

run "reject_visitors_from_nowhere" {
  command = plan

  variables {
    domain = { name = "lastro.example.com", allow_from = [] }

    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard", "edge"] }
    }
  }

  expect_failures = [var.domain]
}

run "reject_almost_right" {
  command = plan

  variables {
    project         = "lastro-"
    environment     = "productionx"
    data_scientists = ["arn:aws:iam::123456789012:root"]
    vpc_cidr        = "10.43.0.1/16"
    database        = { storage_gib = 200, max_storage_gib = 100 }
  }

  expect_failures = [
    var.project,
    var.environment,
    var.vpc_cidr,
    var.database,
    var.data_scientists,
  ]
}

run "reject_too_small" {
  command = plan

  variables {
    vpc_cidr                    = "10.43.0.0/24"
    database                    = { storage_gib = 5 }
    buckets                     = { noncurrent_days = { artifacts = 0 } }
    alerts                      = { monthly_budget_usd = -1 }
    snapshot_days               = -1
    secret_recovery_window_days = 3
  }

  expect_failures = [
    var.vpc_cidr,
    var.database,
    var.buckets,
    var.alerts,
    var.snapshot_days,
    var.secret_recovery_window_days,
  ]
}

run "reject_unsafe" {
  command = plan

  variables {
    vpc_cidr = "52.16.0.0/16"
    database = { backup_days = 0 }
    buckets  = { noncurrent_days = { dags = 30 } }
    # The key of people has this name.
    model_api_clients = ["shop", "default"]
  }

  expect_failures = [
    var.vpc_cidr,
    var.database,
    var.buckets,
    var.model_api_clients,
  ]
}

run "reject_predictions_that_never_expire" {
  command = plan

  variables {
    buckets = { predictions_days = 0 }
  }

  expect_failures = [var.buckets]
}
