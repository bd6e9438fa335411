# The catalogue (services.yml), with every optional field filled in, and what an environment makes of it.

locals {
  catalogue_entries = yamldecode(file("${path.module}/services.yml"))

  # Role -> its entry. Every role that a host can have, whether or not one has it.
  catalogue = {
    for position, service in local.catalogue_entries : service.role => {
      # The place in the order of setting up: a map has none.
      position    = position
      title       = service.title
      count       = service.count
      release     = service.release
      port        = try(service.port, null)
      public_name = try(service.public_name, null)
      page        = try(service.page, null)
      health_path = try(service.health_path, null)
      units       = service.units
      ready = {
        path = try(service.ready.path, service.health_path, one([
          for front in local.catalogue_entries : front.health_path if try(front.public_name, null) == "@"
        ]))
        service = try(service.ready.service, service.role)
        login   = try(service.ready.login, null)
        domain  = try(service.ready.domain, false)
        pattern = try(service.ready.pattern, null)
        states  = try(service.ready.states, null)
        file    = try(service.ready.file, null)
        means   = try(service.ready.means, null)
      }
      memory = try(service.memory, null)
      connects_to = try(service.connects_to, [
        for page in local.catalogue_entries : page.role if service.role == "edge" && can(page.public_name)
      ])
      aws     = try(service.aws, [])
      secrets = try(service.secrets, {})
      site    = try(service.site, {})
      login   = try(service.login, null)
    }
  }

  # Role -> the names of its hosts in `hosts`: the roles that this environment has.
  role_hosts = {
    for role in keys(local.catalogue) : role => sort([for name, host in var.hosts : name if contains(host.roles, role)])
    if anytrue([for host in var.hosts : contains(host.roles, role)])
  }

  services = { for role, hosts in local.role_hosts : role => local.catalogue[role] }

  # Role -> its name below the domain, for those that people reach.
  public_names = var.domain == null ? {} : {
    for role, service in local.services :
    role => service.public_name == "@" ? var.domain.name : "${service.public_name}.${var.domain.name}"
    if service.public_name != null
  }

  database_port = 5432

  # The connections between our components: the security groups allow these and no others.
  service_connections = {
    for pair in flatten([
      for client, service in local.services : [for server in service.connects_to : { client = client, server = server }]
      ]) : "${pair.client}-to-${pair.server}" => merge(pair, {
      port = pair.server == "database" ? local.database_port : local.catalogue[pair.server].port
    }) if pair.server == "database" || contains(keys(local.services), pair.server)
  }
}
