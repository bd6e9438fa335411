"""The catalogue of services: its fields, and that everything it names exists."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import catalogue
import pytest
from catalogue import CATALOGUE
from wiring import PROJECT, ROLES, Wiring

TERRAFORM = PROJECT / "terraform"
REQUIRED_FIELDS = {"title", "count", "release", "units", "test"}
OPTIONAL_FIELDS = {
    "port",
    "public_name",
    "page",
    "health_path",
    "ready",
    "memory",
    "connects_to",
    "aws",
    "secrets",
    "site",
    "login",
}
COUNTS = {"exactly one", "at least one", "any number", "one with a domain"}


@pytest.fixture(params=CATALOGUE)
def role(request: pytest.FixtureRequest) -> str:
    """The role of each service."""
    return request.param


@pytest.fixture
def entry(role: str) -> dict[str, Any]:
    """The entry of that service."""
    return CATALOGUE[role]


def test_a_field_that_nothing_reads_is_an_error(entry: dict[str, Any]) -> None:
    assert entry.keys() >= REQUIRED_FIELDS
    assert entry.keys() <= REQUIRED_FIELDS | OPTIONAL_FIELDS
    assert entry["count"] in COUNTS
    assert entry.get("ready", {}).keys() <= catalogue.entries()["mlflow"]["ready"].keys()


def test_the_head_of_the_file_explains_every_field() -> None:
    explained = set(re.findall(r"^# (\w+)  ", catalogue.FILE.read_text(), re.MULTILINE))
    assert explained == {"role"} | REQUIRED_FIELDS | OPTIONAL_FIELDS


def test_a_service_has_its_role_and_its_wiring(role: str) -> None:
    assert (ROLES / role / "tasks/main.yml").exists()
    assert (PROJECT / f"inventory/common/group_vars/all/{role}.yml").exists()


def test_every_role_of_a_service_is_in_the_catalogue() -> None:
    others = {"base", "databases"}
    roles = {path.name for path in ROLES.iterdir() if not path.name.startswith("_")}
    assert roles - others == CATALOGUE.keys()


def test_a_host_sets_up_a_service_after_those_that_it_connects_to(role: str) -> None:
    order = [*CATALOGUE]
    for server in catalogue.entries()[role]["connects_to"]:
        if server != "database":
            assert order.index(server) < order.index(role), server
            assert CATALOGUE[server]["port"], server


def test_permissions_exist_and_are_used() -> None:
    text = (TERRAFORM / "identity.tf").read_text()
    block = text[text.index("  permissions = {") : text.index("  # Role of a host ->")]
    defined = set(re.findall(r"^    ([\w-]+) = \{", block, re.MULTILINE))
    assert {name for entry in CATALOGUE.values() for name in entry.get("aws", [])} == defined


def test_a_service_can_be_asked_whether_it_is_ready(role: str, entry: dict[str, Any]) -> None:
    ready = entry.get("ready", {})
    assert ready.get("domain") or ready.get("path") or entry.get("health_path")
    asked = CATALOGUE[ready.get("service", role)]
    assert asked["port"]
    if "login" in ready:
        assert "admin_password" in catalogue.SECRETS[ready["login"]]


def test_how_to_log_in_names_a_key_of_a_secret_of_the_service(entry: dict[str, Any]) -> None:
    login = entry.get("login", {})
    if "%s" in login.get("text", ""):
        assert login["key"] in entry["secrets"][login["secret"]]


def test_a_page_has_a_name_of_its_own_a_port_and_a_health_path() -> None:
    pages = [entry for entry in CATALOGUE.values() if "public_name" in entry]
    names = [page["public_name"] for page in pages]
    assert names.count("@") == 1
    assert len(names) == len(set(names))
    assert all(page["port"] and page["health_path"] for page in pages)


def test_no_two_services_share_a_port_or_a_secret() -> None:
    ports = [entry["port"] for entry in CATALOGUE.values() if "port" in entry]
    assert len(ports) == len(set(ports))
    secrets = [name for entry in CATALOGUE.values() for name in entry.get("secrets", {})]
    assert len(secrets) == len(set(secrets))


def test_units_are_found_by_the_name_of_the_role(role: str, entry: dict[str, Any]) -> None:
    # `make logs` and `make status` look for them by it.
    assert all(unit.startswith(role.replace("_", "-")) for unit in entry["units"])


def test_status_and_verify_judge_as_the_role_does_when_it_waits(
    wiring: Wiring, workers: Wiring
) -> None:
    entries = catalogue.entries()
    for role in catalogue.RELEASES:
        platforms = [each for each in (wiring, workers) if each.groups[role]]
        if not platforms:
            # A service that no platform of the tests has, such as one just added.
            continue
        service = platforms[0].service(role)
        ready = entries[role]["ready"]
        assert service.ready_file == ready["file"], role
        if service.ready_url:
            parts = urlsplit(service.ready_url)
            assert f"{parts.path}?{parts.query}".rstrip("?") == ready["path"], role
            assert bool(service.ready_headers) == bool(ready["login"]), role
        if ready["pattern"]:
            assert service.ready_pattern == ready["pattern"], role


@pytest.mark.parametrize("state", ["healthy", "unhealthy", None])
def test_the_states_that_count_are_those_that_airflows_role_waits_for(
    wiring: Wiring, state: str | None
) -> None:
    ready = catalogue.entries()["airflow"]["ready"]
    answer = json.dumps({"metadatabase": {"status": "healthy"}, "scheduler": {"status": state}})
    good = state in (ready["states"], None)
    assert bool(re.search(wiring.service("airflow").ready_pattern or "", answer)) == good
