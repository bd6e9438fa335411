"""The playbooks, run on this machine as every host, with stand-ins for roles and servers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import catalogue
import pytest
import yaml
from wiring import (
    CONTRACT,
    DOMAIN_CONTRACT,
    PROJECT,
    SECRETS,
    changed,
    contract,
    machine,
    play_lines,
    write_inventory,
)

PLAYBOOKS = PROJECT / "ansible/playbooks"
# Writes down which role was applied to which host, and when.
STAND_IN = """
- name: Write down the role
  ansible.builtin.lineinfile:
    path: "{path}"
    line: "{{{{ inventory_hostname }}}} {role}"
    create: true
    mode: "0644"
    unsafe_writes: true
  throttle: 1
"""


def inventory_of(folder: Path, its: dict[str, Any]) -> Path:
    """An inventory whose hosts are this machine, with all secrets."""
    inventory = write_inventory(folder, its)
    ours = {
        "ansible_connection": "local",
        "lastro_project_dir": str(PROJECT),
        "lastro_secrets": SECRETS,
    }
    (inventory / "group_vars/all/zz_test.yml").write_text(json.dumps(ours))
    return inventory


def applied(folder: Path, its: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """[host, role] in the order in which site.yml applies the roles."""
    log = folder / "applied"
    for role in ("base", "databases", *catalogue.ROLES):
        tasks = folder / "roles" / role / "tasks/main.yml"
        tasks.parent.mkdir(parents=True)
        tasks.write_text(STAND_IN.format(path=log, role=role))
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(folder / "roles"))
    status, lines = play_lines(inventory_of(folder, its), PROJECT / "site.yml")
    assert status == 0, "\n".join(lines)
    return [line.split() for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    "its",
    [
        DOMAIN_CONTRACT,
        contract({"all": machine("10.42.0.11", *catalogue.ROLES, memory_mib=8192)}, "lastro.test"),
    ],
    ids=["three hosts", "one host"],
)
def test_each_host_gets_its_roles_in_the_order_of_the_catalogue(
    its: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = applied(tmp_path, its, monkeypatch)
    for host in its["hosts"].values():
        mine = [role for name, role in found if name == host["name"] and role != "databases"]
        assert mine == ["base", *(role for role in catalogue.ROLES if role in host["roles"])]
    databases = [host for host, role in found if role == "databases"]
    assert databases == [its["hosts"][its["services"]["mlflow"]["hosts"][0]]["name"]]


# ---- make status --------------------------------------------------------------------------------

ANSWERS = {
    "/api/2.0/mlflow/experiments/search": "{}",
    "/api/v2/monitor/health": json.dumps(
        {"scheduler": {"status": "healthy"}, "triggerer": {"status": None}}
    ),
    "/edge_worker/v1/health": "{}",
    "/health/ready": "Ready: all 6 pages can be drawn.",
}


@contextmanager
def answering(answers: dict[str, str]) -> Iterator[int]:
    """A server that answers some paths with 200 and others with 404; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            kind = "application/json" if (body or "").startswith("{") else "text/plain"
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None:
            """Log nothing: the tests read the playbook's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def shown(
    folder: Path, answers: dict[str, str], monkeypatch: pytest.MonkeyPatch, *further: str
) -> tuple[int, list[str]]:
    """The output and exit status of `make status` for one host with these answers."""
    systemctl = folder / "bin/systemctl"
    systemctl.parent.mkdir(parents=True)
    units = [{"unit": "mlflow.service", "active": "active", "sub": "running"}]
    systemctl.write_text(f"#!/bin/sh\necho \"$@\" >{folder}/asked\necho '{json.dumps(units)}'\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    its = contract({"all": machine("127.0.0.1", *CONTRACT["services"], *further)})
    with answering(answers) as port:
        for role in CONTRACT["services"]:
            its = changed(its, ("services", role, "endpoints"), [f"http://127.0.0.1:{port}"])
        return play_lines(inventory_of(folder, its), PLAYBOOKS / "status.yml")


def test_status_shows_every_service_and_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, lines = shown(tmp_path, ANSWERS, monkeypatch)
    assert status == 0, "\n".join(lines)
    answering = [line.split()[0] for line in lines if " answers " in line and " 200 " in line]
    assert answering == [role for role in catalogue.ROLES if role in CONTRACT["services"]]
    assert any(line.split() == ["mlflow", "active", "(running)"] for line in lines)
    asked = (tmp_path / "asked").read_text().split()
    assert {"mlflow*", "airflow*", "model-api*", "dashboard*"} <= set(asked)


@pytest.mark.parametrize(
    ("path", "body", "said", "ill"),
    [
        ("/api/2.0/mlflow/experiments/search", None, "mlflow answers 404", "mlflow"),
        ("/health/ready", "<html>", "answers '<html>', which does not match ^Ready: ", "dashboard"),
        (
            "/api/v2/monitor/health",
            '{"scheduler": {"status": "unhealthy"}}',
            "scheduler is unhealthy",
            "airflow, airflow_worker",
        ),
    ],
)
def test_status_names_the_service_that_is_not_ready(
    path: str,
    body: str | None,
    said: str,
    ill: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {key: text for key, text in (ANSWERS | {path: body}).items() if text is not None}
    # A worker is ready once Airflow has accepted it: a file that is missing here.
    further = ["airflow_worker"] if "airflow_worker" in ill else []
    status, lines = shown(tmp_path, answers, monkeypatch, *further)
    assert status != 0
    output = " ".join(" ".join(lines).split())
    assert said in output
    assert ("airflow_worker not accepted by Airflow" in output) == bool(further)
    assert f"Unhealthy: {ill}. `make logs SERVICE=...`" in output


def test_login_shows_how_to_log_in_to_each_page(tmp_path: Path) -> None:
    status, lines = play_lines(inventory_of(tmp_path, CONTRACT), PLAYBOOKS / "login.yml")
    output = "\n".join(lines)
    assert status == 0, output
    for line in (
        f"MLflow     http://10.42.0.11:5000     admin / {SECRETS['mlflow']['admin_password']}",
        f"Airflow    http://10.42.0.12:8080     admin / {SECRETS['airflow']['admin_password']}",
        "Model API  http://10.42.0.13:8000     Authorization: Bearer "
        + SECRETS["model_api"]["bearer_key"],
        "Dashboard  http://10.42.0.13:8501     the same login as MLflow",
    ):
        assert line in output


def test_a_contract_of_an_earlier_version_says_what_to_do(tmp_path: Path) -> None:
    before = CONTRACT | {"services": {role: {"port": 1} for role in CONTRACT["services"]}}
    status, lines = play_lines(inventory_of(tmp_path, before), PLAYBOOKS / "login.yml")
    assert status != 0
    assert "is older than this checkout. Run `make up` first" in " ".join(" ".join(lines).split())


def test_every_group_of_a_play_is_declared() -> None:
    # Ansible warns of any other while it has no hosts, also where a play adds them on demand.
    declared = yaml.safe_load((PROJECT / "inventory/common/localhost.yml").read_text())
    known = {"localhost", "platform", *catalogue.ROLES, *declared}
    books = (yaml.safe_load(file.read_text()) for file in sorted(PLAYBOOKS.glob("**/*.yml")))
    plays = [play for book in books if isinstance(book, list) for play in book if "hosts" in play]
    named = {play["hosts"].partition("[")[0] for play in plays}
    assert {name for name in named if "{{" not in name} - known == set()
