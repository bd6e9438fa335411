"""Debian 13's public image, as Debian publishes it on AWS."""

import json
from importlib.resources import files
from pathlib import Path

AMIS_PATH = Path(str(files(__package__) / "debian.json"))
PARAMETER = "/aws/service/debian/release/13/latest/amd64"


def image_id() -> str:
    """The id of the image."""
    found: str = json.loads(AMIS_PATH.read_text())[0]["ami_id"]
    return found
