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
    condition     = keys(output.platform) == ["access", "account_id", "buckets", "database", "domain", "environment", "hosts", "metrics", "model_api_clients", "prefixes", "project", "region", "secrets", "services"]
    error_message = "platform has [${join(", ", keys(output.platform))}]; Ansible reads it by these names"
  }

  assert {
    condition     = keys(output.platform.database) == ["address", "engine_version", "master_secret_arn", "port"]
    error_message = "platform.database has [${join(", ", keys(output.platform.database))}]"
  }

  assert {
    condition = alltrue([
      for host in output.platform.hosts :
      keys(host) == ["instance_id", "instance_type", "memory_mib", "name", "private_ip", "roles", "vcpus"]
    ])
    error_message = "platform.hosts[*] lost or gained a key"
  }

  assert {
    condition     = output.platform.account_id == "111122223333" && output.platform.domain == "" && output.dns_records == {}
    error_message = "platform must name the account, and without a domain there is none and no records"
  }

  assert {
    condition     = output.platform.buckets == { artifacts = "lastro-test-artifacts-111122223333", dags = "lastro-test-dags-111122223333" }
    error_message = "platform.buckets must be the names of both buckets"
  }

  assert {
    condition     = keys(output.platform.secrets) == keys(local.secret_keys)
    error_message = "platform.secrets has [${join(", ", keys(output.platform.secrets))}]"
  }

  assert {
    condition = { for role, service in output.platform.services : role => service.port } == {
      mlflow    = 5000
      airflow   = 8080
      model_api = 8000
      dashboard = 8501
    }
    error_message = "platform.services must be the services and their ports"
  }

  assert {
    condition = alltrue([
      for service in output.platform.services : keys(service) == [
        "aws", "connects_to", "count", "endpoints", "health_path", "hosts", "login", "memory", "page", "port", "position", "public_name",
        "public_url", "ready", "release", "secrets", "site", "title", "units",
      ]
    ])
    error_message = "platform.services[*] lost or gained a key"
  }

  assert {
    condition = jsonencode({ for role, service in output.platform.services : role => service.hosts }) == jsonencode({
      mlflow = ["mlflow"], airflow = ["airflow"], model_api = ["serving"], dashboard = ["serving"]
    })
    error_message = "each service must name its hosts"
  }

  assert {
    condition     = { for role, service in output.platform.services : role => service.public_url if service.public_url != null } == {}
    error_message = "without a domain no service has a public URL"
  }

  assert {
    condition     = { for name, host in output.platform.hosts : name => host.name } == { for name, host in aws_instance.host : name => host.tags.Name }
    error_message = "the contract must name each host as the inventory does"
  }

  assert {
    condition     = output.platform.prefixes == { artifacts = "mlflow", batch = "batch", dags = "dags", predictions = "predictions" }
    error_message = "a folder that moves leaves what is in it behind"
  }

  assert {
    condition     = output.platform.metrics == { namespace = "Lastro" }
    error_message = "the boundary of CI (bootstrap/) names this namespace"
  }

  assert {
    condition = alltrue([
      for name, expected in {
        mlflow          = ["admin_password", "auth_database_password", "database_password", "flask_secret_key"]
        mlflow_webhooks = ["fernet_key"]
        airflow         = ["admin_password", "api_secret_key", "database_password", "fernet_key", "jwt_secret", "mlflow_password"]
        model_api       = ["bearer_key", "mlflow_password"]
        dashboard       = ["airflow_password", "cookie_secret", "model_api_key"]
      } : toset(keys(local.secret_keys[name])) == toset(expected)
    ])
    error_message = "a secret that platforms have must keep its keys: another one would be drawn again as a whole"
  }

  assert {
    condition     = output.platform.access == { document = "lastro-test-authorize" }
    error_message = "platform.access must name the document that lets the controller in"
  }

  assert {
    condition     = output.platform.model_api_clients == {}
    error_message = "by default people and the dashboard are the model API's only clients"
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
      keyed_groups    = [{ key = "aws_ec2_tags.Roles | split", parent_group = "platform", prefix = "", separator = "" }]
      compose         = { lastro_private_ip = "aws_private_ip_address", ec2_instance_id = "aws_instance_id" }
    }
    error_message = "the inventory must find this environment's running hosts, grouped by role"
  }
}

