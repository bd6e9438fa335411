variable "project" {
  description = "First part of every resource name, and the Project tag. Must be the same as in the environments."
  type        = string
  default     = "lastro"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9]){1,19}$", var.project))
    error_message = "project = \"${var.project}\": use 2 to 20 lowercase letters, digits and single hyphens, starting with a letter."
  }
}

variable "region" {
  description = "AWS region of the state and of every environment in this account."
  type        = string
  default     = "eu-west-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region = \"${var.region}\": use an AWS region, such as \"eu-west-1\"."
  }
}

variable "environments" {
  description = "Environments that CI plans and applies. Each is also the name of a protected environment on GitHub."
  type        = set(string)
  default     = ["dev", "prod"]
  nullable    = false

  validation {
    condition     = length(var.environments) > 0 && alltrue([for name in var.environments : can(regex("^[a-z][a-z0-9]{1,9}$", name))])
    error_message = "environments = ${jsonencode(var.environments)}: list at least one; use 2 to 10 lowercase letters and digits, starting with a letter."
  }

  # CI may change resources named after an environment, and its own roles are <project>-ci-plan and <project>-ci-apply.
  validation {
    condition     = !contains(var.environments, "ci")
    error_message = "environments = ${jsonencode(var.environments)}: \"ci\" is reserved for the roles of CI; use another name."
  }
}

variable "github_repository" {
  description = <<-EOT
    The GitHub repository whose workflows plan and apply, as in the subject of its tokens: "owner/name", or "owner@id/name@id"
    for a repository created since July 2026. To see it: gh api repos/OWNER/NAME/actions/oidc/customization/sub --jq .sub_claim_prefix
    Empty: no CI, only the state bucket and the boundary.
  EOT
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.github_repository == "" || can(regex("^([A-Za-z0-9-]+/[A-Za-z0-9._-]+|[A-Za-z0-9-]+@[0-9]+/[A-Za-z0-9._-]+@[0-9]+)$", var.github_repository))
    error_message = "github_repository = \"${var.github_repository}\": use \"owner/name\" or \"owner@id/name@id\", without https:// and without wildcards."
  }
}

variable "hosted_zone_ids" {
  description = "Route 53 hosted zones in which CI may create DNS records for the environments' domains."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.hosted_zone_ids : can(regex("^Z[A-Z0-9]{1,31}$", id))])
    error_message = "hosted_zone_ids = ${jsonencode(var.hosted_zone_ids)}: use IDs of hosted zones, such as \"Z0123456789ABCDEFGHIJ\"."
  }
}
