# Hosts are in public subnets, to reach package indexes without a NAT gateway, or in private ones behind a gateway. Either way
# only the edge is reachable from outside. The database's subnets have no route out of the VPC.

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:Only the first two count, by name: a new zone comes after them
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  # Zone number -> zone name.
  zones = { for number in [1, 2] : number => data.aws_availability_zones.available.names[number - 1] }
}

resource "aws_vpc" "main" {
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = local.prefix }
}

resource "aws_subnet" "public" {
  #checkov:skip=CKV_AWS_130:Hosts here fetch packages by their public address; no security group lets anybody in by it
  for_each = local.zones

  vpc_id                  = aws_vpc.main.id
  availability_zone       = each.value
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, each.key - 1)
  map_public_ip_on_launch = true

  tags = { Name = "${local.prefix}-public-${each.key}" }
}

resource "aws_subnet" "private_hosts" {
  for_each = var.private_hosts ? local.zones : {}

  vpc_id            = aws_vpc.main.id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.key + 3)

  tags = { Name = "${local.prefix}-private-hosts-${each.key}" }
}

resource "aws_subnet" "database" {
  for_each = local.zones

  vpc_id            = aws_vpc.main.id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.key + 7)

  tags = { Name = "${local.prefix}-database-${each.key}" }
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id

  tags = { Name = local.prefix }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "${local.prefix}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  count = var.private_hosts ? 1 : 0

  domain = "vpc"

  tags = { Name = "${local.prefix}-nat" }
}

# One for both zones: a second would cost as much again, and what a lost zone takes with it is more than the way out.
resource "aws_nat_gateway" "main" {
  count = var.private_hosts ? 1 : 0

  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.public["1"].id

  tags = { Name = local.prefix }

  depends_on = [aws_route.internet, aws_route_table_association.public]
}

resource "aws_route_table" "private_hosts" {
  count = var.private_hosts ? 1 : 0

  vpc_id = aws_vpc.main.id

  tags = { Name = "${local.prefix}-private-hosts" }
}

resource "aws_route" "nat" {
  count = var.private_hosts ? 1 : 0

  route_table_id         = aws_route_table.private_hosts[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.main[0].id
}

resource "aws_route_table_association" "private_hosts" {
  for_each = aws_subnet.private_hosts

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private_hosts[0].id
}

resource "aws_route_table" "database" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "${local.prefix}-database" }
}

resource "aws_route_table_association" "database" {
  for_each = aws_subnet.database

  subnet_id      = each.value.id
  route_table_id = aws_route_table.database.id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat([aws_route_table.public.id], aws_route_table.private_hosts[*].id)

  tags = { Name = "${local.prefix}-s3" }
}

# Only connections that the security groups reject: enough to see why a connection fails, at cents instead of dollars for
# all traffic.
resource "aws_flow_log" "rejected" {
  vpc_id                   = aws_vpc.main.id
  traffic_type             = "REJECT"
  max_aggregation_interval = 600
  log_destination_type     = "cloud-watch-logs"
  log_destination          = aws_cloudwatch_log_group.rejected.arn
  iam_role_arn             = aws_iam_role.flow_logs.arn

  tags = { Name = "${local.prefix}-rejected" }
}

resource "aws_cloudwatch_log_group" "rejected" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with a key of its own; one of ours would be a dollar a month for no border
  #checkov:skip=CKV_AWS_338:local.log_days says how long, and why
  name              = "/${local.prefix}/rejected-traffic"
  retention_in_days = local.log_days
}

data "aws_iam_policy_document" "flow_logs_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "flow_logs" {
  name                 = "${local.prefix}-flow-logs"
  description          = "VPC flow logs write into their log group"
  assume_role_policy   = data.aws_iam_policy_document.flow_logs_assume.json
  permissions_boundary = local.permissions_boundary
}

data "aws_iam_policy_document" "flow_logs" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.rejected.arn}:*"]
  }
}

resource "aws_iam_role_policy" "flow_logs" {
  name   = "write"
  role   = aws_iam_role.flow_logs.name
  policy = data.aws_iam_policy_document.flow_logs.json
}

# Without a security group of ours, no connection is possible.
resource "aws_default_security_group" "locked" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "${local.prefix}-locked" }
}

# Of every role, whether or not a host has it: Terraform would delete the group of a role that goes before it takes the
# group off a host that stays, which AWS refuses.
resource "aws_security_group" "component" {
  for_each = toset(concat(keys(local.catalogue), ["database"]))

  name        = "${local.prefix}-${each.key}"
  description = "What ${each.key} may reach and be reached by"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "component" {
  for_each = local.service_connections

  security_group_id            = aws_security_group.component[each.value.server].id
  referenced_security_group_id = aws_security_group.component[each.value.client].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = each.key
}

resource "aws_vpc_security_group_egress_rule" "component" {
  for_each = local.service_connections

  security_group_id            = aws_security_group.component[each.value.client].id
  referenced_security_group_id = aws_security_group.component[each.value.server].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = each.key
}

# Packages, the AWS API, Session Manager. Name resolution and time come from the VPC's own addresses, which security
# groups do not filter.
resource "aws_vpc_security_group_egress_rule" "web" {
  for_each = {
    for pair in setproduct(keys(local.services), [80, 443]) : "${pair[0]}-${pair[1]}" => { role = pair[0], port = pair[1] }
  }

  security_group_id = aws_security_group.component[each.value.role].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  description       = "packages and the AWS API"
}

# Environments that are older than private hosts keep their database in its subnets.

moved {
  from = aws_subnet.private
  to   = aws_subnet.database
}

moved {
  from = aws_route_table.private
  to   = aws_route_table.database
}

moved {
  from = aws_route_table_association.private
  to   = aws_route_table_association.database
}
