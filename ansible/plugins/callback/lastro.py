"""Callback plugin: one line for each result, with its host and task; waits that say what for."""

from __future__ import annotations

import time
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: lastro
type: stdout
short_description: one line a result, for hosts that go on at their own pace
description:
  - The default callback prints results below the name of the task that started last. When each
    host goes on as fast as it can, that is often another's. Here each line names its own.
  - A task that is retried says, at most every five seconds, how long it has waited and what the
    last answer was.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

SECONDS_BETWEEN_WAITS = 5
# Not shown on success: Ansible's own steps between the tasks.
SILENT = (*C._ACTION_ALL_INCLUDES, "ansible.builtin.validate_argument_spec")


class CallbackModule(Default):
    """See ``DOCUMENTATION``."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lastro"

    def __init__(self) -> None:
        super().__init__()
        self._waits: dict[tuple[str, str], tuple[float, float]] = {}

    def _line(self, status: str, result: Any, color: str, note: str = "") -> None:
        name = result.task.get_name().strip()
        host = result.host.get_name()
        self._display.display(f"{status:<8} {host:<24} {name}{note}", color=color)

    def _item(self, result: Any) -> str:
        label = self._get_item_label(result.result)
        return f": {label}" if label is not None else ""

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Print nothing: each result names its task."""

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Print nothing: each result names its task."""

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Print nothing: the tasks that are included say what they do."""

    def v2_runner_on_ok(self, result: Any) -> None:
        """Print what was done, or found as it should be; and all that a task was made to show."""
        self._handle_warnings_and_exception(result)
        if result.task.action in C._ACTION_DEBUG:
            message = result.result.get("msg", "")
            lines = message if isinstance(message, list) else [message]
            self._display.display("\n" + "\n".join(map(str, lines)))
        elif result.task.loop and "results" in result.result:
            self._process_items(result)
        elif result.is_changed():
            self._line("changed", result, C.COLOR_CHANGED)
        elif result.task.action not in SILENT:
            self._line("ok", result, C.COLOR_OK)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """As for a task, for one item of its loop."""
        if result.task.action in C._ACTION_ALL_INCLUDES:
            return
        status, color = ("changed", C.COLOR_CHANGED) if result.is_changed() else ("ok", C.COLOR_OK)
        self._line(status, result, color, self._item(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Print what failed and why, in plain lines; with -v all that Ansible knows of it."""
        if not (result.task.loop and "results" in result.result):
            self._failure(result)
        if ignore_errors:
            self._display.display("...ignored")

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """As for a task, for one item of its loop."""
        self._failure(result, self._item(result))

    def _failure(self, result: Any, note: str = "") -> None:
        self._line("FAILED", result, C.COLOR_ERROR, note)
        if self._display.verbosity > 0:
            self._handle_warnings_and_exception(result)
            self._display.display(self._dump_results(result.result), color=C.COLOR_ERROR)
            return
        for part in ("msg", "stdout", "stderr"):
            text = str(result.result.get(part) or "").strip()
            if text:
                self._display.display(text + "\n", color=C.COLOR_ERROR)

    def v2_runner_retry(self, result: Any) -> None:
        """Print what is waited for, since when, and what the last answer was."""
        key = (result.host.get_name(), result.task._uuid)
        now = time.monotonic()
        began, printed = self._waits.setdefault(key, (now, now))
        if now - printed < SECONDS_BETWEEN_WAITS:
            return
        self._waits[key] = (began, now)
        answer = result.result.get("json")
        state = answer.get("state") if isinstance(answer, dict) else None
        self._line(
            "waiting",
            result,
            C.COLOR_VERBOSE,
            f": {now - began:.0f} s" + (f", {state}" if state else ""),
        )
