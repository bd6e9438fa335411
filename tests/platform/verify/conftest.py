"""The verified platform runs already."""

from __future__ import annotations

import os

import pytest
from lastro_platform import Platform


@pytest.fixture(scope="session")
def platform() -> Platform:
    """The environment that LASTRO_ENVIRONMENT names."""
    return Platform(os.environ.get("LASTRO_ENVIRONMENT", "local"))
