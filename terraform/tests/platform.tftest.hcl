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

run "contract" {
  command = plan

  assert {
    condition     = keys(aws_instance.host) == ["airflow", "mlflow", "serving"]
    error_message = "hosts are [${join(", ", keys(aws_instance.host))}]"
  }

  assert {
    condition     = { for name, host in aws_instance.host : name => host.tags.Roles } == { mlflow = "mlflow", airflow = "airflow", serving = "dashboard model_api" }
    error_message = "the Roles tags make the inventory's groups"
  }

  assert {
    condition     = aws_instance.host["serving"].tags.Name == "lastro-test-serving"
    error_message = "the Name tag is the inventory's host name: <project>-<environment>-<host>"
  }

  assert {
    condition     = aws_instance.host["serving"].vpc_security_group_ids == toset(["sg-dashboard", "sg-model_api"])
    error_message = "a host wears the group of each of its roles, and no other"
  }

  assert {
    condition     = keys(output.platform) == ["access", "buckets", "database", "environment", "hosts", "project", "region", "secrets", "services"]
    error_message = "platform has [${join(", ", keys(output.platform))}]; Ansible reads it by these names"
  }

  assert {
    condition     = keys(output.platform.database) == ["address", "engine_version", "master_secret_arn", "port"]
    error_message = "platform.database has [${join(", ", keys(output.platform.database))}]"
  }

  assert {
    condition = alltrue([
      for host in output.platform.hosts :
      keys(host) == ["instance_id", "instance_type", "memory_mib", "private_ip", "roles", "vcpus"]
    ])
    error_message = "platform.hosts[*] lost or gained a key"
  }

  assert {
    condition     = output.platform.buckets == { artifacts = "lastro-test-artifacts-111122223333", dags = "lastro-test-dags-111122223333" }
    error_message = "platform.buckets must be the names of both buckets"
  }

  assert {
    condition     = keys(output.platform.secrets) == ["airflow", "dashboard", "mlflow", "model_api"]
    error_message = "platform.secrets has [${join(", ", keys(output.platform.secrets))}]"
  }

  assert {
    condition = output.platform.services == {
      mlflow    = { port = 5000 }
      airflow   = { port = 8080 }
      model_api = { port = 8000 }
      dashboard = { port = 8501 }
    }
    error_message = "platform.services must be the services and their ports"
  }

  assert {
    condition = { for service, keys in local.secret_keys : service => keys(keys) } == {
      mlflow    = ["admin_password", "auth_database_password", "database_password", "flask_secret_key"]
      airflow   = ["admin_password", "api_secret_key", "database_password", "fernet_key", "jwt_secret", "mlflow_password"]
      model_api = ["bearer_key", "mlflow_password"]
      dashboard = ["cookie_secret"]
    }
    error_message = "the keys of the secrets are part of the contract"
  }

  assert {
    condition     = output.platform.access == { document = "lastro-test-authorize" }
    error_message = "platform.access must name the document that lets the controller in"
  }

  assert {
    condition     = length(aws_secretsmanager_secret_version.service) == length(local.secret_keys)
    error_message = "every secret must be written"
  }

  assert {
    condition = yamldecode(output.inventory) == {
      plugin          = "amazon.aws.aws_ec2"
      strict          = true
      regions         = ["eu-west-1"]
      filters         = { "tag:Project" = "lastro", "tag:Environment" = "test", "instance-state-name" = "running" }
      hostnames       = ["tag:Name"]
      hostvars_prefix = "aws_"
      keyed_groups    = [{ key = "aws_ec2_tags.Roles | split", prefix = "", separator = "" }]
      compose         = { lastro_private_ip = "aws_private_ip_address", ec2_instance_id = "aws_instance_id" }
    }
    error_message = "the inventory must find this environment's running hosts, grouped by role"
  }
}

