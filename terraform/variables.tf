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
  description = "AWS region of all resources. lastro-ops sets it to lastro_region of the inventory."
  type        = string
  default     = "eu-west-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region = \"${var.region}\": use an AWS region, such as \"eu-west-1\"."
  }
}

variable "account_id" {
  description = "The AWS account of this environment. A plan in any other account fails. Empty: any account."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([0-9]{12})?$", var.account_id))
    error_message = "account_id = \"${var.account_id}\": use the 12 digits of an AWS account, in quotes, or leave it empty."
  }
}

variable "vpc_cidr" {
  description = "Private IPv4 range of the VPC, /16 to /20. Six sixteenths of it become subnets; the rest, including its end, is unused."
  type        = string
  nullable    = false

  validation {
    condition = (
      can(cidrnetmask(var.vpc_cidr))
      && try(cidrsubnet(var.vpc_cidr, 0, 0) == var.vpc_cidr, false)
      && can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|20)$", var.vpc_cidr))
    )
    error_message = "vpc_cidr = \"${var.vpc_cidr}\": use a private IPv4 range of size /16 to /20, starting at its first address, such as \"10.42.0.0/16\"."
  }
}

variable "private_hosts" {
  description = <<-EOT
    true: hosts are in private subnets and reach the internet through one NAT gateway, which costs more than a small host.
    false: hosts are in public subnets. The security groups are the same either way. The host with the role edge, which
    visitors must reach, is always in a public subnet. Changing this replaces the hosts.
  EOT
  type        = bool
  default     = false
  nullable    = false
}

