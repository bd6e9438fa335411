"""Filter plugin: lists that the wiring derives from the services of the contract."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: platform_services
short_description: what the wiring and the playbooks derive from the catalogue of services
description:
  - Each takes C(platform.services) of the contract.
"""

Service = Mapping[str, Any]


def role_order(services: Mapping[str, Service]) -> list[str]:
    """Return the roles in the order in which a host sets them up.

    Args:
        services: role -> its entry of the contract.

    Raises:
        AnsibleFilterError: an earlier version of this project wrote the contract.
    """
    if any("position" not in service for service in services.values()):
        raise AnsibleFilterError(
            "The contract (platform.json in the inventory) is older than this checkout."
            " Run `make up` first"
        )
    return sorted(services, key=lambda role: services[role]["position"])


def page_urls(services: Mapping[str, Service]) -> dict[str, str]:
    """Return role -> where people reach it: its public URL, or else its first endpoint.

    Only services with a public name have pages. They are in the order of setting up.

    Args:
        services: role -> its entry of the contract.
    """
    pages = [role for role in role_order(services) if services[role]["public_name"]]
    return {role: services[role]["public_url"] or services[role]["endpoints"][0] for role in pages}


def edge_sites(services: Mapping[str, Service]) -> list[dict[str, Any]]:
    """Return the ``edge_sites`` of the role edge, one site for each public URL.

    The site of the domain itself is the first: visitors who name no site get that one.

    Args:
        services: role -> its entry of the contract.
    """
    pages = [services[role] for role in role_order(services) if services[role]["public_url"]]
    pages.sort(key=lambda service: service["public_name"] != "@")
    return [_site(service) for service in pages]


def _site(service: Service) -> dict[str, Any]:
    settings = dict(service["site"])
    addresses = [url.split("//")[1] for url in service["endpoints"]]
    # Sessions of a browser stay on one host, so only a service that says so is spread.
    balanced = settings.pop("balanced", False)
    title = service["title"]
    return {
        "name": service["public_url"].removeprefix("https://"),
        "title": title[0].upper() + title[1:],
        "upstreams": addresses if balanced else addresses[:1],
        **({"health_path": service["health_path"]} if balanced else {}),
        **settings,
    }


def label(title: str) -> str:
    """Return a title as it begins a line: "the model API" becomes "Model API"."""
    title = title.removeprefix("the ")
    return title[0].upper() + title[1:]


def not_ready(answers: Sequence[Mapping[str, Any]], services: Mapping[str, Service]) -> list[str]:
    """Return the roles whose answer says that they are not ready.

    Args:
        answers: results of the module ``uri`` in a loop over roles.
        services: role -> its entry of the contract.
    """
    return [
        answer["item"]
        for answer in answers
        if answer.get("status") != 200 or not_ready_reasons(answer, services)
    ]


def not_ready_reasons(answer: Mapping[str, Any], services: Mapping[str, Service]) -> list[str]:
    """Return the reasons why an answer is not that of a ready service, a line for each.

    Args:
        answer: as for `not_ready`, of one role.
        services: role -> its entry of the contract.
    """
    ready, content = services[answer["item"]]["ready"], answer.get("content", "").strip()
    first = content.split("\n")[0][:200]
    if answer.get("status") != 200:
        # A page or JSON is nothing to read here; a sentence is.
        return [first] if first and first[0] not in "<{[" else []
    reasons = []
    if ready["pattern"] and not re.search(ready["pattern"], content):
        reasons.append(f"answers {first[:40]!r}, which does not match {ready['pattern']}")
    if ready["states"]:
        parts = answer.get("json", {}).items()
        states = {name: part["status"] for name, part in parts if part.get("status")}
        reasons += [
            f"{name} is {state}" for name, state in states.items() if state != ready["states"]
        ]
    return reasons


def catalogue_differences(
    services: Mapping[str, Service], catalogue: Sequence[Service]
) -> list[str]:
    """Return how the services of a contract differ from the catalogue, one sentence for each.

    Args:
        services: role -> its entry of the contract.
        catalogue: the entries of terraform/services.yml.
    """
    known = {entry["role"]: entry for entry in catalogue}
    found = [f"services has {role}, which the catalogue lacks" for role in services.keys() - known]
    for role, entry in known.items():
        if role in services:
            found += _differences(f"services.{role}", services[role], entry)
        elif entry["count"] in ("exactly one", "at least one"):
            found.append(f"services lacks {role}, which every platform has")
    return found


def _differences(path: str, emitted: Service, entry: Service) -> list[str]:
    found = []
    # Not all of the catalogue is for the environment: `test` is for the tests alone.
    for key in entry.keys() & emitted.keys():
        wanted, value = entry[key], emitted[key]
        if isinstance(wanted, Mapping) and isinstance(value, Mapping):
            # Fields that the catalogue leaves out have defaults.
            value = {name: value.get(name) for name in wanted}
        if value != wanted:
            found.append(
                f"{path}.{key} is {value}, the catalogue (terraform/services.yml) has {wanted}"
            )
    return sorted(found)


class FilterModule:
    """See ``DOCUMENTATION``."""

    def filters(self) -> dict[str, Any]:
        return {
            "catalogue_differences": catalogue_differences,
            "edge_sites": edge_sites,
            "label": label,
            "not_ready": not_ready,
            "not_ready_reasons": not_ready_reasons,
            "page_urls": page_urls,
            "role_order": role_order,
        }
