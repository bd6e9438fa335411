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

locals {
  # A class of RDS is a type of EC2 with a prefix.
  database_instance_type = trimprefix(var.database.instance_class, "db.")

  instance_types = toset(concat([for host in var.hosts : host.instance_type], [local.database_instance_type]))
}

# Asked first: about a type that does not exist here, data.aws_ec2_instance_type only says that it found none.
data "aws_ec2_instance_type_offerings" "main" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = local.instance_types
  }

  filter {
    name   = "location"
    values = values(local.zones)
  }

  lifecycle {
    postcondition {
      condition = contains(self.instance_types, local.database_instance_type) && alltrue([
        for host in var.hosts :
        contains(formatlist("%s %s", self.instance_types, self.locations), "${host.instance_type} ${local.zones[host.zone]}")
      ])
      error_message = join("\n", concat(
        [
          for name, host in var.hosts :
          "host \"${name}\": AWS does not offer instance type \"${host.instance_type}\" in ${local.zones[host.zone]} (zone ${host.zone} of ${var.region}); use another type, such as \"t3.small\", or another zone."
          if !contains(formatlist("%s %s", self.instance_types, self.locations), "${host.instance_type} ${local.zones[host.zone]}")
        ],
        contains(self.instance_types, local.database_instance_type) ? [] : [
          "database.instance_class = \"${var.database.instance_class}\": AWS does not offer it in ${var.region}; use another class, such as \"db.t4g.micro\"."
        ],
      ))
    }
  }
}

data "aws_ec2_instance_type" "main" {
  for_each = local.instance_types

  instance_type = each.key

  depends_on = [data.aws_ec2_instance_type_offerings.main]
}

locals {
  # Role -> what it needs of a host, and the smallest type that has it.
  least_memory = { for role, service in local.services : role => service.memory if service.memory != null }

  # A fixed address answers only from a subnet that leads to the internet gateway.
  public_hosts = [for name, host in var.hosts : name if !var.private_hosts || contains(host.roles, "edge")]
}

resource "aws_instance" "host" {
  #checkov:skip=CKV_AWS_126:Status checks come every minute anyway; the rest every minute would cost 2 USD a host
  #checkov:skip=CKV_AWS_135:Current types are EBS-optimized by default, and older ones reject the setting
  for_each = var.hosts

  ami                    = data.aws_ami.debian.id
  instance_type          = each.value.instance_type
  subnet_id              = contains(local.public_hosts, each.key) ? aws_subnet.public[each.value.zone].id : aws_subnet.private_hosts[each.value.zone].id
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

    tags = { Name = local.host_names[each.key] }
  }

  # A new T3 has no credits saved, and configuring it takes all that it may borrow.
  dynamic "credit_specification" {
    for_each = data.aws_ec2_instance_type.main[each.value.instance_type].burstable_performance_supported ? ["unlimited"] : []

    content {
      cpu_credits = credit_specification.value
    }
  }

  tags = {
    Name      = local.host_names[each.key]
    Roles     = join(" ", sort(each.value.roles))
    Snapshots = local.prefix
  }

  lifecycle {
    # Both matter on the first boot only: a newer image must not replace a host, nor new user data restart it.
    ignore_changes = [ami, user_data]

    precondition {
      condition     = contains(data.aws_ec2_instance_type.main[each.value.instance_type].supported_architectures, "x86_64")
      error_message = "host \"${each.key}\": instance type \"${each.value.instance_type}\" does not run x86_64, which the Debian image and the packages require; use an x86_64 type, such as \"t3.small\"."
    }

    precondition {
      condition = alltrue([
        for role, least in local.least_memory :
        data.aws_ec2_instance_type.main[each.value.instance_type].memory_size >= least.mib
        if contains(each.value.roles, role)
      ])
      error_message = join("\n", [
        for role, least in local.least_memory :
        "host \"${each.key}\": instance type \"${each.value.instance_type}\" has ${data.aws_ec2_instance_type.main[each.value.instance_type].memory_size} MiB of memory, but role \"${role}\" needs ${least.mib}; use \"${least.instance_type}\" or larger."
        if contains(each.value.roles, role) && data.aws_ec2_instance_type.main[each.value.instance_type].memory_size < least.mib
      ])
    }
  }

  # The first boot fetches packages.
  depends_on = [
    aws_route.internet,
    aws_route_table_association.public,
    aws_route.nat,
    aws_route_table_association.private_hosts,
  ]
}
