"""How much may be asked: by one key, of one process, and in one body."""

import asyncio
import math
import mmap
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

from model_api.keys import Caller
from model_api.problems import Problem

# Between two predictions in a thread: the event loop sends the one answer and reads the next
# request while nobody else wants the interpreter. Measured in docs/decisions.md.
BREAK_SECONDS = 0.0001

_DOUBLE = struct.Struct("d")


class Disconnected(Exception):
    """The client went away before it had sent the whole request."""


class Rates:
    """The rate limits of the keys, shared by all worker processes of the host.

    Each limited key has a file of 8 bytes, mapped into memory: the time at which its requests so
    far are paid for (the generic cell rate algorithm, a leaky bucket as one number). Processes do
    not lock each other out: two that decide within the same microsecond may let one more through.

    Args:
        folder: of the files, the same for all processes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._paid: dict[str, mmap.mmap] = {}

    def take(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        """Count one request.

        Raises:
            Problem: 429, the key's requests are used up for now.
        """
        rate = caller.requests_per_second
        if rate is None:
            return
        paid = self._paid.get(caller.name) or self._open(caller.name)
        now = clock()
        # Of another boot, if it is further ahead than a bucket can be: files may outlive one.
        until = _DOUBLE.unpack_from(paid)[0]
        full = now + caller.burst / rate
        until = until if now <= until < full + 1 / rate else now
        wait = until + 1 / rate - full
        # A billionth is what the sums are off by.
        if wait > 1e-9:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate-limited",
                f"the key {caller.name!r} may ask {rate:g} times a second,"
                f" {caller.burst} at once: ask more seldom",
                headers={"Retry-After": str(math.ceil(wait))},
            )
        paid[:8] = _DOUBLE.pack(until + 1 / rate)

    def _open(self, name: str) -> mmap.mmap:
        with (self._folder / name).open("a+b") as file:
            if file.tell() < _DOUBLE.size:
                file.truncate(_DOUBLE.size)
            self._paid[name] = mmap.mmap(file.fileno(), _DOUBLE.size)
        return self._paid[name]


class Threads:
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
            return result
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
        f"{reason}: ask again later",
        headers={"Retry-After": "1"},
    )


async def read_body(
    receive: Callable[[], Awaitable[Any]], declared: bytes | None, limit: int, seconds: float
) -> bytes:
    """Return a request's body, without ever holding more of it than the limit.

    Args:
        receive: of ASGI.
        declared: the header ``Content-Length``, if sent.
        limit: in bytes.
        seconds: that it may take to arrive.

    Raises:
        Problem: 413, it is too large; 408, it takes too long.
        Disconnected: the client went away.
    """
    # The server lets what follows of such a body go by, unread: the connection can go on.
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            if not message.get("more_body", False):
                body = message.get("body", b"")
                if len(body) > limit:
                    raise _too_large(limit)
                return body
            parts = bytearray(message.get("body", b""))
            while len(parts) <= limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                parts += message.get("body", b"")
                if not message.get("more_body", False) and len(parts) <= limit:
                    return bytes(parts)
            raise _too_large(limit)
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "body-timeout",
            f"the body did not arrive within {seconds:g} seconds",
            headers={"Connection": "close"},
        ) from None


def _too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.CONTENT_TOO_LARGE,
        "body-too-large",
        f"the body is larger than {limit} bytes: send fewer rows at a time",
    )