variable "hosts" {
  description = <<-EOT
    The machines, by name. Roles are the services that a machine runs. Between them, the hosts must cover every role except
    edge and airflow_worker. The role edge (the TLS reverse proxy for visitors) belongs to exactly one host if domain is
    set, and to none otherwise. Airflow's tasks run on the hosts with the role airflow_worker, or on Airflow's own host if
    there are none. zone is the availability zone of the host, 1 or 2.
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
      "hosts: \"${name}\" is not a valid host name; use up to 20 lowercase letters, digits and hyphens, starting with a letter."
      if !can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", name))
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : length(setsubtract(host.roles, keys(local.catalogue))) == 0])
    error_message = join("\n", flatten([
      for name, host in var.hosts : [
        for role in setsubtract(host.roles, keys(local.catalogue)) :
        "host \"${name}\": role \"${role}\" does not exist; choose one of ${join(", ", keys(local.catalogue))}."
      ]
    ]))
  }

  validation {
    condition = var.domain != null || !anytrue([for host in var.hosts : contains(host.roles, "edge")])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\": role \"edge\" needs a domain; set domain = { name = \"...\" }, or remove the role."
      if contains(host.roles, "edge")
    ])
  }

  validation {
    condition     = var.domain == null || length([for host in var.hosts : host if contains(host.roles, "edge")]) == 1
    error_message = "hosts: domain is \"${try(var.domain.name, "")}\", so role \"edge\" must be on exactly one host, but is on ${coalesce(join(" and ", [for name, host in var.hosts : name if contains(host.roles, "edge")]), "none")}."
  }

  validation {
    condition = alltrue([for host in var.hosts : length(host.roles) > 0])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\" has no role; give it one of ${join(", ", keys(local.catalogue))}, or remove it."
      if length(host.roles) == 0
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : length(host.roles) <= 5])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\" has ${length(host.roles)} roles; AWS allows five security groups per host, one for each role. Remove a role, such as \"airflow_worker\": Airflow's own host runs tasks without it."
      if length(host.roles) > 5
    ])
  }

  validation {
    condition = alltrue([
      for role, service in local.catalogue : length([for host in var.hosts : host if contains(host.roles, role)]) == 1
      if service.count == "exactly one"
    ])
    error_message = join("\n", [
      for role, service in local.catalogue :
      "hosts: role \"${role}\" must be on exactly one host, but is on ${coalesce(join(" and ", [for name, host in var.hosts : name if contains(host.roles, role)]), "none")}."
      if service.count == "exactly one" && length([for host in var.hosts : host if contains(host.roles, role)]) != 1
    ])
  }

  validation {
    condition = alltrue([
      for role, service in local.catalogue : anytrue([for host in var.hosts : contains(host.roles, role)])
      if service.count == "at least one"
    ])
    error_message = join("\n", [
      for role, service in local.catalogue : "hosts: role \"${role}\" is on no host; add it to at least one."
      if service.count == "at least one" && !anytrue([for host in var.hosts : contains(host.roles, role)])
    ])
  }

  validation {
    condition = alltrue([for host in var.hosts : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", host.instance_type))])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\": instance_type \"${host.instance_type}\" is not an EC2 instance type; use one such as \"t3.small\"."
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

variable "domain" {
  description = <<-EOT
    The domain name of the platform; services are at its subdomains mlflow., airflow. and api. null: no access for
    visitors. The host with the role edge gets a fixed address. zone is a public Route 53 hosted zone in this account, in
    which the DNS records are created; without it, the output dns_records lists the records to set. allow_from limits who
    can reach the pages. Port 80, which redirects and proves the domain to the certificate authority, is open to all.
  EOT
  type = object({
    name       = string
    zone       = optional(string)
    allow_from = optional(set(string), ["0.0.0.0/0"])
  })
  default = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]*[a-z0-9]$", var.domain.name))
    error_message = "domain.name = \"${try(var.domain.name, "")}\": use a DNS name in lowercase, without a trailing dot, such as \"lastro.example.com\"."
  }

  validation {
    condition     = try(var.domain.zone, null) == null || try(endswith(".${var.domain.name}", ".${var.domain.zone}"), false)
    error_message = "domain.zone = \"${try(coalesce(var.domain.zone), "")}\": \"${try(var.domain.name, "")}\" is not in this hosted zone; use the name of the zone that domain.name ends with, without a trailing dot."
  }

  validation {
    condition = var.domain == null || (
      length(try(var.domain.allow_from, [])) > 0
      && alltrue([for range in try(var.domain.allow_from, []) : can(cidrnetmask(range)) && try(cidrsubnet(range, 0, 0) == range, false)])
    )
    error_message = "domain.allow_from = [${join(", ", try(var.domain.allow_from, []))}]: list at least one IPv4 range, starting at its first address, such as \"203.0.113.0/24\"."
  }
}

variable "database" {
  description = <<-EOT
    The RDS instance. Storage grows automatically up to max_storage_gib; backups are kept for backup_days days.
    apply_immediately applies changes to the running instance immediately instead of in the maintenance window.
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
    error_message = "database.instance_class = \"${var.database.instance_class}\": use an RDS instance class, such as \"db.t4g.micro\"."
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
    error_message = "database.backup_days = ${var.database.backup_days}: use 1 to 35 days; RDS treats 0 as no backups."
  }
}

variable "buckets" {
  description = <<-EOT
    The artifact and DAG buckets. Overwritten and deleted objects stay recoverable for noncurrent_days days. An Airflow run
    needs the DAG files it started with until it ends, and again when its tasks are cleared and rerun: a year is long
    enough, and the files are small. Logged predictions are deleted after predictions_days days.
    force_destroy lets `terraform destroy` delete buckets that still have objects.
  EOT
  type = object({
    noncurrent_days = optional(object({
      artifacts = optional(number, 90)
      dags      = optional(number, 365)
    }), {})
    predictions_days = optional(number, 90)
    force_destroy    = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(range(1, 1000), var.buckets.noncurrent_days.artifacts)
    error_message = "buckets.noncurrent_days.artifacts = ${var.buckets.noncurrent_days.artifacts}: use a whole number of days from 1 to 999."
  }

  validation {
    condition     = contains(range(1, 1000), var.buckets.predictions_days)
    error_message = "buckets.predictions_days = ${var.buckets.predictions_days}: use a whole number of days from 1 to 999."
  }

  validation {
    condition     = contains(range(90, 1000), var.buckets.noncurrent_days.dags)
    error_message = "buckets.noncurrent_days.dags = ${var.buckets.noncurrent_days.dags}: use a whole number of days from 90 to 999; unfinished runs need the files they started with."
  }
}

variable "secret_recovery_window_days" {
  description = "Days for which a deleted secret can be restored: 7 to 30, or 0 to delete immediately."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains(concat([0], range(7, 31)), var.secret_recovery_window_days)
    error_message = "secret_recovery_window_days = ${var.secret_recovery_window_days}: use 7 to 30, or 0 to delete immediately."
  }
}

