variable "project" {
  description = "First part of every resource name, and the Project tag."
  type        = string
  default     = "lastro"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9]){1,19}$", var.project))
    error_message = "project = \"${var.project}\": use 2 to 20 lowercase letters, digits and single hyphens, starting with a letter."
  }
}

variable "environment" {
  description = "Second part of every resource name, and the Environment tag."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.environment))
    error_message = "environment = \"${var.environment}\": use 2 to 10 lowercase letters and digits, starting with a letter."
  }
}

variable "region" {
  description = "AWS region of everything."
  type        = string
  default     = "eu-west-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region = \"${var.region}\": name an AWS region, such as \"eu-west-1\"."
  }
}

variable "vpc_cidr" {
  description = "Private IPv4 range of the VPC, /16 to /20. Four sixteenths of it become subnets; the rest, its end included, stays free."
  type        = string
  nullable    = false

  validation {
    condition = (
      can(cidrnetmask(var.vpc_cidr))
      && try(cidrsubnet(var.vpc_cidr, 0, 0) == var.vpc_cidr, false)
      && can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|20)$", var.vpc_cidr))
    )
    error_message = "vpc_cidr = \"${var.vpc_cidr}\": give the first address of a private IPv4 range of size /16 to /20, such as \"10.42.0.0/16\"."
  }
}

variable "hosts" {
  description = <<-EOT
    The machines, by name. Roles are the services a machine runs; together the hosts must hold every role.
    zone is 1 or 2: in which of the two availability zones the host stands.
  EOT
  type = map(object({
    instance_type = string
    disk_gib      = optional(number, 20)
    zone          = optional(number, 1)
    roles         = set(string)
  }))
  default = {
    mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
    airflow = { instance_type = "t3.small", roles = ["airflow"] }
    serving = { instance_type = "t3.small", roles = ["model_api", "dashboard"] }
  }
  nullable = false

  validation {
    condition = alltrue([for name in keys(var.hosts) : can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", name))])
    error_message = join("\n", [
      for name in keys(var.hosts) :
      "hosts: \"${name}\" is no host name; use up to 20 lowercase letters, digits and hyphens, starting with a letter."
      if !can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", name))
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : length(setsubtract(host.roles, keys(local.services))) == 0])
    error_message = join("\n", flatten([
      for name, host in var.hosts : [
        for role in setsubtract(host.roles, keys(local.services)) :
        "host \"${name}\": role \"${role}\" does not exist; roles are ${join(", ", keys(local.services))}."
      ]
    ]))
  }

  validation {
    condition = alltrue([for host in var.hosts : length(host.roles) > 0])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\" has no role; give it one of ${join(", ", keys(local.services))}, or remove it."
      if length(host.roles) == 0
    ])
  }

  validation {
    condition = alltrue([
      for role in ["mlflow", "airflow"] : length([for host in var.hosts : host if contains(host.roles, role)]) == 1
    ])
    error_message = join("\n", [
      for role in ["mlflow", "airflow"] :
      "hosts: role \"${role}\" must be on exactly one host, and is on ${coalesce(join(" and ", [for name, host in var.hosts : name if contains(host.roles, role)]), "none")}."
      if length([for host in var.hosts : host if contains(host.roles, role)]) != 1
    ])
  }

  validation {
    condition = alltrue([
      for role in ["model_api", "dashboard"] : anytrue([for host in var.hosts : contains(host.roles, role)])
    ])
    error_message = join("\n", [
      for role in ["model_api", "dashboard"] : "hosts: role \"${role}\" is on no host; give it to at least one."
      if !anytrue([for host in var.hosts : contains(host.roles, role)])
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", host.instance_type))])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\": instance_type \"${host.instance_type}\" is no EC2 instance type; name one, such as \"t3.small\"."
      if !can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", host.instance_type))
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : host.disk_gib >= 8 && host.disk_gib <= 16384 && floor(host.disk_gib) == host.disk_gib])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\": disk_gib = ${host.disk_gib}; use a whole number of GiB from 8 to 16384."
      if host.disk_gib < 8 || host.disk_gib > 16384 || floor(host.disk_gib) != host.disk_gib
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : contains([1, 2], host.zone)])
    error_message = join("\n", [
      for name, host in var.hosts : "host \"${name}\": zone = ${host.zone}; use 1 or 2."
      if !contains([1, 2], host.zone)
    ])
  }
}

variable "database" {
  description = <<-EOT
    The RDS instance. Storage grows by itself up to max_storage_gib; backups are kept backup_days days.
    apply_immediately makes changes of the running instance at once instead of in the maintenance window.
  EOT
  type = object({
    instance_class      = optional(string, "db.t4g.micro")
    storage_gib         = optional(number, 20)
    max_storage_gib     = optional(number, 100)
    multi_az            = optional(bool, false)
    backup_days         = optional(number, 7)
    deletion_protection = optional(bool, true)
    skip_final_snapshot = optional(bool, false)
    apply_immediately   = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = can(regex("^db\\.[a-z0-9-]+\\.[a-z0-9]+$", var.database.instance_class))
    error_message = "database.instance_class = \"${var.database.instance_class}\": name an RDS instance class, such as \"db.t4g.micro\"."
  }

  validation {
    condition     = var.database.storage_gib >= 20 && var.database.storage_gib <= 65536 && floor(var.database.storage_gib) == var.database.storage_gib
    error_message = "database.storage_gib = ${var.database.storage_gib}: use a whole number of GiB from 20 to 65536."
  }

  validation {
    condition     = var.database.max_storage_gib > var.database.storage_gib && var.database.max_storage_gib <= 65536
    error_message = "database.max_storage_gib = ${var.database.max_storage_gib}: storage starts at ${var.database.storage_gib} GiB; use a larger number, up to 65536."
  }

  validation {
    condition     = contains(range(1, 36), var.database.backup_days)
    error_message = "database.backup_days = ${var.database.backup_days}: use 1 to 35 days; RDS takes 0 as no backups at all."
  }
}

variable "buckets" {
  description = <<-EOT
    The artifact and DAG buckets. Overwritten and deleted objects stay recoverable for noncurrent_days days;
    force_destroy lets `terraform destroy` delete buckets that still hold objects.
  EOT
  type = object({
    noncurrent_days = optional(number, 90)
    force_destroy   = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(range(1, 1000), var.buckets.noncurrent_days)
    error_message = "buckets.noncurrent_days = ${var.buckets.noncurrent_days}: use a whole number of days from 1 to 999."
  }
}

variable "secret_recovery_window_days" {
  description = "Days a deleted secret can still be restored: 7 to 30, or 0 to delete at once."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains(concat([0], range(7, 31)), var.secret_recovery_window_days)
    error_message = "secret_recovery_window_days = ${var.secret_recovery_window_days}: use 7 to 30, or 0 to delete at once."
  }
}