run "secure_by_default" {
  command = plan

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_ingress_rule.component :
      "${rule.referenced_security_group_id} -> ${rule.security_group_id}:${rule.from_port}-${rule.to_port}/${rule.ip_protocol}"
      ]) == toset([
      "sg-airflow -> sg-mlflow:5000-5000/tcp",
      "sg-model_api -> sg-mlflow:5000-5000/tcp",
      "sg-dashboard -> sg-mlflow:5000-5000/tcp",
      "sg-dashboard -> sg-model_api:8000-8000/tcp",
      "sg-mlflow -> sg-database:5432-5432/tcp",
      "sg-airflow -> sg-database:5432-5432/tcp",
    ])
    error_message = "these connections and no others may come in"
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_egress_rule.component :
      "${rule.security_group_id} -> ${rule.referenced_security_group_id}:${rule.from_port}-${rule.to_port}/${rule.ip_protocol}"
      ]) == toset([
      for rule in aws_vpc_security_group_ingress_rule.component :
      "${rule.referenced_security_group_id} -> ${rule.security_group_id}:${rule.from_port}-${rule.to_port}/${rule.ip_protocol}"
    ])
    error_message = "what may come in must be let out at the other end"
  }

  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.component : rule.cidr_ipv4 == null && rule.cidr_ipv6 == null
    ])
    error_message = "no address from outside may open a connection"
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_egress_rule.web : "${rule.security_group_id}:${rule.from_port}-${rule.to_port}"
      ]) == toset([
      for pair in setproduct(["sg-mlflow", "sg-airflow", "sg-model_api", "sg-dashboard"], ["80-80", "443-443"]) : "${pair[0]}:${pair[1]}"
    ])
    error_message = "hosts reach the internet on ports 80 and 443 only, the database not at all"
  }

  assert {
    condition = { for name, parameter in jsondecode(aws_ssm_document.authorize.content).parameters : name => parameter.allowedPattern } == {
      publicKey  = "^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$"
      validUntil = "^[0-9]{14}Z$"
    }
    error_message = "what becomes part of a script that root runs must be a key and a time, and nothing else"
  }

  assert {
    condition = alltrue([
      for host in aws_instance.host :
      startswith(host.user_data, "#cloud-config\n") && yamldecode(host.user_data).runcmd[0][2] == local.ssm_agent.version
    ])
    error_message = "hosts must come up with the pinned agent"
  }

  assert {
    condition     = alltrue([for host in aws_instance.host : one(host.metadata_options).http_tokens == "required"])
    error_message = "the metadata service must ask for a token (IMDSv2)"
  }

  assert {
    condition     = alltrue([for host in aws_instance.host : one(host.metadata_options).http_put_response_hop_limit == 1])
    error_message = "the metadata service must not answer beyond the host itself"
  }

  assert {
    condition     = alltrue([for host in aws_instance.host : one(host.root_block_device).encrypted])
    error_message = "disks must be encrypted"
  }

  assert {
    condition     = keys(aws_iam_role_policy.buckets) == ["airflow", "mlflow"]
    error_message = "only the hosts of MLflow and Airflow may reach a bucket"
  }

  assert {
    condition = local.bucket_access == {
      mlflow  = { bucket = "artifacts", object_actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] }
      airflow = { bucket = "dags", object_actions = ["s3:GetObject"] }
    }
    error_message = "MLflow reads and writes artifacts, Airflow reads DAGs, nobody does more"
  }

  assert {
    condition     = aws_db_instance.main.storage_encrypted && !aws_db_instance.main.publicly_accessible
    error_message = "the database must be encrypted and private"
  }

  assert {
    condition     = aws_db_instance.main.manage_master_user_password && aws_db_instance.main.password == null
    error_message = "RDS must draw and keep the master password"
  }

  assert {
    condition     = { for parameter in aws_db_parameter_group.main.parameter : parameter.name => parameter.value } == { "rds.force_ssl" = "1" }
    error_message = "connections without TLS must be refused"
  }

  assert {
    condition     = aws_db_instance.main.deletion_protection && !aws_db_instance.main.skip_final_snapshot && aws_db_instance.main.backup_retention_period == 7
    error_message = "unless told otherwise, the database is protected, backed up, and leaves a snapshot"
  }

  assert {
    condition = alltrue([
      for block in aws_s3_bucket_public_access_block.main :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.main) == 2
    error_message = "both buckets must refuse every kind of public access"
  }

  assert {
    condition     = [for versioning in aws_s3_bucket_versioning.main : one(versioning.versioning_configuration).status] == ["Enabled", "Enabled"]
    error_message = "both buckets must keep versions"
  }

  assert {
    condition     = keys(aws_s3_bucket_policy.tls_only) == ["artifacts", "dags"]
    error_message = "both buckets must have the TLS-only policy"
  }

  assert {
    condition = alltrue([
      for document in data.aws_iam_policy_document.tls_only :
      one(document.statement).effect == "Deny" && one(one(document.statement).condition).variable == "aws:SecureTransport"
    ])
    error_message = "connections without TLS must be denied"
  }

  assert {
    condition     = !anytrue([for bucket in aws_s3_bucket.main : bucket.force_destroy])
    error_message = "unless told otherwise, a bucket that holds objects cannot be destroyed"
  }

  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.service : secret.recovery_window_in_days == 30])
    error_message = "unless told otherwise, a deleted secret can be restored for 30 days"
  }

  assert {
    condition     = alltrue([for password in local.passwords : password.length >= 32])
    error_message = "no password may be shorter than 32 characters"
  }

  assert {
    condition     = alltrue([for version in aws_secretsmanager_secret_version.service : version.secret_string == null])
    error_message = "secret values must not reach the state"
  }
}

