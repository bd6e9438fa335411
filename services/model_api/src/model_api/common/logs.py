"""Logs for the journal: one JSON object per line, never with a request's payload."""

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import msgspec

from model_api.common.guard import REPEAT_SECONDS

_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonLine(logging.Formatter):
    """Writes a record as one line of JSON; the members in ``record.fields`` are added.

    The journal adds the time.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line).decode()


def without_values(error: BaseException) -> dict[str, object]:
    """Return the loggable part of a model's error, whose message may quote the payload.

    Returns:
        The type of the error and where it was raised.
    """
    return {
        "error": type(error).__name__,
        "where": [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-8:]
        ],
    }


class Repeats[Kind: Hashable]:
    """Decides which of many similar events get a log line, and counts the others.

    Clients without a key can send any number of requests. One line per request would fill the
    journal, which then drops lines that matter. So the first of a kind gets a line, and one line at
    the end of each interval has the number of the others.

    Args:
        seconds: the length of an interval.
        clock: returns seconds.
    """

    def __init__(
        self, seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[Kind, float] = {}
        self._counts: Counter[Kind] = Counter()

    def first(self, kind: Kind) -> bool:
        """Return True for the first of its interval, which gets a line; count any other."""
        if kind in self._since:
            self._counts[kind] += 1
            return False
        self._since[kind] = self._clock()
        return True

    def due(self) -> Iterator[tuple[Kind, int]]:
        """Yield each kind whose interval is over, with the number of counted events."""
        now = self._clock()
        for kind, since in list(self._since.items()):
            if now - since < self._seconds:
                continue
            if count := self._counts.pop(kind, 0):
                self._since[kind] = now
                yield kind, count
            else:
                del self._since[kind]


class Sparse(logging.Filter):
    """Lets one warning per interval through; the next one says how many there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats: Repeats[object] = Repeats(clock=clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record gets a line."""
        if record.levelno != logging.WARNING:
            return True
        counts = dict(self._repeats.due())
        if not self._repeats.first(record.msg) and record.msg not in counts:
            return False
        if record.msg in counts:
            record.fields = {"repeated": counts[record.msg]}
        return True


CONFIG: dict[str, object] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": JsonLine}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    # The server warns of each request that is not HTTP.
    "filters": {"sparse": {"()": Sparse}},
    "loggers": {"uvicorn.error": {"filters": ["sparse"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
