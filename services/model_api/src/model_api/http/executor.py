"""Threads for predictions that would hold up the event loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from model_api.http.problems import Problem

# Between two predictions in a thread: the event loop sends the one answer and reads the next
# request while nobody else wants the interpreter. Measured: see README.md of this service.
BREAK_SECONDS = 0.0001


class PredictionExecutor:
    """Runs what takes longer beside the event loop: some at a time, some waiting, no more.

    Args:
        count: how many run at a time.
        queue: how many wait at most.
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
        """Return what the work returns.

        Args:
            work: called in a thread; what takes too long is left alone there and keeps its place
                until it ends, as no thread can be made to stop.
            seconds: that it may take, waiting included.

        Raises:
            Problem: 429, too many wait already; 503, it took too long.
        """
        with self._lock:
            if self._taken >= self._room:
                raise overloaded("too many predictions are waiting")
            follows = self._taken >= self._count
            self._taken += 1
        # Not the future's: it is part of a cycle, which would keep a result, or an error with all
        # its frames and so the version, which may be large.
        outcome: list[Any] = []
        try:
            future = self._executor.submit(_do, work, BREAK_SECONDS if follows else 0, outcome)
        except BaseException:
            # Such as no memory for a thread: the place must not stay taken for good.
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
        """Forget what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _free(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._taken -= 1


def _do(work: Callable[[], Any], pause: float, outcome: list[Any]) -> None:
    """Leave in the list what the work returns or raises, and whether it is the latter."""
    time.sleep(pause)
    try:
        outcome[:] = work(), False
    except Exception as error:
        outcome[:] = error, True
    except BaseException as error:
        # Such as a model's sys.exit(), which is no reason for the service to end.
        outcome[:] = RuntimeError(f"the work raised {type(error).__name__}"), True


def overloaded(reason: str) -> Problem:
    """Return the answer to a request that there is no room for."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "overloaded",
        f"{reason}: retry later",
        headers={"Retry-After": "1"},
    )
