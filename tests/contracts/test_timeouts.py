"""Nothing waits forever, nor for as long as a tool's default happens to be.

docs/operations.md ("Timeouts") lists what waits for what.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wiring import PROJECT, ROLES, SERVICES, Wiring

# Module -> the argument that limits its time.
BOUNDS = {
    "wait_until_ready": "seconds",
    "ansible.builtin.uri": "timeout",
    "ansible.builtin.get_url": "timeout",
    "ansible.builtin.wait_for": "timeout",
    # How long it waits for another apt, which a new host starts automatically.
    "ansible.builtin.apt": "lock_timeout",
    **{
        f"community.postgresql.postgresql_{name}": "connect_params"
        for name in ("db", "ping", "privs", "query", "schema", "user")
    },
}
# Seconds for which a task may repeat itself without a look at the clock.
FEW_SECONDS = 120


def yaml_files() -> list[Path]:
    """Every file of tasks or plays."""
    return sorted(
        path
        for folder in (ROLES, PROJECT / "ansible/playbooks", PROJECT / "tests/molecule")
        for path in folder.rglob("*.yml")
        if path.parent.name in {"tasks", "handlers", "playbooks", "local"}
        or path.parent == PROJECT / "tests/molecule"
    )


def tasks(
    entries: Any, defaults: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every task below plays, blocks or tasks, with the module defaults that hold there."""
    for entry in entries or []:
        inner = defaults | entry.get("module_defaults", {})
        yield entry, inner
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks(entry.get(part), inner)


# The tasks that a role's entry includes run with its defaults: those of `databases` do.
INHERITED = {
    path: {
        "group/community.postgresql.all": block["module_defaults"]["group/community.postgresql.all"]
    }
    for block in yaml.safe_load((ROLES / "databases/tasks/main.yml").read_text())
    for path in (ROLES / "databases/tasks").glob("*.yml")
}
TASKS = [
    (f"{path.relative_to(PROJECT)}: {task.get('name')}", task, defaults)
    for path in yaml_files()
    if isinstance(entries := yaml.safe_load(path.read_text()), list)
    for task, defaults in tasks(entries, INHERITED.get(path, {}))
]


def setting(task: dict[str, Any], defaults: dict[str, Any], module: str, name: str) -> Any:
    """A module's argument, as the task or the defaults around it set it."""
    group = f"group/{module.rpartition('.')[0]}.all"
    known = [task[module] or {}, defaults.get(module, {}), defaults.get(group, {})]
    return next((place[name] for place in known if name in place), None)


def test_the_tasks_are_found() -> None:
    found = {module for _, task, _ in TASKS for module in BOUNDS if module in task}
    assert found == BOUNDS.keys()
    assert sum("until" in task for _, task, _ in TASKS) >= 8


@pytest.mark.parametrize("module", BOUNDS)
def test_a_task_that_waits_for_another_machine_says_how_long(module: str) -> None:
    for where, task, defaults in TASKS:
        if module in task:
            value = setting(task, defaults, module, BOUNDS[module])
            if module.startswith("community.postgresql."):
                value = (value or {}).get("connect_timeout")
            assert value, f"{where}: set {BOUNDS[module]} of {module}"


def test_a_task_that_is_repeated_ends_at_a_time() -> None:
    """Retries are tries, not seconds: a deadline counts, or few tries of a bounded length."""
    for where, task, defaults in TASKS:
        if "until" not in task and "retries" not in task:
            continue
        assert {"until", "retries", "delay"} <= task.keys(), where
        if re.search(r"lookup\('monotonic'\) > \w+_deadline", str(task["until"])):
            continue
        (module,) = task.keys() & BOUNDS.keys()
        seconds = task["delay"] + setting(task, defaults, module, BOUNDS[module])
        assert seconds * task["retries"] <= FEW_SECONDS, f"{where}: compare with a deadline"


