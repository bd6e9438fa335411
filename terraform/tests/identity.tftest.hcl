# Who may do what. What the policies say word by word is compared in tests/iam, where AWS's language is evaluated, too.

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

run "hosts_may_do_what_their_roles_need" {
  command = plan

  assert {
    condition = { for host, permissions in local.host_permissions : host => keys(permissions) } == {
      airflow = ["agent", "airflow-batch", "airflow-list", "airflow-list-batch", "airflow-objects"]
      mlflow  = ["agent", "mlflow-list", "mlflow-objects"]
      serving = ["agent", "dashboard-list-predictions", "dashboard-predictions", "model_api-predictions"]
    }
    error_message = "permissions: ${jsonencode({ for host, permissions in local.host_permissions : host => keys(permissions) })}"
  }

  assert {
    condition = jsonencode(local.role_permissions.edge) == jsonencode({
      metrics = {
        actions    = ["cloudwatch:PutMetricData"]
        resources  = ["*"]
        conditions = [{ test = "StringEquals", variable = "cloudwatch:namespace", values = ["Lastro"] }]
      }
    })
    error_message = "edge: ${jsonencode(local.role_permissions.edge)}"
  }

  assert {
    condition     = length(aws_iam_role.data_scientist) == 0 && length(aws_iam_role_policy.data_scientist) == 0
    error_message = "without data scientists there must be no role for them"
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.host : role.permissions_boundary == null])
    error_message = "an account without a boundary must not be asked for one"
  }
}

run "one_host_may_do_what_all_need" {
  command = plan

  variables {
    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard"] }
    }
  }

  assert {
    condition = keys(local.host_permissions.all) == [
      "agent", "airflow-batch", "airflow-list", "airflow-list-batch", "airflow-objects", "dashboard-list-predictions",
      "dashboard-predictions", "mlflow-list", "mlflow-objects", "model_api-predictions",
    ]
    error_message = "a host's permissions must be the union of its roles'"
  }
}

run "a_worker_may_do_what_its_tasks_need" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
      trainer = { instance_type = "t3.small", roles = ["airflow_worker"] }
    }
  }

  assert {
    condition = keys(local.host_permissions.trainer) == [
      "agent", "airflow_worker-batch", "airflow_worker-list", "airflow_worker-list-batch", "airflow_worker-objects",
    ]
    error_message = "trainer: ${jsonencode(keys(local.host_permissions.trainer))}"
  }

  # Where there is no worker any more, tasks run on Airflow's host.
  assert {
    condition     = keys(local.host_permissions.airflow) == ["agent", "airflow-batch", "airflow-list", "airflow-list-batch", "airflow-objects"]
    error_message = "airflow: ${jsonencode(keys(local.host_permissions.airflow))}"
  }
}

run "data_scientists" {
  command = plan

  variables {
    permissions_boundary = "lastro-boundary"
    data_scientists      = ["arn:aws:iam::111122223333:user/ana", "arn:aws:iam::111122223333:role/analysts"]
  }

  assert {
    condition     = aws_iam_role.data_scientist[0].name == "lastro-test-data-scientist"
    error_message = "the role is called ${aws_iam_role.data_scientist[0].name}"
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.data_scientists_assume.statement :
      one(one(statement.principals).identifiers) => [for condition in statement.condition : condition.variable]
      } == {
      "arn:aws:iam::111122223333:user/ana"      = ["aws:MultiFactorAuthPresent"]
      "arn:aws:iam::111122223333:role/analysts" = []
    }
    error_message = "a user must show a second factor, a role cannot"
  }

  assert {
    condition = alltrue([
      for role in concat(values(aws_iam_role.host), aws_iam_role.data_scientist) :
      role.permissions_boundary == "arn:aws:iam::111122223333:policy/lastro-boundary"
    ])
    error_message = "every role must have the account's boundary"
  }
}

run "reject_whole_account" {
  command = plan

  variables {
    data_scientists = ["arn:aws:iam::111122223333:root"]
  }

  expect_failures = [var.data_scientists]
}

run "reject_wildcard" {
  command = plan

  variables {
    data_scientists = ["arn:aws:iam::111122223333:role/*"]
  }

  expect_failures = [var.data_scientists]
}

run "reject_host_named_like_the_role" {
  command = plan

  variables {
    data_scientists = ["arn:aws:iam::111122223333:role/analysts"]
    hosts = {
      data-scientist = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard"] }
    }
  }

  expect_failures = [var.data_scientists]
}

run "reject_boundary_by_arn" {
  command = plan

  variables {
    permissions_boundary = "arn:aws:iam::111122223333:policy/lastro-boundary"
  }

  expect_failures = [var.permissions_boundary]
}