run "clients_of_the_model_api" {
  command = plan

  variables {
    model_api_clients = ["shop", "nightly-report"]
  }

  assert {
    condition = (
      keys(output.platform.model_api_clients) == ["nightly-report", "shop"]
      && keys(aws_secretsmanager_secret_version.model_api_client) == ["nightly-report", "shop"]
    )
    error_message = "each client has a secret of its own"
  }

  assert {
    condition     = keys(output.platform.secrets) == keys(local.secret_keys)
    error_message = "a client's secret is none of a service"
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
      "sg-dashboard -> sg-airflow:8080-8080/tcp",
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
    condition     = length(aws_vpc_security_group_ingress_rule.visitors) + length(aws_vpc_security_group_ingress_rule.redirect) + length(aws_eip.edge) == 0
    error_message = "without a domain nobody comes in"
  }

  assert {
    condition     = toset(keys(aws_security_group.component)) == toset(concat(keys(local.catalogue), ["database"]))
    error_message = "every role must have its group, also before a host has it and after: one cannot be deleted while a host wears it"
  }

  assert {
    condition     = aws_vpc_endpoint.s3.route_table_ids == toset(["rtb-public"])
    error_message = "the way to S3 belongs to the hosts' route table"
  }

  assert {
    condition = alltrue([
      for association in aws_route_table_association.database :
      association.subnet_id == "subnet-database" && association.route_table_id == "rtb-database"
    ]) && aws_route.internet.route_table_id == "rtb-public" && length(aws_route.nat) == 0
    error_message = "the database's subnets must lead nowhere"
  }

  assert {
    condition     = aws_db_subnet_group.main.subnet_ids == toset(["subnet-database"])
    error_message = "the database stands in subnets of its own"
  }

  assert {
    condition     = aws_flow_log.rejected.traffic_type == "REJECT"
    error_message = "what the security groups turn away must be on record"
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
    condition     = aws_db_instance.main.auto_minor_version_upgrade && !coalesce(aws_db_instance.main.allow_major_version_upgrade, false)
    error_message = "minor versions come by themselves, major ones never"
  }

  assert {
    condition     = aws_db_instance.main.performance_insights_enabled && aws_db_instance.main.performance_insights_retention_period == 7
    error_message = "Performance Insights must be on for the seven days that are free"
  }

  assert {
    condition     = aws_db_instance.main.enabled_cloudwatch_logs_exports == toset(["postgresql", "upgrade"])
    error_message = "the database's logs must leave it"
  }

  assert {
    condition = alltrue([
      for group in concat(values(aws_cloudwatch_log_group.database), [aws_cloudwatch_log_group.rejected]) : group.retention_in_days == 30
      ]) && toset([for group in aws_cloudwatch_log_group.database : group.name]) == toset([
      "/aws/rds/instance/lastro-test/postgresql", "/aws/rds/instance/lastro-test/upgrade",
    ])
    error_message = "logs must go into groups that forget"
  }

  assert {
    condition = { for name, lifecycle in aws_s3_bucket_lifecycle_configuration.main :
      name => [for rule in lifecycle.rule : one(rule.noncurrent_version_expiration).noncurrent_days]
    } == { artifacts = [90, 1], dags = [365] }
    error_message = "old versions go, those of DAGs only when no run can need them any more"
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.main["artifacts"].rule :
      [one(rule.filter).prefix, tostring(one(rule.expiration).days)] if rule.id == "expire-predictions"
    ] == [["predictions/", "90"]]
    error_message = "logged predictions, and nothing else, must expire"
  }

  assert {
    condition     = alltrue([for lifecycle in aws_s3_bucket_lifecycle_configuration.main : one(lifecycle.rule[0].abort_incomplete_multipart_upload).days_after_initiation == 7])
    error_message = "uploads that were given up must go"
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
    condition     = one(one(aws_dlm_lifecycle_policy.hosts[0].policy_details).schedule).retain_rule[0].count == 7
    error_message = "unless told otherwise, disks have snapshots of seven days"
  }

  assert {
    condition = alltrue([
      for host in aws_instance.host : host.tags.Snapshots == one(aws_dlm_lifecycle_policy.hosts[0].policy_details).target_tags.Snapshots
    ])
    error_message = "snapshots are made of what carries the tag: every host must"
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
    condition     = [for subnet in aws_subnet.public : subnet.availability_zone] == ["eu-west-1a", "eu-west-1b"]
    error_message = "subnets must stand in two zones"
  }
}

