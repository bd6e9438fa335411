"""The tests that run only in a full run."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PROJECT = TESTS.parent

CASES = """
import pytest

@pytest.mark.parametrize("count", [5, pytest.param(5000, marks=pytest.mark.full)])
def test_many(count):
    assert count

@pytest.mark.full
def test_long():
    pass
"""


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(None, "1 passed, 2 deselected"), ("", "2 deselected"), ("1", "3 passed")],
)
def test_full_tests_run_only_on_demand(tmp_path: Path, value: str | None, outcome: str) -> None:
    (tmp_path / "test_cases.py").write_text(CASES)
    # Its tests do not belong to the run of this test.
    own = ("LASTRO_FULL", "LASTRO_TIMELINE")
    environment = {name: text for name, text in os.environ.items() if name not in own}
    if value is not None:
        environment["LASTRO_FULL"] = value
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--strict-markers",
            "-p",
            "lastro_pytest",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert outcome in result.stdout
    assert ("deselected" in result.stdout) == (value != "1")


def test_every_suite_has_the_plugin() -> None:
    suites = [tests.parent / "pyproject.toml" for tests in PROJECT.glob("services/*/tests")]
    for file in (PROJECT / "pyproject.toml", *suites):
        options = tomllib.loads(file.read_text())["tool"]["pytest"]["ini_options"]
        added = options["addopts"]
        assert "-p lastro_pytest" in (added if isinstance(added, str) else " ".join(added)), file
        assert TESTS in [(file.parent / path).resolve() for path in options["pythonpath"]], file
