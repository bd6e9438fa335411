"""The catalogue of services, terraform/services.yml, for tests that list services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[1] / "terraform" / "services.yml"
# Role -> its entry as it is in the file, in the order in which a host sets them up.
CATALOGUE: dict[str, dict[str, Any]] = {
    service.pop("role"): service for service in yaml.safe_load(FILE.read_text())
}
ROLES = tuple(CATALOGUE)
# The services that run from a release of a lock.
RELEASES = tuple(role for role, service in CATALOGUE.items() if service["release"])
# The roles that some host of every platform has.
REQUIRED = tuple(
    role
    for role, service in CATALOGUE.items()
    if service["count"] in ("exactly one", "at least one")
)
# Secret -> its keys.
SECRETS: dict[str, tuple[str, ...]] = {
    name: tuple(keys)
    for service in CATALOGUE.values()
    for name, keys in service.get("secrets", {}).items()
}


def entries() -> dict[str, dict[str, Any]]:
    """Return role -> its entry with every optional field filled in, as services.tf does it."""
    pages = {role: entry for role, entry in CATALOGUE.items() if "public_name" in entry}
    front = next(entry for entry in pages.values() if entry["public_name"] == "@")
    return {
        role: {
            "position": position,
            **{name: entry[name] for name in ("title", "count", "release", "units")},
            **{name: entry.get(name) for name in ("port", "public_name", "page", "health_path")},
            "ready": {
                "path": entry.get("health_path", front["health_path"]),
                "service": role,
                "login": None,
                "domain": False,
                "pattern": None,
                "states": None,
                "file": None,
                "means": None,
            }
            | entry.get("ready", {}),
            "memory": entry.get("memory"),
            "connects_to": entry.get("connects_to", [*pages] if role == "edge" else []),
            "aws": entry.get("aws", []),
            "secrets": entry.get("secrets", {}),
            "site": entry.get("site", {}),
            "login": entry.get("login"),
        }
        for position, (role, entry) in enumerate(CATALOGUE.items())
    }


def platform_services(hosts: dict[str, dict[str, Any]], domain: str) -> dict[str, dict[str, Any]]:
    """Return `platform.services` for some hosts, as outputs.tf computes it.

    Args:
        hosts: `platform.hosts` of the contract.
        domain: the domain, or empty.
    """
    found = {}
    for role, entry in sorted(entries().items()):
        names = sorted(name for name, host in hosts.items() if role in host["roles"])
        port, public = entry["port"], entry["public_name"]
        addresses = [hosts[name]["private_ip"] for name in names]
        if not names:
            continue
        found[role] = entry | {
            "hosts": names,
            "endpoints": [
                f"https://{address}" if port == 443 else f"http://{address}:{port}"
                for address in addresses
                if port
            ],
            "public_url": (
                f"https://{domain if public == '@' else f'{public}.{domain}'}"
                if domain and public
                else None
            ),
        }
    return found
