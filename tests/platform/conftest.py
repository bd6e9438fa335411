"""A running environment of the platform, as its tests and its users see it: from outside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lastro_platform import PROJECT, FirstUp, Platform, listeners
from published_dags import Dags

# Which of the tests' environments this run of pytest has for itself.
ENVIRONMENT = os.environ.get("LASTRO_ENVIRONMENT", "test")


@pytest.fixture(scope="session")
def first_up() -> Iterator[FirstUp]:
    """The environment brought up by the README's command.

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
    """The environment, which runs."""
    return Platform(ENVIRONMENT)


@pytest.fixture
def dags(platform: Platform, tmp_path: Path) -> Iterator[Dags]:
    """A copy of dags/ to change and publish; at the end the project's own are published again."""
    ignore = shutil.ignore_patterns("__pycache__")
    made = Dags(platform, Path(shutil.copytree(PROJECT / "dags", tmp_path / "dags", ignore=ignore)))
    yield made
    if made.published:
        made.restore()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Below a failed test, print the journals of its module's SERVICES."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    running = item.funcargs.get("platform")
    services = getattr(item.function, "services", None) or getattr(item.module, "SERVICES", ())
    if running is not None:
        for service in services:
            report.sections.append((f"journal of {service}", running.journal(service)))
