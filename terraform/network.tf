# Hosts stand in public subnets to reach package indexes without a NAT gateway; nothing may open a connection to them
# from outside. The database stands in private subnets, whose route table leads nowhere but the VPC.

data "aws_availability_zones" "available" {
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
  for_each = local.zones

  vpc_id                  = aws_vpc.main.id
  availability_zone       = each.value
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, each.key - 1)
  map_public_ip_on_launch = true

  tags = { Name = "${local.prefix}-public-${each.key}" }
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id            = aws_vpc.main.id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.key + 7)

  tags = { Name = "${local.prefix}-private-${each.key}" }
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

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "${local.prefix}-private" }
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id]

  tags = { Name = "${local.prefix}-s3" }
}

# What joins no group of ours may talk to nobody.
resource "aws_default_security_group" "locked" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "${local.prefix}-locked" }
}

resource "aws_security_group" "component" {
  for_each = toset(concat(keys(local.services), ["database"]))

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