run "layout_with_airflow_workers" {
  command = plan

  variables {
    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "airflow_worker"] }
      trainer = { instance_type = "t3.micro", roles = ["airflow_worker"], zone = 2 }
    }
  }

  # The least that a worker needs.
  override_data {
    target = data.aws_ec2_instance_type.main["t3.micro"]
    values = {
      memory_size                     = 1024
      default_vcpus                   = 2
      supported_architectures         = ["x86_64"]
      burstable_performance_supported = true
    }
  }

  assert {
    condition     = output.platform.services.airflow_worker.port == null && length(output.platform.services.airflow_worker.endpoints) == 0
    error_message = "a worker is a service without a port"
  }

  assert {
    condition     = output.platform.hosts["serving"].roles == tolist(["airflow_worker", "dashboard", "model_api"])
    error_message = "roles are [${join(", ", output.platform.hosts["serving"].roles)}]"
  }

  assert {
    condition = (
      aws_instance.host["trainer"].tags.Roles == "airflow_worker"
      && aws_instance.host["trainer"].vpc_security_group_ids == toset(["sg-airflow_worker"])
      && aws_instance.host["serving"].vpc_security_group_ids == toset(["sg-airflow_worker", "sg-dashboard", "sg-model_api"])
    )
    error_message = "a worker is a role like the others, alone or beside them"
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_ingress_rule.component :
      "${rule.referenced_security_group_id} -> ${rule.security_group_id}:${rule.from_port}-${rule.to_port}/${rule.ip_protocol}"
      ]) == toset([
      "sg-airflow -> sg-mlflow:5000-5000/tcp",
      "sg-airflow_worker -> sg-airflow:8080-8080/tcp",
      "sg-airflow_worker -> sg-mlflow:5000-5000/tcp",
      "sg-model_api -> sg-mlflow:5000-5000/tcp",
      "sg-dashboard -> sg-mlflow:5000-5000/tcp",
      "sg-dashboard -> sg-airflow:8080-8080/tcp",
      "sg-dashboard -> sg-model_api:8000-8000/tcp",
      "sg-mlflow -> sg-database:5432-5432/tcp",
      "sg-airflow -> sg-database:5432-5432/tcp",
    ])
    error_message = "a worker reaches Airflow and MLflow, and not the database; nobody reaches a worker"
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_egress_rule.component : "${rule.referenced_security_group_id}:${rule.from_port}-${rule.to_port}"
      if rule.security_group_id == "sg-airflow_worker"
    ]) == toset(["sg-airflow:8080-8080", "sg-mlflow:5000-5000"])
    error_message = "a worker must be let out to Airflow and MLflow, and nowhere else among ours"
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_egress_rule.web : "${rule.from_port}-${rule.to_port}" if rule.security_group_id == "sg-airflow_worker"
    ]) == toset(["80-80", "443-443"])
    error_message = "a worker reaches the internet as every host does"
  }

  assert {
    condition     = contains(keys(aws_cloudwatch_metric_alarm.host_status), "trainer")
    error_message = "a worker's host is watched"
  }
}

run "layout_with_a_worker_beside_airflow" {
  command = plan

  variables {
    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "airflow_worker", "model_api", "dashboard"] }
    }
  }

  assert {
    condition     = keys(output.platform.services) == ["airflow", "airflow_worker", "dashboard", "mlflow", "model_api"]
    error_message = "services are [${join(", ", keys(output.platform.services))}]"
  }
}

