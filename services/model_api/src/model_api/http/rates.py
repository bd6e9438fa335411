"""The rate limits of the keys."""

import math
import mmap
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from model_api.http.keys import Caller
from model_api.http.problems import Problem

_DOUBLE = struct.Struct("d")


class RateLimiter:
    """The rate limits of the keys, shared by all worker processes of the host.

    Each limited key has a file of 8 bytes, mapped into memory: the time at which its requests so
    far are paid for (the generic cell rate algorithm, a leaky bucket as one number). Processes take
    no lock: two that decide within the same microsecond may let one more request through.

    Args:
        folder: the folder of the files, the same for all processes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._paid: dict[str, mmap.mmap] = {}

    def take(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        """Count one request.

        Raises:
            Problem: 429, the key's limit is reached for now.
        """
        rate = caller.requests_per_second
        if rate is None:
            return
        paid = self._paid.get(caller.name) or self._open(caller.name)
        now = clock()
        # Files survive reboots: ignore a time too far in the future for any bucket.
        until = _DOUBLE.unpack_from(paid)[0]
        full = now + caller.burst / rate
        until = until if now <= until < full + 1 / rate else now
        wait = until + 1 / rate - full
        # The sums have a rounding error of about a billionth.
        if wait > 1e-9:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate-limited",
                f"rate limit of the key {caller.name!r} exceeded"
                f" ({rate:g}/s, burst {caller.burst}): retry later",
                headers={"Retry-After": str(math.ceil(wait))},
            )
        paid[:8] = _DOUBLE.pack(until + 1 / rate)

    def _open(self, name: str) -> mmap.mmap:
        with (self._folder / name).open("a+b") as file:
            if file.tell() < _DOUBLE.size:
                file.truncate(_DOUBLE.size)
            self._paid[name] = mmap.mmap(file.fileno(), _DOUBLE.size)
        return self._paid[name]
