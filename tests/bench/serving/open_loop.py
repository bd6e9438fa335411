"""Ask at a fixed rate, whatever the answers take, and write down each of them.

Run with the model API's environment: open_loop.py PORT RATE SECONDS REQUEST_FILE RESULT_FILE

Closed-loop tools wait for a slow answer before they ask again, and so hide what a user waits for;
here the time of an answer counts from when its request was due. Debian has no such tool that also
keeps the bodies.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import deque
from pathlib import Path

import msgspec
import uvloop

CONNECTIONS = 32


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = bytearray()
        self.due = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for work."""
        self.transport = transport
        self.load.idle.append(self)

    def ask(self, due: float) -> None:
        """Send the request that was due then."""
        self.due = due
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        """Note the answer once it is whole."""
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self.buffer[:head_end]).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self.buffer) < head_end + 4 + length:
            return
        body = bytes(self.buffer[head_end + 4 :])
        self.buffer.clear()
        self.load.answers.append((self.due, time.time(), int(head[9:12]), body))
        self.due = 0.0
        self.load.next(self)

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that ends under a request is a failed request."""
        if self.due:
            self.load.answers.append((self.due, time.time(), 0, b""))


class Load:
    """The requests that are due, the free connections, and the answers."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.idle: list[Connection] = []
        self.waiting: deque[float] = deque()
        self.answers: list[tuple[float, float, int, bytes]] = []

    def next(self, connection: Connection) -> None:
        """Give a free connection what waits longest."""
        if self.waiting:
            connection.ask(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def due(self, at: float) -> None:
        """Ask at once, or as soon as a connection is free."""
        if self.idle:
            self.idle.pop().ask(at)
        else:
            self.waiting.append(at)


async def main(port: int, rate: float, seconds: float, request: Path, result: Path) -> None:
    """Ask, then write one JSON line an answer: due, answered (Unix seconds), status, version."""
    load = Load(request.read_bytes())
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    gc.collect()
    gc.disable()
    began, asked, total = time.time(), 0, int(rate * seconds)
    while asked < total:
        now = time.time()
        while asked < total and began + asked / rate <= now:
            load.due(began + asked / rate)
            asked += 1
        await asyncio.sleep(0.0005)
    deadline = time.time() + 10
    while len(load.answers) < total and time.time() < deadline:
        await asyncio.sleep(0.05)
    with result.open("wb") as lines:
        for due, answered, status, body in load.answers:
            version = msgspec.json.decode(body)["model"]["version"] if status == 200 else None
            lines.write(msgspec.json.encode([due, answered, status, version]) + b"\n")
        for _ in range(total - len(load.answers)):
            lines.write(msgspec.json.encode([0, 0, 0, None]) + b"\n")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    uvloop.run(
        main(
            int(arguments[0]),
            float(arguments[1]),
            float(arguments[2]),
            Path(arguments[3]),
            Path(arguments[4]),
        )
    )
