# Secrets are drawn by Secrets Manager and written straight back into it: ephemeral values and write-only arguments never
# reach plan or state. They are written once; put-secret-value rotates one without Terraform noticing.

locals {
  # Secret -> its keys -> length in letters and digits, for every service of the catalogue.
  secret_keys = merge([for service in local.catalogue : service.secrets]...)

  # A secret is written as a whole: a higher number regenerates all its keys, so raise it only for a secret whose keys have changed.
  secret_versions = { dashboard = 2 }

  passwords = merge([
    for service, keys in local.secret_keys : {
      for key, length in keys : "${service}/${key}" => { service = service, length = length }
    }
  ]...)
}

resource "aws_secretsmanager_secret" "service" {
  #checkov:skip=CKV_AWS_149:Only this account reads them, by IAM; a key of KMS would be the second lock with the same key
  #checkov:skip=CKV2_AWS_57:A service learns of a new value from Ansible: put-secret-value, then make configure
  for_each = local.secret_keys

  # A prefix, since the name of a deleted secret stays taken for its recovery window.
  name_prefix             = "${local.prefix}/${each.key}-"
  description             = "Secrets of ${each.key}: ${join(", ", keys(each.value))}"
  recovery_window_in_days = var.secret_recovery_window_days
}

ephemeral "aws_secretsmanager_random_password" "service" {
  for_each = local.passwords
  provider = aws.ephemeral

  # Asking for the secret's id puts off the draw until there is a secret to hold it: a first plan asks AWS for none.
  password_length     = aws_secretsmanager_secret.service[each.value.service].id == "" ? 0 : each.value.length
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "service" {
  for_each = local.secret_keys

  secret_id = aws_secretsmanager_secret.service[each.key].id
  secret_string_wo = jsonencode({
    for key in keys(each.value) : key => (
      # Fernet takes 32 bytes in URL-safe base64.
      key == "fernet_key"
      ? replace(replace(base64encode(ephemeral.aws_secretsmanager_random_password.service["${each.key}/${key}"].random_password), "+", "-"), "/", "_")
      : ephemeral.aws_secretsmanager_random_password.service["${each.key}/${key}"].random_password
    )
  })
  secret_string_wo_version = lookup(local.secret_versions, each.key, 1)
}

# One secret per client, so that adding or removing a client leaves the other keys alone.
resource "aws_secretsmanager_secret" "model_api_client" {
  #checkov:skip=CKV_AWS_149:Only this account reads them, by IAM; a key of KMS would be the second lock with the same key
  #checkov:skip=CKV2_AWS_57:The service learns of a new value from Ansible: put-secret-value, then make configure
  for_each = var.model_api_clients

  name_prefix             = "${local.prefix}/model-api-client-${each.key}-"
  description             = "API key of the model API client ${each.key}: key"
  recovery_window_in_days = var.secret_recovery_window_days
}

ephemeral "aws_secretsmanager_random_password" "model_api_client" {
  for_each = var.model_api_clients
  provider = aws.ephemeral

  password_length     = aws_secretsmanager_secret.model_api_client[each.key].id == "" ? 0 : 32
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "model_api_client" {
  for_each = var.model_api_clients

  secret_id                = aws_secretsmanager_secret.model_api_client[each.key].id
  secret_string_wo         = jsonencode({ key = ephemeral.aws_secretsmanager_random_password.model_api_client[each.key].random_password })
  secret_string_wo_version = 1
}
