output "platform" {
  description = "Everything that Ansible knows about the cloud: names, addresses and ARNs, but no secret values."
  value = {
    project     = var.project
    environment = var.environment
    region      = var.region
    account_id  = data.aws_caller_identity.current.account_id

    # Empty if visitors have no access.
    domain = try(var.domain.name, "")

    database = {
      address           = aws_db_instance.main.address
      port              = aws_db_instance.main.port
      engine_version    = aws_db_instance.main.engine_version_actual
      master_secret_arn = one(aws_db_instance.main.master_user_secret[*].secret_arn)
    }

    buckets = { for name, bucket in aws_s3_bucket.main : name => bucket.bucket }

    # Each secret is a JSON object.
    secrets = { for service, secret in aws_secretsmanager_secret.service : service => secret.arn }

    # Client of the model API -> its secret, a JSON object with its key.
    model_api_clients = { for name, secret in aws_secretsmanager_secret.model_api_client : name => secret.arn }

    # The folders of the buckets: artifacts, predictions and batch in the bucket artifacts, dags in its own.
    prefixes = local.prefixes

    metrics = { namespace = local.metrics_namespace }

    # Role -> its entry in the catalogue, its hosts, its endpoints inside the network, and its public URL.
    services = {
      for role, service in local.services : role => merge(service, {
        hosts = local.role_hosts[role]
        endpoints = [
          for name in local.role_hosts[role] :
          service.port == 443 ? "https://${aws_instance.host[name].private_ip}" : "http://${aws_instance.host[name].private_ip}:${service.port}"
          if service.port != null
        ]
        public_url = try("https://${local.public_names[role]}", null)
      })
    }

    access = { document = aws_ssm_document.authorize.name }

    hosts = {
      for name, host in var.hosts : name => {
        # Its name in the inventory.
        name          = local.host_names[name]
        instance_id   = aws_instance.host[name].id
        private_ip    = aws_instance.host[name].private_ip
        instance_type = host.instance_type
        memory_mib    = data.aws_ec2_instance_type.main[host.instance_type].memory_size
        vcpus         = data.aws_ec2_instance_type.main[host.instance_type].default_vcpus
        roles         = sort(host.roles)
      }
    }
  }
}

output "dns_records" {
  description = "A records of the domain, by name. Set them at your DNS provider when domain.zone is not set."
  value       = { for name in local.domain_names : name => aws_eip.edge[0].public_ip }
}

output "inventory" {
  description = "Ansible's dynamic inventory, for a file whose name ends in aws_ec2.yml. Groups are the roles. The inventory of the environment sets how to connect."
  value = yamlencode({
    plugin  = "amazon.aws.aws_ec2"
    strict  = true
    regions = [var.region]

    filters = {
      "tag:Project"         = var.project
      "tag:Environment"     = var.environment
      "instance-state-name" = "running"
    }

    hostnames = ["tag:Name"]
    # Without the prefix, a variable would be called `tags`, which is reserved in Ansible.
    hostvars_prefix = "aws_"

    keyed_groups = [{
      key       = "aws_ec2_tags.Roles | split"
      prefix    = ""
      separator = ""
      # The hosts of the platform, whatever their roles.
      parent_group = "platform"
    }]

    compose = {
      lastro_private_ip = "aws_private_ip_address"
      ec2_instance_id   = "aws_instance_id"
    }
  })
}
