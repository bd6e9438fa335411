"""Fixtures of the unit and contract tests."""

from __future__ import annotations

import pytest
from wiring import CONTRACT, WORKER_CONTRACT, Wiring, write_inventory


@pytest.fixture(scope="session")
def wiring(tmp_path_factory: pytest.TempPathFactory) -> Wiring:
    """The roles' variables for a platform as Terraform lays it out by default."""
    return Wiring(write_inventory(tmp_path_factory.mktemp("inventory"), CONTRACT))


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Wiring:
    """The same for a platform with workers."""
    return Wiring(write_inventory(tmp_path_factory.mktemp("workers"), WORKER_CONTRACT))
