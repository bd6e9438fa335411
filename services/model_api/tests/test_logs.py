"""Logs for the journal."""

import logging
import sys

from model_api.logs import NoHealthChecks, SingleLine


def test_a_traceback_is_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    line = SingleLine("%(message)s").format(record)
    assert "\n" not in line
    assert "ValueError: two\\nlines" in line


def test_health_checks_are_not_logged() -> None:
    def record(path: str) -> logging.LogRecord:
        arguments = ("127.0.0.1:1", "GET", path, "1.1", 200)
        return logging.LogRecord("uvicorn.access", logging.INFO, "", 0, "%s", arguments, None)

    keep = NoHealthChecks().filter
    assert not keep(record("/health/live"))
    assert not keep(record("/health/ready"))
    assert keep(record("/models"))
