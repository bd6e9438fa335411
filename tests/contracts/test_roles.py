"""The rules for roles: their variables, their secrets, and names that they must not use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from wiring import FURTHER_SERVICES, ROLES, SERVICES

NAMES = sorted(path.name for path in ROLES.iterdir())


def files(role: str, *folders: str) -> list[Path]:
    """The YAML files and templates of a role."""
    return [
        path
        for folder in folders
        for path in sorted((ROLES / role / folder).rglob("*"))
        if path.suffix in {".yml", ".j2"}
    ]


def tasks(data: Any) -> list[dict[str, Any]]:
    """All tasks of a file, also those in blocks."""
    found = []
    for task in data or []:
        found.append(task)
        for part in ("block", "rescue", "always"):
            found += tasks(task.get(part))
    return found


def every_task(role: str) -> list[tuple[Path, dict[str, Any]]]:
    return [
        (path, task)
        for path in files(role, "tasks", "handlers")
        for task in tasks(yaml.safe_load(path.read_text()))
    ]


@pytest.mark.parametrize("role", NAMES)
def test_variables_begin_with_the_roles_name(role: str) -> None:
    public, private = f"{role}_", f"__{role.lstrip('_')}_"
    for name in yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()) or {}:
        assert name.startswith(public), f"{name} in defaults"
    variables = ROLES / role / "vars/main.yml"
    if variables.exists():
        for name in yaml.safe_load(variables.read_text()):
            assert name.startswith(private), f"{name} in vars"
    for path, task in every_task(role):
        names = {task.get("register"), task.get("loop_control", {}).get("loop_var")}
        names |= set(task.get("ansible.builtin.set_fact", {}))
        for name in names - {None}:
            # A loop variable that the included file reads is an argument of it.
            assert name.startswith((private, public)), f"{name} in {path.name}"


@pytest.mark.parametrize("role", NAMES)
def test_every_role_declares_its_arguments(role: str) -> None:
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())
    assert specs["argument_specs"]


@pytest.mark.parametrize("role", NAMES)
def test_a_role_names_neither_groups_nor_terraforms_outputs(role: str) -> None:
    for path in files(role, "tasks", "defaults", "vars", "templates", "handlers"):
        for expression in re.findall(r"\{\{.*?\}\}", path.read_text(), re.DOTALL):
            for word in ("groups[", "hostvars", "platform.", "lastro_secrets", "lastro_urls"):
                assert word not in expression, f"{path.name}: {expression}"


@pytest.mark.parametrize("role", NAMES)
def test_main_is_a_table_of_contents(role: str) -> None:
    if role in SERVICES + FURTHER_SERVICES:
        for task in yaml.safe_load((ROLES / role / "tasks/main.yml").read_text()):
            assert set(task) <= {"name", "ansible.builtin.import_tasks", "tags"}


# By their names; and the two files of a service in which all of them end.
SECRET = re.compile(
    r"password|secret_key|api_secret|jwt_secret|fernet|bearer|cookie_secret"
    r"|environment\.j2|item\.content"
)
# Modules that only check a secret's length, and print that.
HARMLESS = {"ansible.builtin.assert", "ansible.builtin.include_role"}


@pytest.mark.parametrize("role", NAMES)
def test_a_task_that_handles_a_secret_does_not_log_it(role: str) -> None:
    """A module's arguments, without those of a loop's label or a message."""
    inherited = any("no_log" in task and "block" in task for _, task in every_task(role))
    for path, task in every_task(role):
        for module, arguments in task.items():
            if "." not in module or module in HARMLESS or module.endswith("_tasks"):
                continue
            if SECRET.search(str(arguments)) and not inherited:
                assert "no_log" in task, f"{path.name}: {task['name']}"
                assert "lastro_no_log" in str(task["no_log"])


@pytest.mark.parametrize("role", NAMES)
def test_files_have_an_explicit_mode_and_secrets_are_not_for_everyone(role: str) -> None:
    for path, task in every_task(role):
        for module in ("ansible.builtin.copy", "ansible.builtin.template"):
            if module in task:
                mode = task[module].get("mode")
                assert re.fullmatch(r"0[0-7]{3}", str(mode)), f"{path.name}: {task['name']}"
                if "no_log" in task:
                    assert mode.endswith("0"), f"{path.name}: {task['name']}"


@pytest.mark.parametrize("role", NAMES)
def test_a_command_says_when_it_changes_something(role: str) -> None:
    for path, task in every_task(role):
        if {"ansible.builtin.command", "ansible.builtin.shell"} & task.keys():
            assert "changed_when" in task, f"{path.name}: {task['name']}"
        if task.get("changed_when") is False:
            text = path.read_text()
            after = text[text.index(f"- name: {task['name']}") :]
            reason = re.search(r"changed_when: false\s*#|#.*\n(?:\s.*\n)?\s*changed_when", after)
            assert reason, f"{path.name}: {task['name']}: say why nothing changes"
