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
  description = "AWS region of everything. lastro-ops sets it to lastro_region of the inventory."
  type        = string
  default     = "eu-west-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region = \"${var.region}\": name an AWS region, such as \"eu-west-1\"."
  }
}

variable "account_id" {
  description = "The AWS account this environment belongs in: a plan in any other is refused. Empty: any account."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([0-9]{12})?$", var.account_id))
    error_message = "account_id = \"${var.account_id}\": give the 12 digits of an AWS account, in quotes, or leave it empty."
  }
}

variable "vpc_cidr" {
  description = "Private IPv4 range of the VPC, /16 to /20. Six sixteenths of it become subnets; the rest, its end included, stays free."
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

variable "private_hosts" {
  description = <<-EOT
    Hosts stand in private subnets and reach the internet through one NAT gateway, which costs more than a small host;
    else in public subnets. Either way the security groups are the same. The host with the role edge, which visitors
    must reach, is always in a public one. A change replaces the hosts.
  EOT
  type        = bool
  default     = false
  nullable    = false
}

variable "hosts" {
  description = <<-EOT
    The machines, by name. Roles are the services a machine runs; together the hosts must hold every role but two. The
    role edge, TLS and the way in for visitors, belongs to exactly one host when domain is set, and to none otherwise.
    Tasks of Airflow run on the hosts with the role airflow_worker; without any, on Airflow's own. zone is 1 or 2: in
    which of the two availability zones the host stands.
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
    condition = alltrue([for host in var.hosts : length(setsubtract(host.roles, keys(local.catalogue))) == 0])
    error_message = join("\n", flatten([
      for name, host in var.hosts : [
        for role in setsubtract(host.roles, keys(local.catalogue)) :
        "host \"${name}\": role \"${role}\" does not exist; roles are ${join(", ", keys(local.catalogue))}."
      ]
    ]))
  }

  validation {
    condition = var.domain != null || !anytrue([for host in var.hosts : contains(host.roles, "edge")])
    error_message = join("\n", [
      for name, host in var.hosts :
      "host \"${name}\": role \"edge\" needs a domain; set domain = { name = \"...\" }, or take the role away."
      if contains(host.roles, "edge")
    ])
  }

  validation {
    condition     = var.domain == null || length([for host in var.hosts : host if contains(host.roles, "edge")]) == 1
    error_message = "hosts: domain is \"${try(var.domain.name, "")}\", so role \"edge\" must be on exactly one host, and is on ${coalesce(join(" and ", [for name, host in var.hosts : name if contains(host.roles, "edge")]), "none")}."
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
      "host \"${name}\" has ${length(host.roles)} roles, each with a security group, and AWS puts five on a host; leave one out, such as \"airflow_worker\": where Airflow is, tasks run without it, too."
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
      "hosts: role \"${role}\" must be on exactly one host, and is on ${coalesce(join(" and ", [for name, host in var.hosts : name if contains(host.roles, role)]), "none")}."
      if service.count == "exactly one" && length([for host in var.hosts : host if contains(host.roles, role)]) != 1
    ])
  }

  validation {
    condition = alltrue([
      for role, service in local.catalogue : anytrue([for host in var.hosts : contains(host.roles, role)])
      if service.count == "at least one"
    ])
    error_message = join("\n", [
      for role, service in local.catalogue : "hosts: role \"${role}\" is on no host; give it to at least one."
      if service.count == "at least one" && !anytrue([for host in var.hosts : contains(host.roles, role)])
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

variable "domain" {
  description = <<-EOT
    The name under which visitors reach the platform, and mlflow., airflow. and api. before it; null: nobody does. The
    host with the role edge gets a fixed address. With zone, a public hosted zone of Route 53 in this account, the DNS
    records are made; without it the output dns_records says what to set. allow_from limits who reaches the pages;
    port 80, which redirects and proves the domain to the certificate authority, is open to all.
  EOT
  type = object({
    name       = string
    zone       = optional(string)
    allow_from = optional(set(string), ["0.0.0.0/0"])
  })
  default = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]*[a-z0-9]$", var.domain.name))
    error_message = "domain.name = \"${try(var.domain.name, "")}\": give a DNS name in lowercase, without a dot at its end, such as \"lastro.example.com\"."
  }

  validation {
    condition     = try(var.domain.zone, null) == null || try(endswith(".${var.domain.name}", ".${var.domain.zone}"), false)
    error_message = "domain.zone = \"${try(coalesce(var.domain.zone), "")}\": \"${try(var.domain.name, "")}\" is not in this hosted zone; give the zone's name, which ends domain.name, without a dot at its end."
  }

  validation {
    condition = var.domain == null || (
      length(try(var.domain.allow_from, [])) > 0
      && alltrue([for range in try(var.domain.allow_from, []) : can(cidrnetmask(range)) && try(cidrsubnet(range, 0, 0) == range, false)])
    )
    error_message = "domain.allow_from = [${join(", ", try(var.domain.allow_from, []))}]: give at least one IPv4 range by its first address, such as \"203.0.113.0/24\"."
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
    The artifact and DAG buckets. Overwritten and deleted objects stay recoverable for noncurrent_days days. A run of
    Airflow may need the DAG files it started with until it ends, and again when somebody clears its tasks to repeat
    them: a year outlasts that, and the files are small. The prediction log forgets after predictions_days.
    force_destroy lets `terraform destroy` delete buckets that still hold objects.
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
    error_message = "buckets.noncurrent_days.dags = ${var.buckets.noncurrent_days.dags}: use a whole number of days from 90, since unfinished runs need the files they started with, to 999."
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

variable "model_api_clients" {
  description = <<-EOT
    Programs that ask the model API, each with a key of its own, which Secrets Manager draws. How often each may ask is
    model_api_rates of the inventory. People and the dashboard have theirs already.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for name in var.model_api_clients : can(regex("^[a-z](-?[a-z0-9]){1,30}$", name)) && !contains(["default", "dashboard"], name)])
    error_message = join("\n", [
      for name in var.model_api_clients :
      "model_api_clients: \"${name}\" cannot be a client; use 2 to 31 lowercase letters, digits and single hyphens, starting with a letter, but neither \"default\" nor \"dashboard\", which there are."
      if !can(regex("^[a-z](-?[a-z0-9]){1,30}$", name)) || contains(["default", "dashboard"], name)
    ])
  }
}

