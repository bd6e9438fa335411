# How the controller gets in: SSH inside Session Manager, through no open port. User data installs the agent that this
# needs; one Run Command of the document below lets a fresh SSH key in for some hours.

locals {
  ssm_agent = {
    # AWS publishes no checksums; it signs each package. The key is AWS's 1C5B 395C BE5E 74E2 F1CA 2159 2784 DBF3 88D1 9D46,
    # made on 2026-06-04, which expires on 2027-11-25: as in AWS's guide ("Verifying the signature of SSM Agent") and in
    # its repositories amazon-ecs-agent, amazon-ecs-ami and eks-hybrid. Versions before 3.3.4851.0 have other keys.
    version = "3.3.4851.0"
    # gpgv does not read armored files: pass it the text between the blank line and the checksum.
    key = replace(regex("\n\n([^=]+=*)\n=", file("${path.module}/templates/ssm_agent_key.asc"))[0], "\n", "")
  }

  # AWS keeps one in each region.
  ssm_bucket = "https://s3.${var.region}.${data.aws_partition.current.dns_suffix}/amazon-ssm-${var.region}"

  user_data = templatefile("${path.module}/templates/user_data.yml.tftpl", {
    script  = file("${path.module}/templates/install_ssm_agent.sh")
    url     = "${local.ssm_bucket}/${local.ssm_agent.version}/debian_amd64"
    version = local.ssm_agent.version
    key     = local.ssm_agent.key
  })
}

resource "aws_ssm_document" "authorize" {
  name            = "${local.prefix}-authorize"
  document_type   = "Command"
  document_format = "JSON"
  target_type     = "/AWS::EC2::Instance"

  content = jsonencode({
    schemaVersion = "2.2"
    description   = "Authorizes an SSH key of the controller until a given time, and returns the host's own keys."

    parameters = {
      # They become part of a script: the patterns leave no character that a shell would take for more than a letter.
      publicKey = {
        type           = "String"
        description    = "An Ed25519 key in OpenSSH format, without a comment."
        allowedPattern = "^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$"
      }
      validUntil = {
        type           = "String"
        description    = "Expiry time: YYYYMMDDHHMMSSZ, in UTC."
        allowedPattern = "^[0-9]{14}Z$"
      }
    }

    mainSteps = [{
      action = "aws:runShellScript"
      name   = "authorize"
      inputs = {
        timeoutSeconds = "60"
        runCommand     = split("\n", trimspace(file("${path.module}/templates/authorize.sh")))
      }
    }]
  })
}
