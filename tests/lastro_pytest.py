"""The pytest plugin of every suite: the heads of failures, the times of tests, the long proofs.

Each suite's settings load it (``-p`` in its pyproject.toml). Tests marked ``full`` are for
``make test-full``.
With LASTRO_TIMELINE set, a line of JSON there says when each test began, and one how it ended:
the runner counts by them, and names what hangs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import TerminalRepr

# An assertion in a shared module shows its values, as one in a test does.
SHARED = ("wiring", "lastro_platform", "published_dags", "actions", "airflow_outage", "edge_tests")
pytest.register_assert_rewrite(*SHARED)

# The end of a failed test's output is enough: the rest is in the logs that it names.
LINES_OF_OUTPUT = 40
LINES_OF_REASON = 8


def pytest_configure(config: pytest.Config) -> None:
    # A run that was started in the background ignores it; the runner interrupts by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "full: a long proof, which only `make test-full` runs")
    config.addinivalue_line("markers", "see(*names): the units or logs that show why it failed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("LASTRO_FULL"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


# ---- when each test ran --------------------------------------------------------------------------


def note(**event: Any) -> None:
    """Add a line to this process's part of the timeline."""
    if folder := os.environ.get("LASTRO_TIMELINE"):
        with Path(folder, f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(event | {"at": time.time()}) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    note(test=item.nodeid, event="began")
    item.stash[ENDED] = ("passed", "")
    result = yield
    outcome, reason = item.stash[ENDED]
    note(test=item.nodeid, event=outcome, reason=reason)
    return result


ENDED = pytest.StashKey[tuple[str, str]]()


# ---- the head of a failure -----------------------------------------------------------------------


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[KeyboardInterrupt]) -> None:
    """Show where a test was that the runner has ended."""
    print(excinfo.getrepr(style="short"), file=sys.__stdout__, flush=True)


class Failure(TerminalRepr):
    """A failure that begins with the expectation, the result, and where to look."""

    def __init__(self, reason: list[str], whole: Any) -> None:
        self.reason = reason
        self.whole = whole
        self.reprcrash = getattr(whole, "reprcrash", None)

    def toterminal(self, tw: Any) -> None:
        for line in self.reason:
            tw.line(line, bold=True)
        tw.line("")
        if hasattr(self.whole, "toterminal"):
            self.whole.toterminal(tw)
        else:
            tw.line(str(self.whole))


def reason_of(item: pytest.Item, report: pytest.TestReport) -> list[str]:
    """Why a test failed, in at most ten lines."""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = str(crash.message if crash else report.longrepr).splitlines()
    lines = [line[:300] for line in said if line.strip()][:LINES_OF_REASON]
    if crash:
        lines.append(f"at {crash.path}:{crash.lineno}")
    marker = item.get_closest_marker("see")
    if marker:
        lines.append(f"see {', '.join(marker.args)}")
    return lines


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        reason = reason_of(item, report)
        item.stash[ENDED] = ("failed", "\n".join(reason))
        report.longrepr = Failure(reason, report.longrepr)
        for position, (title, text) in enumerate(report.sections):
            lines = text.splitlines()
            if title.startswith("Captured") and len(lines) > LINES_OF_OUTPUT:
                title += f" (the last {LINES_OF_OUTPUT} of {len(lines)} lines)"
                report.sections[position] = (title, "\n".join(lines[-LINES_OF_OUTPUT:]))
    # A test that was expected to fail, and does, has passed.
    elif report.skipped and not hasattr(report, "wasxfail"):
        item.stash[ENDED] = ("skipped", "")
    return report


def examples(count: int) -> int:
    """How many examples a property is tried with: ``count`` in the full run, else a third."""
    return count if os.environ.get("LASTRO_FULL") else -(-count // 3)