variable "alerts" {
  description = <<-EOT
    Who hears of alarms: each address gets an e-mail from AWS that asks to confirm. monthly_budget_usd is of the whole
    account, whose bill cannot be split before somebody activates cost allocation tags; 0: no budget.
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
      for email in var.alerts.emails : "alerts.emails: \"${email}\" is no e-mail address."
      if !can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$", email))
    ])
  }

  validation {
    condition     = var.alerts.monthly_budget_usd >= 0
    error_message = "alerts.monthly_budget_usd = ${var.alerts.monthly_budget_usd}: use an amount above 0, or 0 for no budget."
  }
}

variable "snapshot_days" {
  description = "Days for which daily snapshots of the hosts' disks are kept; 0: none are made. The database has its own backups."
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
    and batches to score, and reads artifacts and logged predictions. Users must show a second factor. Without any,
    there is no such role.
  EOT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for arn in var.data_scientists : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = join("\n", [
      for arn in var.data_scientists :
      "data_scientists: \"${arn}\" is no ARN of an IAM user or role; give it whole and without wildcards, such as \"arn:aws:iam::111122223333:role/analysts\"."
      if !can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
  }

  validation {
    condition     = length(var.data_scientists) == 0 || !contains(keys(var.hosts), "data-scientist")
    error_message = "data_scientists: host \"data-scientist\" has the name of their role; call that host something else."
  }
}

variable "permissions_boundary" {
  description = <<-EOT
    Name of the IAM policy that limits every role made here, whatever its own policies say; terraform/bootstrap makes it, and
    lets CI make no role without it. Empty where an account has none.
  EOT
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{0,128}$", var.permissions_boundary))
    error_message = "permissions_boundary = \"${var.permissions_boundary}\": give the name of a policy, not its ARN, such as \"lastro-boundary\"."
  }
}