run "layout_private" {
  command = plan

  variables {
    vpc_cidr      = "172.16.16.0/20"
    private_hosts = true
    domain        = { name = "lastro.example.com", zone = "example.com", allow_from = ["203.0.113.0/24"] }

    hosts = {
      mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
      airflow = { instance_type = "t3.small", roles = ["airflow"] }
      serving = { instance_type = "m6i.large", roles = ["model_api", "dashboard"], zone = 2 }
      edge    = { instance_type = "t3.micro", roles = ["edge"] }
    }
  }

  override_data {
    target = data.aws_ec2_instance_type.main["m6i.large"]
    values = {
      memory_size                     = 8192
      supported_architectures         = ["x86_64"]
      burstable_performance_supported = false
    }
  }

  assert {
    condition = { for name, host in aws_instance.host : name => host.subnet_id } == {
      mlflow  = "subnet-private-hosts"
      airflow = "subnet-private-hosts"
      serving = "subnet-private-hosts"
      edge    = "subnet-public"
    }
    error_message = "every host but the edge's must stand in a private subnet"
  }

  assert {
    condition     = aws_route.nat[0].route_table_id == "rtb-private-hosts" && aws_nat_gateway.main[0].subnet_id == "subnet-public"
    error_message = "private hosts reach the internet through the NAT gateway"
  }

  assert {
    condition = alltrue([
      for association in aws_route_table_association.private_hosts :
      association.subnet_id == "subnet-private-hosts" && association.route_table_id == "rtb-private-hosts"
    ]) && length(aws_route_table_association.private_hosts) == 2
    error_message = "both private subnets must lead to the NAT gateway"
  }

  assert {
    condition     = aws_vpc_endpoint.s3.route_table_ids == toset(["rtb-public", "rtb-private-hosts"])
    error_message = "objects must not travel through the NAT gateway, which bills them"
  }

  assert {
    condition = alltrue([
      for association in aws_route_table_association.database :
      association.subnet_id == "subnet-database" && association.route_table_id == "rtb-database"
    ])
    error_message = "the database's subnets must lead nowhere"
  }

  assert {
    condition = toset(concat(
      [for subnet in aws_subnet.public : subnet.cidr_block],
      [for subnet in aws_subnet.private_hosts : subnet.cidr_block],
      [for subnet in aws_subnet.database : subnet.cidr_block],
      )) == toset([
      "172.16.16.0/24", "172.16.17.0/24", "172.16.20.0/24", "172.16.21.0/24", "172.16.24.0/24", "172.16.25.0/24",
    ])
    error_message = "subnets must not overlap and must leave the last /24 of the range alone"
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_ingress_rule.component :
      "${rule.referenced_security_group_id} -> ${rule.security_group_id}:${rule.from_port}-${rule.to_port}/${rule.ip_protocol}"
      ]) == toset([
      "sg-airflow -> sg-mlflow:5000-5000/tcp",
      "sg-model_api -> sg-mlflow:5000-5000/tcp",
      "sg-dashboard -> sg-mlflow:5000-5000/tcp",
      "sg-dashboard -> sg-airflow:8080-8080/tcp",
      "sg-dashboard -> sg-model_api:8000-8000/tcp",
      "sg-edge -> sg-mlflow:5000-5000/tcp",
      "sg-edge -> sg-airflow:8080-8080/tcp",
      "sg-edge -> sg-model_api:8000-8000/tcp",
      "sg-edge -> sg-dashboard:8501-8501/tcp",
      "sg-mlflow -> sg-database:5432-5432/tcp",
      "sg-airflow -> sg-database:5432-5432/tcp",
    ])
    error_message = "the edge adds its own connections to those of public hosts, and nothing else"
  }

  assert {
    condition = toset([
      for rule in concat(values(aws_vpc_security_group_ingress_rule.visitors), aws_vpc_security_group_ingress_rule.redirect) :
      "${rule.cidr_ipv4} -> ${rule.security_group_id}:${rule.from_port}-${rule.to_port}"
    ]) == toset(["203.0.113.0/24 -> sg-edge:443-443", "0.0.0.0/0 -> sg-edge:80-80"])
    error_message = "visitors come from where they may, to the edge alone; port 80 is open to all"
  }

  assert {
    condition = output.dns_records == {
      "lastro.example.com"         = "198.51.100.7"
      "mlflow.lastro.example.com"  = "198.51.100.7"
      "airflow.lastro.example.com" = "198.51.100.7"
      "api.lastro.example.com"     = "198.51.100.7"
      } && output.dns_records == {
      for name, record in aws_route53_record.domain : name => one(record.records) if record.zone_id == "Z0123456789ABCDEFGHIJ" && record.type == "A"
    }
    error_message = "every name must lead to the edge's address"
  }

  assert {
    condition     = output.platform.domain == "lastro.example.com" && output.platform.services.edge.port == 443
    error_message = "Ansible must learn of the domain and the edge"
  }

  assert {
    condition = { for role, service in output.platform.services : role => service.public_url } == {
      mlflow    = "https://mlflow.lastro.example.com"
      airflow   = "https://airflow.lastro.example.com"
      model_api = "https://api.lastro.example.com"
      dashboard = "https://lastro.example.com"
      edge      = null
    }
    error_message = "each service that people reach must have its public URL"
  }

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.host_credits) == ["airflow", "edge", "mlflow"] && keys(aws_cloudwatch_metric_alarm.host_status) == ["airflow", "edge", "mlflow", "serving"]
    error_message = "every host is watched, and the credits of those that have any"
  }
}

