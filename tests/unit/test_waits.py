"""Waits of the playbooks end at a time, however long each try takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import lookup_loader
from wiring import ROLES, play

# Seconds that the service has to get ready, and that each of its answers takes.
LIMIT, ANSWER = 6, 2


class Service(ThreadingHTTPServer):
    """An HTTP server that takes its time to answer; ready from its ``ready_after``-th answer on."""

    daemon_threads = True

    def __init__(self, ready_after: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ready_after = ready_after
        self.asked = 0


class Handler(BaseHTTPRequestHandler):
    """Handles one request."""

    server: Service

    def do_GET(self) -> None:
        self.server.asked += 1
        ready = self.server.asked > self.server.ready_after
        if not ready:
            time.sleep(ANSWER)
        self.send_response(200 if ready else 503)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests short."""


@pytest.fixture
def start() -> Iterator[Any]:
    """Start a service."""
    services = []

    def start(ready_after: int) -> Service:
        services.append(Service(ready_after))
        threading.Thread(target=services[-1].serve_forever, daemon=True).start()
        return services[-1]

    yield start
    for service in services:
        service.shutdown()
        service.server_close()


def wait(folder: Path, service: Service) -> tuple[int, str]:
    """Wait for a service as the role `_python_service` does; the play's status and output."""
    tasks = yaml.safe_load((ROLES / "_python_service/tasks/run.yml").read_text())
    (block,) = [task["block"] for task in tasks if "rescue" in task]
    names = [task["name"] for task in block]
    begin = names.index("Set the deadline, {{ _python_service_name }}")
    variables = {
        "_python_service_name": "slow",
        "_python_service_ready_url": f"http://127.0.0.1:{service.server_port}",
        "_python_service_ready_headers": {},
        "_python_service_ready_when": True,
        "_python_service_ready_timeout": LIMIT,
    }
    book = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": variables,
            "tasks": block[begin : begin + 2],
        }
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(book))
    return play("localhost,", folder / "play.yml")


def test_a_service_that_gets_ready_ends_the_wait(tmp_path: Path, start: Any) -> None:
    service = start(1)
    status, output = wait(tmp_path, service)
    assert (status, service.asked) == (0, 2), output


def test_a_service_that_answers_slowly_gets_no_more_time(tmp_path: Path, start: Any) -> None:
    service = start(1000)
    status, output = wait(tmp_path, service)
    assert status == 2, output
    assert "503" in output
    # Each try takes its answer's time and the second between two tries; one may begin at the end.
    assert 1 <= service.asked <= LIMIT / (ANSWER + 1) + 1


def test_the_clock_goes_on() -> None:
    (before,) = lookup_loader.get("monotonic").run([])
    (after,) = lookup_loader.get("monotonic").run([])
    assert before <= after <= time.monotonic()