variable "model_api_clients" {
  description = <<-EOT
    Clients of the model API. Secrets Manager generates a key for each. Set rate limits with model_api_rates in the
    inventory. People and the dashboard have their own keys already.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for name in var.model_api_clients : can(regex("^[a-z](-?[a-z0-9]){1,30}$", name)) && !contains(["default", "dashboard"], name)])
    error_message = join("\n", [
      for name in var.model_api_clients :
      "model_api_clients: \"${name}\" is not a valid client name; use 2 to 31 lowercase letters, digits and single hyphens, starting with a letter. \"default\" and \"dashboard\" are reserved."
      if !can(regex("^[a-z](-?[a-z0-9]){1,30}$", name)) || contains(["default", "dashboard"], name)
    ])
  }
}

variable "alerts" {
  description = <<-EOT
    Who is notified of alarms. AWS sends each address an e-mail to confirm the subscription. monthly_budget_usd covers the
    whole account, because AWS cannot split its bill until cost allocation tags are activated; 0: no budget.
  EOT
  type = object({
    emails             = optional(set(string), [])
    monthly_budget_usd = optional(number, 0)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([for email in var.alerts.emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$", email))])
    error_message = join("\n", [
      for email in var.alerts.emails : "alerts.emails: \"${email}\" is not an e-mail address."
      if !can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$", email))
    ])
  }

  validation {
    condition     = var.alerts.monthly_budget_usd >= 0
    error_message = "alerts.monthly_budget_usd = ${var.alerts.monthly_budget_usd}: use an amount above 0, or 0 for no budget."
  }
}

variable "snapshot_days" {
  description = "Days for which daily snapshots of the hosts' disks are kept; 0: no snapshots. The database has its own backups."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = contains(range(0, 366), var.snapshot_days)
    error_message = "snapshot_days = ${var.snapshot_days}: use a whole number of days up to 365, or 0 for no snapshots."
  }
}

variable "data_scientists" {
  description = <<-EOT
    ARNs of IAM users and roles that may assume the role <project>-<environment>-data-scientist, which writes DAGs
    and batches to score, and reads artifacts and logged predictions. Users need multi-factor authentication. If empty,
    the role is not created.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for arn in var.data_scientists : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = join("\n", [
      for arn in var.data_scientists :
      "data_scientists: \"${arn}\" is not the ARN of an IAM user or role; use a complete ARN without wildcards, such as \"arn:aws:iam::111122223333:role/analysts\"."
      if !can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
  }

  validation {
    condition     = length(var.data_scientists) == 0 || !contains(keys(var.hosts), "data-scientist")
    error_message = "data_scientists: host \"data-scientist\" has the same name as their role; rename the host."
  }
}

variable "permissions_boundary" {
  description = <<-EOT
    Name of the IAM policy that limits every role created here, whatever its own policies allow. terraform/bootstrap creates
    the policy, and denies CI creating roles without it. Empty if the account has none.
  EOT
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{0,128}$", var.permissions_boundary))
    error_message = "permissions_boundary = \"${var.permissions_boundary}\": use the name of a policy, not its ARN, such as \"lastro-boundary\"."
  }
}
