"""The output of a play: one line per result with its host, reasons of failures, and waits."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.loader import callback_loader
from wiring import PROJECT, play_lines

PLAY = """
- name: Play
  hosts: one:two
  gather_facts: false
  tasks:
    - name: Leave it
      ansible.builtin.command: "true"
      changed_when: false
    - name: Change it
      ansible.builtin.command: "true"
      changed_when: inventory_hostname == 'one'
    - name: Do each
      ansible.builtin.command: "true"
      loop: [a, b]
      changed_when: item == 'b'
    - name: Leave it out
      ansible.builtin.command: "true"
      when: false
    - name: Show it
      ansible.builtin.debug:
        msg: [first line, second line]
    - name: Keep it
      ansible.builtin.fail:
        msg: the secret is abc
      no_log: true
      ignore_errors: true
    - name: Fail for a reason
      ansible.builtin.command: sh -c 'echo found; echo reason >&2; exit 3'
      changed_when: false
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The output of the play."""
    playbook = tmp_path_factory.mktemp("callback") / "play.yml"
    playbook.write_text(PLAY)
    status, lines = play_lines("one,two,", playbook, "--connection=local", "--forks=1")
    assert status == 2
    return [line.rstrip() for line in lines]


def result_line(lines: list[str], task: str, host: str) -> str:
    """The one line that names a task and a host; its first word."""
    (line,) = (line for line in lines if line.split()[1:2] == [host] and line.endswith(task))
    return line.split()[0]


def test_each_result_names_its_host_and_task(lines: list[str]) -> None:
    assert result_line(lines, "Leave it", "one") == "ok"
    assert result_line(lines, "Change it", "one") == "changed"
    assert result_line(lines, "Change it", "two") == "ok"


def test_each_item_of_a_loop_has_a_line(lines: list[str]) -> None:
    assert result_line(lines, "Do each: a", "one") == "ok"
    assert result_line(lines, "Do each: b", "one") == "changed"


def test_skipped_tasks_are_not_shown(lines: list[str]) -> None:
    assert not any("Leave it out" in line for line in lines)


def test_messages_of_a_play_have_no_decoration(lines: list[str]) -> None:
    at = lines.index("first line")
    assert lines[at + 1] == "second line"


def test_a_failure_says_why_in_plain_lines(lines: list[str]) -> None:
    assert result_line(lines, "Fail for a reason", "one") == "FAILED"
    assert "reason" in lines
    assert not any('"rc": 3' in line or line.startswith("fatal:") for line in lines)


def test_a_secret_is_not_shown(lines: list[str]) -> None:
    assert result_line(lines, "Keep it", "one") == "FAILED"
    assert not any("abc" in line for line in lines)


def test_a_wait_says_for_how_long_and_on_what(monkeypatch: pytest.MonkeyPatch) -> None:
    callback_loader.add_directory(str(PROJECT / "ansible/plugins/callback"))
    callback = callback_loader.get("lastro")
    shown: list[str] = []
    monkeypatch.setattr(callback._display, "display", lambda text, **_: shown.append(text))
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)

    def retry(seconds: float, answer: Any = None) -> None:
        clock.now += seconds
        callback.v2_runner_retry(
            SimpleNamespace(
                host=SimpleNamespace(get_name=lambda: "one"),
                task=SimpleNamespace(get_name=lambda: "Wait for it", _uuid="1"),
                result={"json": answer} if answer else {},
            )
        )

    retry(0)
    retry(3)
    assert shown == []
    retry(3, {"state": "running"})
    retry(2)
    assert [line.split() for line in shown] == [
        ["waiting", "one", "Wait", "for", "it:", "6", "s,", "running"]
    ]
    retry(4, ["no object"])
    assert shown[1].endswith("Wait for it: 12 s")


def test_the_playbooks_use_it() -> None:
    assert "stdout_callback = lastro\n" in (Path(PROJECT) / "ansible.cfg").read_text()


@pytest.mark.parametrize("strategy", ["mitogen_linear", "mitogen_free"])
def test_processes_of_a_task_may_use_every_core(strategy: str, tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(f"""
- hosts: all
  gather_facts: false
  strategy: {strategy}
  tasks:
    - name: Count the cores
      ansible.builtin.command: nproc
      changed_when: false
      register: cores
    - name: Show them
      ansible.builtin.debug:
        msg: "may use {{{{ cores.stdout }}}}"
""")
    status, lines = play_lines("one,two,", playbook, "--connection=local")
    assert status == 0, lines
    cores = len(os.sched_getaffinity(0))
    assert sum(f"may use {cores}" in line for line in lines) == 2, lines


def test_a_module_of_a_collection_runs_without_a_warning(tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    # As the role databases asks whether a login works: on a new platform it does not.
    playbook.write_text("""
- hosts: all
  gather_facts: false
  tasks:
    - name: Log in where nothing listens
      community.postgresql.postgresql_query:
        login_host: 127.0.0.1
        login_port: 1
        login_db: mlflow
        query: SELECT 1
      register: login
      failed_when: false
    - name: Show the answer
      ansible.builtin.debug:
        msg: "the module answers {{ login.msg }}"
""")
    status, lines = play_lines("one,", playbook, "--connection=local")
    assert status == 0, lines
    assert any("the module answers" in line and "refused" in line for line in lines), lines
    assert not any("WARNING" in line for line in lines), lines
