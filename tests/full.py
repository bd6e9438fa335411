"""A pytest plugin: tests marked ``full`` run only where LASTRO_FULL is set.

Such a test is long by nature, as it needs thousands of objects or statistical power; a shorter one
that asserts the same runs always. They are deselected, not skipped: nothing is missing where they
do not run.
"""

from __future__ import annotations

import os

import pytest

VARIABLE = "LASTRO_FULL"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"full: long by nature; runs only with {VARIABLE}=1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the marked tests out."""
    if os.environ.get(VARIABLE):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def examples(count: int) -> int:
    """How many examples a property is tried with: ``count`` with LASTRO_FULL, else a third."""
    return count if os.environ.get(VARIABLE) else -(-count // 3)
