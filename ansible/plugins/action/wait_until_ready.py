"""Action plugin: wait until a service is ready, or until its units keep exiting."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

DOCUMENTATION = """
module: wait_until_ready
short_description: Wait until a service is ready
description:
  - Ready means that a URL answers 200 with a body that matches, that a file exists, that commands
    end with 0; all of these that are given.
  - Fails at the deadline, or earlier, once systemd has restarted a unit too often. A task with
    until counts tries, looks at one condition only, and shows nothing of what it waits for.
  - Prints what it waits for whenever that changes, and every I(remind) seconds.
options:
  url:
    description: URL to request on the host.
    type: str
  headers:
    description: Headers of the request.
    type: dict
    default: {}
  pattern:
    description: Regular expression that must match somewhere in the body of the answer.
    type: str
    default: ""
  file:
    description: File that must exist, for a service that does not listen.
    type: path
  commands:
    description: Programs, each a list with its arguments, that must end with 0 on the host.
    type: list
    elements: list
    default: []
  units:
    description: systemd units, without their ending, that must not keep exiting.
    type: list
    elements: str
    default: []
  restarts:
    description: Restarts of a unit by systemd after which the wait fails; 0 for any number.
    type: int
    default: 0
  seconds:
    description: How long to wait.
    type: int
    required: true
  remind:
    description: Seconds between two lines where nothing changes.
    type: int
    default: 15
"""

EXAMPLES = """
- name: Wait until the model API is ready
  wait_until_ready:
    url: http://127.0.0.1:8000/health/ready
    units: [model-api]
    restarts: 3
    seconds: 300
"""

RETURN = """
waited:
  description: Seconds.
  type: int
"""

SECONDS_BETWEEN_LOOKS = 1
# For one answer: the deadline must not be overrun by one that hangs.
ANSWER_SECONDS = 10
BODY_CHARACTERS = 300


def read_answer(answer: Mapping[str, Any], pattern: str) -> str:
    """Return why an answer does not mean ready, empty if it does.

    Args:
        answer: the result of the module uri.
        pattern: regular expression that must match somewhere in the body.
    """
    status = answer.get("status", -1)
    body = str(answer.get("content", ""))[:BODY_CHARACTERS].strip()
    if status == -1:
        return f"unreachable: {answer.get('msg', 'no reason given')}"
    if status != 200:
        return f"HTTP status {status}: {body}" if body else f"HTTP status {status}"
    if not re.search(pattern, str(answer.get("content", "")), re.DOTALL):
        return f"not healthy yet: {body}"
    return ""


def read_failure(command: Sequence[str], ended: Mapping[str, Any]) -> str:
    """Return the failed command and the last line that it printed.

    Args:
        command: the program and its arguments.
        ended: the result of the module command.
    """
    said = next((ended[key] for key in ("stderr", "stdout", "msg") if ended.get(key)), "no output")
    return f"{' '.join(command)}: {said.strip().splitlines()[-1]}"[:BODY_CHARACTERS]


def read_restarts(properties: str) -> dict[str, int]:
    """Read `systemctl show --property=Id,NRestarts`.

    Args:
        properties: its output: a paragraph of name=value lines for each unit.

    Returns:
        Unit, without its ending -> restarts by systemd since somebody last started it.
    """
    units = {}
    for paragraph in properties.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in paragraph.splitlines())
        if values.get("NRestarts", "").isdecimal():
            units[values.get("Id", "").removesuffix(".service")] = int(values["NRestarts"])
    return units


class ActionModule(ActionBase):
    """See ``DOCUMENTATION``."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Look once a second until the service is ready, keeps exiting, or the time is up."""
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            argument_spec={
                "url": {"type": "str"},
                "headers": {"type": "dict", "default": {}, "no_log": True},
                "pattern": {"type": "str", "default": ""},
                "file": {"type": "path"},
                "commands": {"type": "list", "elements": "list", "default": []},
                "units": {"type": "list", "elements": "str", "default": []},
                "restarts": {"type": "int", "default": 0},
                "seconds": {"type": "int", "required": True},
                "remind": {"type": "int", "default": 15},
            }
        )
        if self._task.check_mode:
            # Nothing was started.
            return {"changed": False, "waited": 0}
        host = (task_vars or {}).get("inventory_hostname", "")
        began = time.monotonic()
        said, said_at = "", began
        before: dict[str, int] | None = None
        while True:
            state = self._state(given, task_vars)
            now = time.monotonic()
            waited = {"changed": False, "waited": round(now - began)}
            if not state:
                return waited
            restarts = self._restarts(given, task_vars)
            before = restarts if before is None else before
            for unit, count in restarts.items():
                if count - before.get(unit, 0) >= given["restarts"] > 0:
                    why = f"{unit} exited {count - before.get(unit, 0)} times"
                    return {"failed": True, "msg": f"{why} ({state})", **waited}
            if now - began >= given["seconds"]:
                return {"failed": True, "msg": f"{state}, after {waited['waited']} s", **waited}
            if state != said or now - said_at >= given["remind"]:
                said, said_at = state, now
                self._display.display(
                    f"{'waiting':<8} {host:<24} {self._task.get_name()}: {state}"
                    f" ({now - began:.0f} of {given['seconds']} s)",
                    color=C.COLOR_VERBOSE,
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _state(self, given: Mapping[str, Any], task_vars: dict[str, Any] | None) -> str:
        """Return why the service is not ready, empty if it is."""
        if given["url"]:
            answer = self._execute_module(
                module_name="ansible.builtin.uri",
                module_args={
                    "url": given["url"],
                    "headers": given["headers"],
                    "return_content": True,
                    "timeout": ANSWER_SECONDS,
                },
                task_vars=task_vars,
            )
            if state := read_answer(answer, given["pattern"]):
                return state
        if given["file"]:
            found = self._execute_module(
                module_name="ansible.builtin.stat",
                module_args={"path": given["file"]},
                task_vars=task_vars,
            )
            if not found.get("stat", {}).get("exists"):
                return f"{given['file']} does not exist"
        for command in given["commands"]:
            ended = self._execute_module(
                module_name="ansible.builtin.command",
                # Without input, a program that reads some would wait for it.
                module_args={"argv": command, "stdin": ""},
                task_vars=task_vars,
            )
            if ended.get("rc") != 0:
                return read_failure(command, ended)
        return ""

    def _restarts(
        self, given: Mapping[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, int]:
        units: Sequence[str] = given["units"]
        if not units or not given["restarts"]:
            return {}
        names = [f"{unit}.service" for unit in units]
        shown = self._execute_module(
            module_name="ansible.builtin.command",
            module_args={"argv": ["systemctl", "show", "--property=Id,NRestarts", *names]},
            task_vars=task_vars,
        )
        return read_restarts(shown.get("stdout", ""))
