"""Waits of the playbooks end at a time, however long each try takes."""

from __future__ import annotations

import json
import os
import runpy
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import lookup_loader
from wiring import PROJECT, ROLES, play

# Seconds that a service has to get ready: where it will, where it will not; and that an answer
# takes.
AMPLE, LIMIT, ANSWER = 300, 6, 2

READ_ANSWER = runpy.run_path(str(PROJECT / "ansible/plugins/action/wait_until_ready.py"))[
    "read_answer"
]


class Service(ThreadingHTTPServer):
    """An HTTP server that takes its time to answer; ready from its ``ready_after``-th answer on."""

    daemon_threads = True

    def __init__(self, ready_after: int, body: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ready_after = ready_after
        self.body = body
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
        self.wfile.write(self.server.body.encode())

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests short."""


@pytest.fixture
def start() -> Iterator[Any]:
    """Start a service."""
    services = []

    def start(ready_after: int, body: str = "") -> Service:
        services.append(Service(ready_after, body))
        threading.Thread(target=services[-1].serve_forever, daemon=True).start()
        return services[-1]

    yield start
    for service in services:
        service.shutdown()
        service.server_close()


def wait(
    folder: Path,
    service: Service,
    pattern: str = "",
    units: tuple[str, ...] = (),
    seconds: int = AMPLE,
    commands: tuple[tuple[str, ...], ...] = (),
) -> tuple[int, str]:
    """Wait for a service as the role `_service` does; the play's status and output."""
    tasks = yaml.safe_load((ROLES / "_service/tasks/start.yml").read_text())
    (block,) = [task["block"] for task in tasks if "rescue" in task]
    [task] = [task for task in block if "wait_until_ready" in task]
    variables = {
        "__service_name": "slow",
        "__service_ready": {
            "url": f"http://127.0.0.1:{service.server_port}",
            "pattern": pattern,
            "commands": commands,
        },
        "__service_ready_seconds": seconds,
        "__service_daemons": [{"name": name} for name in units],
    }
    book = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": variables,
            "tasks": [task],
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
    status, output = wait(tmp_path, service, seconds=LIMIT)
    assert status == 2, output
    assert "503" in output
    # Each try takes its answer's time and the second between two tries; one may begin at the end.
    assert 1 <= service.asked <= LIMIT / (ANSWER + 1) + 1


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"metadatabase": "healthy", "scheduler": "healthy", "triggerer": None}, ""),
        ({"metadatabase": "healthy", "scheduler": "unhealthy", "triggerer": None}, "not healthy"),
        ({}, "not healthy"),
    ],
    ids=["healthy", "a part is not", "another service's answer"],
)
def test_airflow_is_ready_once_all_of_its_parts_are(
    statuses: dict[str, str | None], expected: str
) -> None:
    variables = yaml.safe_load((ROLES / "airflow/vars/main.yml").read_text())
    pattern = variables["__airflow_service"]["ready"]["pattern"]
    body = json.dumps({part: {"status": status} for part, status in statuses.items()})
    state = READ_ANSWER({"status": 200, "content": body}, pattern)
    assert state.startswith(expected) and bool(state) == bool(expected)


def test_a_unit_that_keeps_exiting_ends_the_wait_before_its_time(
    tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    # As systemd shows it; the first unit was restarted long ago, the second is now at every look.
    systemctl.write_text(
        f"""#!/bin/sh
echo >>{count}
printf 'Id=steady.service\nNRestarts=50\n\nId=broken.service\nNRestarts=%d\n' $(wc -l <{count})
"""
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    service = start(1000)
    monkeypatch.setattr("test_waits.ANSWER", 0)
    status, output = wait(tmp_path, service, units=("steady", "broken"))
    assert status == 2, output
    assert "broken exited 3 times" in output
    assert service.asked == 4


def test_a_service_is_ready_once_its_commands_succeed(tmp_path: Path, start: Any) -> None:
    # Each look writes a line; the third one finds enough.
    script = "echo looked >>$0.log; [ $(wc -l <$0.log) -ge 3 ] || { echo not yet >&2; exit 1; }"
    path = str(tmp_path / "look")
    status, output = wait(tmp_path, start(0), commands=(("sh", "-c", script, path), ("true",)))
    assert status == 0, output
    assert "not yet" in output
    assert Path(f"{path}.log").read_text().splitlines() == ["looked"] * 3


def test_a_command_that_never_succeeds_ends_the_wait_with_its_message(
    tmp_path: Path, start: Any
) -> None:
    commands = (("sh", "-c", "echo no certificate >&2; exit 1"),)
    status, output = wait(tmp_path, start(0), seconds=1, commands=commands)
    assert status == 2, output
    assert "no certificate, after" in output


def test_the_clock_is_monotonic() -> None:
    (before,) = lookup_loader.get("monotonic").run([])
    (after,) = lookup_loader.get("monotonic").run([])
    assert before <= after <= time.monotonic()
