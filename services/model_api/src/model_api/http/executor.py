"""Threads for predictions that would block the event loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from model_api.http.problems import Problem

# The pause between two predictions in a thread, in which the event loop can send an answer and read
# the next request without competing for the interpreter. Measured: see this service's README.md.
BREAK_SECONDS = 0.0001


class PredictionExecutor:
    """Runs longer work outside the event loop, and limits how much runs and waits.

    Args:
        count: the most that run at a time.
        queue: the most that wait.
    """

    def __init__(self, count: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="prediction")
        self._count = count
        self._room = count + queue
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """How many run now."""
        return min(self._taken, self._count)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return max(self._taken - self._count, 0)

    async def run[T](self, work: Callable[[], T], seconds: float) -> T:
        """Run the work and return its result.

        Args:
            work: called in a thread. Work that takes too long keeps its place until it ends,
                because a thread cannot be stopped.
            seconds: its limit, including the wait.

        Raises:
            Problem: 429, the queue is full; 503, it took too long.
        """
        with self._lock:
            if self._taken >= self._room:
                raise overloaded("too many predictions are waiting")
            follows = self._taken >= self._count
            self._taken += 1
        # A list instead of the future's result: the future is part of a cycle, which would keep a
        # result, or an error with all its frames and therefore the version, which may be large.
        outcome: list[Any] = []
        try:
            future = self._executor.submit(_do, work, BREAK_SECONDS if follows else 0, outcome)
        except BaseException:
            # For example, no memory for a thread. The place must become free again.
            self._free()
            raise
        future.add_done_callback(self._free)
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "prediction-timeout",
                f"the prediction took more than {seconds:g} seconds: send fewer rows at a time",
                headers={"Retry-After": "1"},
            ) from None
        result, failed = outcome
        if not failed:
            answer: T = result
            return answer
        outcome.clear()
        try:
            raise result
        finally:
            # The error has this frame in its traceback.
            del result

    def stop(self) -> None:
        """Drop the waiting work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _free(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._taken -= 1


def _do(work: Callable[[], Any], pause: float, outcome: list[Any]) -> None:
    """Put into the list the work's result or error, and whether it is an error."""
    time.sleep(pause)
    try:
        outcome[:] = work(), False
    except Exception as error:
        outcome[:] = error, True
    except BaseException as error:
        # For example, a model's sys.exit() must not end the service.
        outcome[:] = RuntimeError(f"the work raised {type(error).__name__}"), True


def overloaded(reason: str) -> Problem:
    """Return the problem for a request that there is no room for."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "overloaded",
        f"{reason}: retry later",
        headers={"Retry-After": "1"},
    )
