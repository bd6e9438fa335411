"""Keeps loops alive: an exception ends one pass of a loop, never the loop."""

import logging
import time
from collections.abc import Callable
from types import TracebackType

REPEAT_SECONDS = 60.0


class Guard:
    """Logs an exception of its block and continues.

    One guard serves all passes of a loop. It logs a lasting fault when it begins, once a minute
    while it lasts, and when it ends: a loop that runs five times a second must not fill the
    journal.

    Args:
        work: what the block does, as the log names it.
        logger: where it logs.
        clock: returns seconds.
    """

    def __init__(
        self, work: str, logger: logging.Logger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures = 0
        """The number of passes in a row that failed."""
        self._work = work
        self._logger = logger
        self._clock = clock
        self._logged_at = 0.0

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            if self.failures:
                self._logger.info("%s: works again, failed %d times", self._work, self.failures)
            self.failures = 0
            return False
        if not isinstance(error, Exception):
            # The task is cancelled, or the process must end.
            return False
        now = self._clock()
        if self.failures == 0 or now - self._logged_at >= REPEAT_SECONDS:
            self._logged_at = now
            self._logger.error("%s: failed, will be retried", self._work, exc_info=error)
        self.failures += 1
        return True
