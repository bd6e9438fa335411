# The way in for visitors, when there is a domain: a fixed address for the host with the role edge, its names, and the two
# ports that are open to the world.

locals {
  edge_host = one([for name, host in var.hosts : name if contains(host.roles, "edge")])

  domain_names = sort(values(local.public_names))
}

resource "aws_eip" "edge" {
  count = var.domain == null ? 0 : 1

  domain   = "vpc"
  instance = aws_instance.host[local.edge_host].id

  tags = { Name = "${local.prefix}-edge" }
}

data "aws_route53_zone" "domain" {
  count = try(var.domain.zone, null) == null ? 0 : 1

  name = var.domain.zone
}

resource "aws_route53_record" "domain" {
  for_each = toset(length(data.aws_route53_zone.domain) == 0 ? [] : local.domain_names)

  zone_id = data.aws_route53_zone.domain[0].zone_id
  name    = each.key
  type    = "A"
  ttl     = 300
  records = [aws_eip.edge[0].public_ip]
}

resource "aws_vpc_security_group_ingress_rule" "visitors" {
  for_each = toset(try(var.domain.allow_from, []))

  security_group_id = aws_security_group.component["edge"].id
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = local.catalogue.edge.port
  to_port           = local.catalogue.edge.port
  description       = "visitors"
}

resource "aws_vpc_security_group_ingress_rule" "redirect" {
  #checkov:skip=CKV_AWS_260:Port 80 redirects to 443 and answers the certificate authority, which asks from anywhere
  count = var.domain == null ? 0 : 1

  security_group_id = aws_security_group.component["edge"].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  description       = "redirect and proof of the domain"
}
