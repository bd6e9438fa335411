"""Where a prediction is computed: in the event loop, in a thread, or together with others.

One server process, a model of 20 us and one of 5 ms, four connections each that ask without pause.
Prints a table; needs the environment of services/model_api:

    python tests/bench/serving/dispatch.py [--seconds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import uvicorn
from model_api.http.executor import BREAK_SECONDS
from model_api.http.store import SWITCH_SECONDS

CONNECTIONS = 4
FAST, SLOW = 20e-6, 5e-3

Work = Callable[[], None]
Dispatch = Callable[[Work], Awaitable[None]]


def holding(seconds: float) -> Work:
    """Return work that holds the interpreter all the time, as Python code does."""

    def work() -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    return work


def releasing(seconds: float) -> Work:
    """Return work that lets others have the interpreter, as compiled models do."""
    start = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000)
    rounds = max(1, int(20_000 * seconds / (time.perf_counter() - start)))

    def work() -> None:
        hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)

    return work


def often(seconds: float) -> Work:
    """Return work that gives the interpreter away a hundred times, as scikit-learn's forests."""
    tree = releasing(seconds / 100)

    def work() -> None:
        for _ in range(100):
            tree()

    return work


class Inline:
    """Computes in the event loop."""

    async def __call__(self, work: Work) -> None:
        work()


class Threads:
    """Computes in one of some threads."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count)

    async def __call__(self, work: Work) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, work)


class Breaks:
    """Computes in a thread that, while others wait for it, rests for a moment between two."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._taken = 0

    async def __call__(self, work: Work) -> None:
        follows, self._taken = self._taken > 0, self._taken + 1

        def paced() -> None:
            if follows:
                time.sleep(BREAK_SECONDS)
            work()

        await asyncio.get_running_loop().run_in_executor(self._executor, paced)
        self._taken -= 1


class Batches:
    """Computes in a thread; what comes in meanwhile is computed by one call after it.

    At its best: a call of many rows costs no more than one of one row.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._waiting: list[asyncio.Future[None]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if self._running is None:
            self._running = loop.create_task(self._run(work))
        await mine

    async def _run(self, work: Work) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.get_running_loop().run_in_executor(self._executor, work)
            for future in batch:
                future.set_result(None)
        self._running = None


KINDS = {"holds": holding, "releases": releasing, "releases often": often}

# For the 20 us and for the 5 ms, and after how long a thread must let the interpreter go: Python's
# 5 ms, or what the service sets.
WAYS: dict[str, tuple[Callable[[], Dispatch], Callable[[], Dispatch], float]] = {
    "both inline": (Inline, Inline, 0.005),
    "both in 2 threads": (partial(Threads, 2), partial(Threads, 2), 0.005),
    "5 ms in 2 threads, switch": (Inline, partial(Threads, 2), SWITCH_SECONDS),
    "5 ms in 1 thread": (Inline, partial(Threads, 1), 0.005),
    "5 ms in 1 thread, switch": (Inline, partial(Threads, 1), SWITCH_SECONDS),
    "5 ms in 1 thread, switch, breaks": (Inline, Breaks, SWITCH_SECONDS),
    "5 ms in batches, switch": (Inline, Batches, SWITCH_SECONDS),
    "both in batches, switch": (Batches, Batches, SWITCH_SECONDS),
}


def serve(listener: socket.socket, way: str, slow: str) -> None:
    """Run the server until it is terminated."""
    fast_way, slow_way, interval = WAYS[way]
    sys.setswitchinterval(interval)
    make = KINDS[slow]
    paths = {"/fast": (fast_way(), holding(FAST)), "/slow": (slow_way(), make(SLOW))}

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        dispatch, work = paths[scope["path"]]
        await receive()
        await dispatch(work)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    config = uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


async def ask(port: int, path: str, until: float) -> list[float]:
    """Ask without pause on one connection; return how long each answer took, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    while time.monotonic() < until:
        start = time.perf_counter()
        writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
        await reader.readuntil(b"{}")
        times.append(time.perf_counter() - start)
    writer.close()
    return times


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(way: str, slow: str, seconds: float) -> str:
    """Return one line of the table."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = multiprocessing.Process(target=serve, args=(listener, way, slow), daemon=True)
        server.start()

        async def both(seconds: float) -> list[list[float]]:
            until = time.monotonic() + seconds
            paths = ["/fast"] * CONNECTIONS + ["/slow"] * CONNECTIONS
            found = await asyncio.gather(*(ask(port, path, until) for path in paths))
            return [list(chain(*found[:CONNECTIONS])), list(chain(*found[CONNECTIONS:]))]

        asyncio.run(both(0.5))
        before = cpu_seconds(server.pid or 0)
        fast, slow_times = asyncio.run(both(seconds))
        spent = cpu_seconds(server.pid or 0) - before
        server.terminate()
        server.join()
    cells = [way, slow]
    for times in (fast, slow_times):
        times.sort()
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        cells += [f"{len(times) / seconds:.0f}", f"{p50 * 1e3:.2f}", f"{p99 * 1e3:.2f}"]
    cells.append(f"{spent / seconds * 100:.0f}%")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line")
    seconds = parser.parse_args().seconds
    print(
        "| | interpreter | 20 us: req/s | p50 ms | p99 ms | 5 ms: req/s | p50 ms | p99 ms | CPU |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for slow in KINDS:
        for way in WAYS:
            print(measure(way, slow, seconds), flush=True)


if __name__ == "__main__":
    main()
