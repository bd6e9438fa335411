"""A running environment of the platform, as its tests and its users see it: from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lastro_platform import FirstUp, Platform, listeners

ENVIRONMENT = "test"


@pytest.fixture(scope="session")
def first_up() -> Iterator[FirstUp]:
    """The environment `test` brought up by the README's command.

    It is removed before (an earlier run may have been killed) and after; with LASTRO_KEEP set it is
    left, and taken up again by the next run, for whoever works on these tests.
    """
    platform = Platform(ENVIRONMENT)
    keep = "LASTRO_KEEP" in os.environ
    if not keep:
        platform.make("destroy", f"CONFIRM={ENVIRONMENT}")
    before = listeners()
    yield FirstUp(platform.make("up"), before)
    if not keep:
        platform.make("destroy", f"CONFIRM={ENVIRONMENT}")


@pytest.fixture(scope="session")
def platform(first_up: FirstUp) -> Platform:
    """The environment `test`, which runs."""
    return Platform(ENVIRONMENT)


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
