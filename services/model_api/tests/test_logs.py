"""Logs for the journal."""

import json
import logging
import sys

from model_api.logs import JsonLine, without_values


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.ERROR, "", 0, message, arguments, sys.exc_info())


def test_a_traceback_is_in_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = JsonLine().format(record("failed:\n%s", "so"))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["level"] == "error"
    assert fields["message"] == "failed:\nso"
    assert "ValueError: two\nlines" in fields["traceback"]


def test_fields_are_members_of_the_line() -> None:
    entry = record("POST")
    entry.exc_info = None
    entry.fields = {"status": 200, "path": "/models"}
    assert json.loads(JsonLine().format(entry)) == {
        "level": "error",
        "logger": "x",
        "message": "POST",
        "status": 200,
        "path": "/models",
    }


def test_a_models_error_is_told_without_its_message() -> None:
    try:
        raise ValueError("the payload")
    except ValueError as error:
        told = without_values(error)
    assert told["error"] == "ValueError"
    assert "test_logs.py" in told["where"][0]
    assert "payload" not in str(told).replace("test_logs.py", "")
