terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # The bucket is of the account, the key of the environment: terraform init -backend-config="bucket=..."
  # -backend-config="key=..." -backend-config="region=..."
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region = var.region
  # Checked before a destroy as well, unlike the conditions of resources.
  allowed_account_ids = var.account_id == "" ? null : [var.account_id]

  default_tags {
    tags = {
      Project     = var.project
      Environment = var.environment
    }
  }
}

# Ephemeral passwords only. A mocked provider cannot hold ephemeral resources (Terraform 1.11), so `terraform test`
# mocks the provider above and leaves this one real but never called.
provider "aws" {
  alias  = "ephemeral"
  region = var.region
}
