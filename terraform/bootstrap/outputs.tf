output "state_bucket" {
  description = "The bucket for all Terraform state of this account."
  value       = local.state_bucket
}

output "permissions_boundary" {
  description = "The value of the environments' variable permissions_boundary, required if CI applies them."
  value       = aws_iam_policy.boundary.name
}

output "github_repository" {
  description = "The repository whose workflows may assume the roles."
  value       = length(aws_iam_role.ci) > 0 ? var.github_repository : ""
}

output "role_arns" {
  description = "The roles that GitHub's workflows assume: plan and apply. Empty without a repository."
  value       = { for name, role in aws_iam_role.ci : name => role.arn }
}