def test_the_edge_waits_for_no_part_of_a_request_forever() -> None:
    template = (ROLES / "edge/templates/Caddyfile.j2").read_text()
    (limits,) = re.findall(r"servers \{.*?timeouts \{(.*?)\}", template, re.DOTALL)
    for part in ("read_header", "read_body", "idle"):
        assert re.search(rf"^\s*{part} [1-9]\d*[smh]$", limits, re.MULTILINE), part


def test_one_try_of_a_repeated_command_is_bounded() -> None:
    for where, task, _ in TASKS:
        if "until" in task and "ansible.builtin.command" in task:
            assert task["ansible.builtin.command"]["argv"][0] == "timeout", where


def script_files() -> list[Path]:
    """Everything in scripts/."""
    return sorted(path for path in (PROJECT / "scripts").iterdir() if path.is_file())


def python_files() -> list[Path]:
    """Our Python that runs on the controller and on the hosts."""
    services = (PROJECT / "services").glob("*/src/**/*.py")
    return [*sorted(services), *sorted((PROJECT / "ansible").rglob("*.py"))]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a function by its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_clients_of_aws_and_http_say_how_long_they_wait() -> None:
    """By default botocore tries to connect for five minutes, and requests waits forever."""
    wanted = {
        re.compile(r"(boto3|session)\.(client|resource)"): "config",
        re.compile(r"(\w*\.)?urlopen"): "timeout",
        re.compile(r"(requests|(self\.)?session)\.(get|post|put|patch|delete|request)"): "timeout",
        re.compile(r"httpx\.(Client|AsyncClient|get|post)"): "timeout",
        re.compile(r"(\w*\.)?S3FileSystem"): "connect_timeout",
    }
    found = set()
    for path in python_files():
        for name, call in calls(ast.parse(path.read_text())):
            for pattern, keyword in wanted.items():
                if pattern.fullmatch(name):
                    found.add(keyword)
                    where = f"{path.relative_to(PROJECT)}:{call.lineno}: {name}"
                    assert keyword in {each.arg for each in call.keywords}, (
                        f"{where}: {keyword}=..."
                    )
    assert found == set(wanted.values())


def test_only_one_module_of_the_operators_tools_makes_clients_of_aws() -> None:
    for path in [*script_files(), *(PROJECT / "services/ops/src").rglob("*.py")]:
        if path.name != "aws.py":
            assert not re.search(r"boto3\.(client|resource|Session)", path.read_text()), path.name


def test_ssh_does_not_wait_forever() -> None:
    template = (PROJECT / "ansible/playbooks/templates/ssh_config.j2").read_text()
    for option in ("ConnectTimeout", "ServerAliveInterval", "ServerAliveCountMax"):
        assert re.search(rf"^  {option} \d+$", template, re.MULTILINE), option


def test_a_worker_that_imports_slowly_is_not_killed(wiring: Wiring) -> None:
    """By default Uvicorn kills a worker that does not answer for five seconds."""
    options = wiring.service("mlflow").environment["MLFLOW_UVICORN_OPTS"].split()
    assert int(options[options.index("--timeout-worker-healthcheck") + 1]) >= 60
    sources = (PROJECT / "services").glob("*/src/**/*.py")
    found = 0
    for path in sources:
        for name, call in calls(ast.parse(path.read_text())):
            keywords = {each.arg: each.value for each in call.keywords}
            if name in ("uvicorn.Config", "uvicorn.run") and "workers" in keywords:
                found += 1
                assert ast.literal_eval(keywords["timeout_worker_healthcheck"]) >= 60, path
    assert found


def test_a_database_that_is_gone_is_noticed(wiring: Wiring) -> None:
    assert 0 < int(wiring.service("mlflow").environment["PGCONNECT_TIMEOUT"]) <= 60


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_that_does_not_start_or_stop_is_reported(wiring: Wiring, service: str) -> None:
    """By default a one-shot unit, such as a migration, may take forever."""
    for name, text in wiring.service(service).units.items():
        limits = dict(re.findall(r"^Timeout(Start|Stop)Sec=(\d+)$", text, re.MULTILINE))
        assert limits.keys() == {"Start", "Stop"}, name
        assert int(limits["Start"]) == (3600 if name.endswith("-migrate") else 300), name
