"""Logs for the journal."""

import json
import logging
import sys

from model_api.common.logs import CONFIG, JsonLine, Repeats, Sparse, without_values


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


def test_a_models_error_is_logged_without_its_message() -> None:
    try:
        raise ValueError("the payload")
    except ValueError as error:
        told = without_values(error)
    assert told["error"] == "ValueError"
    assert "test_logs.py" in told["where"][0]
    assert "payload" not in str(told).replace("test_logs.py", "")


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_of_a_kind_has_a_line_and_the_others_are_counted() -> None:
    clock = Clock()
    repeats = Repeats(60, clock)
    assert [repeats.first("a") for _ in range(300)] == [True] + [False] * 299
    assert repeats.first("b")
    assert list(repeats.due()) == []
    clock.now = 60
    assert list(repeats.due()) == [("a", 299)]
    assert list(repeats.due()) == []
    assert not repeats.first("a")
    assert repeats.first("b")
    clock.now = 120
    assert list(repeats.due()) == [("a", 1)]
    # After an interval without events, the next one is a first again.
    clock.now = 180
    assert list(repeats.due()) == []
    assert repeats.first("a")


def test_the_servers_warnings_of_requests_that_are_not_http_are_few() -> None:
    clock = Clock()
    assert CONFIG["loggers"]["uvicorn.error"]["filters"] == ["sparse"]
    sparse = Sparse(clock)
    warning = [logging.LogRecord("x", logging.WARNING, "", 0, "no HTTP", (), None) for _ in "12345"]
    assert [sparse.filter(one) for one in warning[:4]] == [True, False, False, False]
    clock.now = 61
    assert sparse.filter(warning[4])
    assert warning[4].fields == {"repeated": 3}
    assert all(sparse.filter(record("started")) for _ in range(3))
