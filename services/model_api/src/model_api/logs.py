"""Logs for the journal: one line a record, no health checks."""

import logging
from typing import Any


class SingleLine(logging.Formatter):
    """Folds a record of several lines, such as a traceback, into one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return super().format(record).replace("\n", "\\n")


class NoHealthChecks(logging.Filter):
    """Drops uvicorn's access records of the health paths."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to keep the record; the third argument is the path."""
        arguments = record.args
        return not (
            isinstance(arguments, tuple)
            and len(arguments) > 2
            and str(arguments[2]).startswith("/health/")
        )


CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        # The journal adds the time.
        "line": {"()": SingleLine, "format": "%(levelname)s %(name)s: %(message)s"},
    },
    "filters": {"no-health-checks": {"()": NoHealthChecks}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"uvicorn.access": {"filters": ["no-health-checks"], "level": "INFO"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
