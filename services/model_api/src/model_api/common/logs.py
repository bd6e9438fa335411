"""Logs for the journal: one JSON object a line, and never a request's payload."""

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
    """Return what may be logged of an error that a model raised: its message may quote the payload.

    Returns:
        The type of the error, and where it was raised.
    """
    return {
        "error": type(error).__name__,
        "where": [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-8:]
        ],
    }


class Repeats[Kind: Hashable]:
    """Tells which of many events that are alike have a line, and counts the others.

    Whoever has no key may ask as often as he likes: a line each would fill the journal, which then
    drops lines that matter. The first of a kind has a line; the others are counted, and told once
    in each interval that had some.

    Args:
        seconds: of an interval.
        clock: gives seconds.
    """

    def __init__(
        self, seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[Kind, float] = {}
        self._counts: Counter[Kind] = Counter()

    def first(self, kind: Kind) -> bool:
        """Count one, unless it is the first of its interval: that one is to have a line."""
        if kind in self._since:
            self._counts[kind] += 1
            return False
        self._since[kind] = self._clock()
        return True

    def due(self) -> Iterator[tuple[Kind, int]]:
        """Yield each kind whose interval is over with the number of those that were counted."""
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
    """Lets a warning through once in an interval; the next one tells how many there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats: Repeats[object] = Repeats(clock=clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is to have its line."""
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
    # The server warns of each request that is no HTTP.
    "filters": {"sparse": {"()": Sparse}},
    "loggers": {"uvicorn.error": {"filters": ["sparse"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