run "layout_on_one_host" {
  command = plan

  variables {
    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard"] }
    }
  }

  assert {
    condition     = aws_instance.host["all"].vpc_security_group_ids == toset(["sg-mlflow", "sg-airflow", "sg-model_api", "sg-dashboard"])
    error_message = "the host must wear the group of every role"
  }

  assert {
    condition     = aws_instance.host["all"].tags.Roles == "airflow dashboard mlflow model_api"
    error_message = "Roles = \"${aws_instance.host["all"].tags.Roles}\""
  }

  assert {
    condition     = local.bucket_roles == { all = toset(["mlflow", "airflow"]) }
    error_message = "the host's policy must hold what MLflow and Airflow need of S3"
  }
}

run "layout_scaled_out" {
  command = plan

  variables {
    hosts = {
      mlflow    = { instance_type = "t3.medium", roles = ["mlflow"], disk_gib = 50 }
      airflow   = { instance_type = "t3.large", roles = ["airflow"] }
      api-1     = { instance_type = "t3.small", roles = ["model_api"] }
      api-2     = { instance_type = "t3.small", roles = ["model_api"], zone = 2 }
      dashboard = { instance_type = "t3.small", roles = ["dashboard"] }
    }

    vpc_cidr = "172.16.16.0/20"
  }

  override_resource {
    target          = aws_subnet.public["2"]
    override_during = plan
    values          = { id = "subnet-2" }
  }

  assert {
    condition     = keys(output.platform.hosts) == ["airflow", "api-1", "api-2", "dashboard", "mlflow"]
    error_message = "every host belongs in the contract"
  }

  assert {
    condition     = aws_instance.host["api-2"].subnet_id == "subnet-2"
    error_message = "zone = 2 must put a host into the second zone"
  }

  assert {
    condition     = one(aws_instance.host["mlflow"].root_block_device).volume_size == 50
    error_message = "disk_gib must size the disk"
  }

  assert {
    condition = toset(concat(
      [for subnet in aws_subnet.public : subnet.cidr_block],
      [for subnet in aws_subnet.private : subnet.cidr_block],
    )) == toset(["172.16.16.0/24", "172.16.17.0/24", "172.16.24.0/24", "172.16.25.0/24"])
    error_message = "subnets must not overlap and must leave the last /24 of the range alone"
  }

  assert {
    condition     = [for subnet in aws_subnet.public : subnet.availability_zone] == ["eu-west-1a", "eu-west-1b"]
    error_message = "subnets must stand in two zones"
  }
}