run "domain_with_dns_elsewhere" {
  command = plan

  variables {
    domain = { name = "lastro.example.com" }

    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard", "edge"] }
    }
  }

  assert {
    condition     = length(aws_route53_record.domain) == 0 && length(output.dns_records) == 4
    error_message = "without a zone no record is made, and all of them are said"
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.visitors : rule.cidr_ipv4] == ["0.0.0.0/0"]
    error_message = "unless told otherwise, visitors may come from anywhere"
  }
}

run "alerts" {
  command = plan

  variables {
    domain        = { name = "lastro.example.com" }
    alerts        = { emails = ["a@example.com", "b@example.com"], monthly_budget_usd = 120 }
    snapshot_days = 0

    hosts = {
      all = { instance_type = "t3.large", roles = ["mlflow", "airflow", "model_api", "dashboard", "edge"] }
    }
  }

  override_data {
    target = data.aws_ec2_instance_type.main["t4g.micro"]
    values = {
      memory_size                     = 1024
      supported_architectures         = ["arm64"]
      burstable_performance_supported = true
    }
  }

  assert {
    condition = alltrue([
      for alarm in concat(
        values(aws_cloudwatch_metric_alarm.host_status),
        values(aws_cloudwatch_metric_alarm.host_credits),
        aws_cloudwatch_metric_alarm.database_credits,
        [aws_cloudwatch_metric_alarm.database_storage, aws_cloudwatch_metric_alarm.database_connections],
        aws_cloudwatch_metric_alarm.edge_errors,
      ) : alarm.alarm_actions == toset(["arn:aws:sns:eu-west-1:111122223333:lastro-test-alerts"])
    ])
    error_message = "every alarm must reach the topic"
  }

  assert {
    condition     = [for subscription in aws_sns_topic_subscription.email : subscription.endpoint] == ["a@example.com", "b@example.com"]
    error_message = "every address must be subscribed"
  }

  assert {
    condition     = aws_kms_key.alerts.enable_key_rotation && aws_sns_topic.alerts.name == "lastro-test-alerts"
    error_message = "alerts are encrypted with a key of their own"
  }

  assert {
    condition = alltrue([
      for statement in [data.aws_iam_policy_document.alerts.statement[0], data.aws_iam_policy_document.alerts_key.statement[1]] :
      one(statement.principals).identifiers == toset(["cloudwatch.amazonaws.com", "budgets.amazonaws.com"])
    ])
    error_message = "alarms and budgets must be able to publish what is encrypted"
  }

  assert {
    condition = (
      one(data.aws_iam_policy_document.alerts.statement[0].condition).values == tolist(["111122223333"])
      && one(data.aws_iam_policy_document.alerts_key.statement[1].condition).values == tolist(["arn:aws:sns:eu-west-1:111122223333:lastro-test-alerts"])
    )
    error_message = "nobody else's alarms may use the topic, and no other topic the key"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.database_connections.threshold == 67
    error_message = "of 1 GiB, RDS makes 112 connections: 67 is 60 % of them, and not ${aws_cloudwatch_metric_alarm.database_connections.threshold}"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.database_storage.threshold == 2147483648
    error_message = "a tenth of 20 GiB must be left"
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.edge_errors[0].namespace == "Lastro"
      && aws_cloudwatch_metric_alarm.edge_errors[0].metric_name == "Edge5xx"
      && aws_cloudwatch_metric_alarm.edge_errors[0].dimensions == tomap({ Environment = "test" })
      && aws_cloudwatch_metric_alarm.edge_errors[0].treat_missing_data == "breaching"
    )
    error_message = "the edge's errors are read where the edge writes them, and silence is an alarm, too"
  }

  assert {
    condition = toset([
      for notification in aws_budgets_budget.monthly[0].notification : "${notification.notification_type} ${join(" ", notification.subscriber_sns_topic_arns)}"
      ]) == toset([
      "FORECASTED arn:aws:sns:eu-west-1:111122223333:lastro-test-alerts",
      "ACTUAL arn:aws:sns:eu-west-1:111122223333:lastro-test-alerts",
    ]) && aws_budgets_budget.monthly[0].limit_amount == "120.00"
    error_message = "the budget must warn before it is spent, and when it is"
  }

  assert {
    condition     = length(aws_dlm_lifecycle_policy.hosts) == 0 && length(aws_iam_role.snapshots) == 0
    error_message = "snapshot_days = 0 makes no snapshots"
  }
}
