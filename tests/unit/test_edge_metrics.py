"""The lines of the edge's journal that its metric counts."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
from wiring import ROLES


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program that the role copies to the host."""
    path = ROLES / "edge" / "files" / "edge_metrics.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def access(status: int, uri: str = "/") -> str:
    """An access record, as Caddy writes it."""
    request = {"method": "GET", "uri": uri}
    record = {"logger": "http.log.access", "request": request, "status": status}
    return json.dumps(record)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (access(500), 1),
        (access(502), 1),
        (access(599), 1),
        (access(200), 0),
        (access(404), 0),
        (access(499), 0),
        # The record also contains the requested path.
        (access(200, '/"status":502'), 0),
        # The reason of the failure; the answer has its own record.
        (json.dumps({"logger": "http.log.error", "status": 502}), 0),
        (json.dumps({"logger": "http.log.access"}), 0),
        (json.dumps({"logger": "tls", "msg": "status 502"}), 0),
        ("Started edge.service - Lastro edge.", 0),
        ("502", 0),
        ("", 0),
    ],
)
def test_an_answer_with_a_5xx_status_counts_and_nothing_else(
    program: ModuleType, line: str, count: int
) -> None:
    assert program.server_errors([f"{line}\n"]) == count


def test_every_5xx_answer_counts(program: ModuleType) -> None:
    assert program.server_errors([access(502), access(200), "Started", access(503)]) == 2
