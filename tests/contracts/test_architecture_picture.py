"""docs/images/architecture.svg, compared with the catalogue of services."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import catalogue
from wiring import PROJECT

SVG = "{http://www.w3.org/2000/svg}"
PICTURE = ElementTree.parse(PROJECT / "docs/images/architecture.svg")
REMEDY = "draw the services of terraform/services.yml in docs/images/architecture.svg"


def test_the_picture_names_every_service_the_database_and_s3() -> None:
    text = "\n".join("".join(element.itertext()) for element in PICTURE.iter(f"{SVG}text"))
    for name in (*catalogue.ROLES, "database", "S3"):
        assert re.search(rf"\b{name}\b", text), f"no text names {name}: {REMEDY}"


def test_the_picture_draws_the_connections_of_the_catalogue_and_no_others() -> None:
    connections = {
        f"{role}-to-{server}"
        for role, entry in catalogue.entries().items()
        for server in entry["connects_to"]
    }
    drawn = {path.get("id") for path in PICTURE.iter(f"{SVG}path") if path.get("id")}
    assert drawn == connections, f"{REMEDY}, with a path for each connection, by its id"
