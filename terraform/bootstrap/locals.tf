data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  # service:region:account, the middle of an ARN.
  iam            = "arn:${local.partition}:iam::${local.account}"
  ec2            = "arn:${local.partition}:ec2:${var.region}:${local.account}"
  rds            = "arn:${local.partition}:rds:${var.region}:${local.account}"
  secretsmanager = "arn:${local.partition}:secretsmanager:${var.region}:${local.account}"

  # Every resource of an environment is named <project>-<environment> or <project>-<environment>-<something>.
  prefixes = sort([for environment in var.environments : "${var.project}-${environment}"])

  roles            = [for prefix in local.prefixes : "${local.iam}:role/${prefix}-*"]
  profiles         = [for prefix in local.prefixes : "${local.iam}:instance-profile/${prefix}-*"]
  buckets          = [for prefix in local.prefixes : "arn:${local.partition}:s3:::${prefix}-*-${local.account}"]
  artifact_buckets = [for prefix in local.prefixes : "arn:${local.partition}:s3:::${prefix}-artifacts-${local.account}"]
  dag_buckets      = [for prefix in local.prefixes : "arn:${local.partition}:s3:::${prefix}-dags-${local.account}"]
  secrets          = [for prefix in local.prefixes : "${local.secretsmanager}:secret:${prefix}/*"]
  topics           = [for prefix in local.prefixes : "arn:${local.partition}:sns:${var.region}:${local.account}:${prefix}-*"]
  alarms           = [for prefix in local.prefixes : "arn:${local.partition}:cloudwatch:${var.region}:${local.account}:alarm:${prefix}-*"]
  documents        = [for prefix in local.prefixes : "arn:${local.partition}:ssm:${var.region}:${local.account}:document/${prefix}-*"]
  authorize        = [for prefix in local.prefixes : "arn:${local.partition}:ssm:${var.region}:${local.account}:document/${prefix}-authorize"]
  budgets          = [for prefix in local.prefixes : "arn:${local.partition}:budgets::${local.account}:budget/${prefix}-*"]
  databases        = [for prefix in local.prefixes : "${local.rds}:db:${prefix}"]
  log_groups = flatten([
    for prefix in local.prefixes : [
      for name in ["/${prefix}/*", "/aws/rds/instance/${prefix}/*"] :
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${name}"
    ]
  ])
  keys       = "arn:${local.partition}:kms:${var.region}:${local.account}:key/*"
  aliases    = [for prefix in local.prefixes : "arn:${local.partition}:kms:${var.region}:${local.account}:alias/${prefix}-*"]
  lifecycles = "arn:${local.partition}:dlm:${var.region}:${local.account}:policy/*"
  zones      = [for id in sort(var.hosted_zone_ids) : "arn:${local.partition}:route53:::hostedzone/${id}"]

  states = [for environment in sort(var.environments) : "${local.state_arn}/${environment}/terraform.tfstate"]
}
