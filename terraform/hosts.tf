data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"] # the Debian project

  filter {
    name   = "name"
    values = ["debian-13-amd64-*"]
  }

  filter {
    name   = "architecture"
    values = ["x86_64"]
  }
}

data "aws_ec2_instance_type" "host" {
  for_each = toset([for host in var.hosts : host.instance_type])

  instance_type = each.key
}

locals {
  # Measured: Airflow's four services and one training task peak above 1.2 GiB.
  airflow_memory_mib = 2048
}

resource "aws_instance" "host" {
  for_each = var.hosts

  ami                    = data.aws_ami.debian.id
  instance_type          = each.value.instance_type
  subnet_id              = aws_subnet.public[each.value.zone].id
  vpc_security_group_ids = [for role in each.value.roles : aws_security_group.component[role].id]
  iam_instance_profile   = aws_iam_instance_profile.host[each.key].name
  user_data              = local.user_data

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = each.value.disk_gib
    encrypted   = true
  }

  tags = {
    Name  = "${local.prefix}-${each.key}"
    Roles = join(" ", sort(each.value.roles))
  }

  lifecycle {
    # Both matter on the first boot only: a newer image must not replace a host, nor new user data restart it.
    ignore_changes = [ami, user_data]

    precondition {
      condition     = contains(data.aws_ec2_instance_type.host[each.value.instance_type].supported_architectures, "x86_64")
      error_message = "host \"${each.key}\": instance type \"${each.value.instance_type}\" does not run x86_64, which the Debian image and the packages are built for; use an x86_64 type, such as \"t3.small\"."
    }

    precondition {
      condition = (
        !contains(each.value.roles, "airflow")
        || data.aws_ec2_instance_type.host[each.value.instance_type].memory_size >= local.airflow_memory_mib
      )
      error_message = "host \"${each.key}\": instance type \"${each.value.instance_type}\" has ${data.aws_ec2_instance_type.host[each.value.instance_type].memory_size} MiB of memory and role \"airflow\" needs ${local.airflow_memory_mib}; use \"t3.small\" or larger."
    }
  }

  # The first boot fetches packages.
  depends_on = [aws_route.internet, aws_route_table_association.public]
}
