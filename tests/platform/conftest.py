"""A running environment of the platform, as its tests and its users see it: from outside."""

from __future__ import annotations

import os

import pytest
from lastro_platform import Platform


@pytest.fixture(scope="session")
def platform() -> Platform:
    """The environment that LASTRO_ENVIRONMENT names, which runs already."""
    return Platform(os.environ.get("LASTRO_ENVIRONMENT", "local"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Below a failed test, print the journals of what it concerns: its module's SERVICES."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    running = item.funcargs.get("platform")
    services = getattr(item.function, "services", None) or getattr(item.module, "SERVICES", ())
    if running is not None:
        for service in services:
            report.sections.append((f"journal of {service}", running.journal(service)))
