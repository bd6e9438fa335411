"""A client of this host's runners, with one connection for each running prediction."""

import asyncio
import os
import socket
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec

from model_api.common.frames import (
    HEAD,
    Fault,
    FrameError,
    Invoke,
    Invoked,
    Kind,
    Predict,
    Refusal,
    frame,
    opened,
)
from model_api.common.runners import CONTROL, Complaint, socket_of
from model_api.http.executor import overloaded
from model_api.http.problems import Problem
from model_api.model.errors import refusal
from model_api.model.invocations import Answered
from model_api.model.version import Version

_pack = msgspec.msgpack.Encoder().encode
_INVOKED = msgspec.msgpack.Decoder(Invoked)
_REFUSAL = msgspec.msgpack.Decoder(Refusal)
_FAULT = msgspec.msgpack.Decoder(Fault)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON = msgspec.json.Decoder(msgspec.Raw)
_STREAM_BYTES = 2**20

type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ModelFailed(Exception):
    """The model's own code failed in its runner."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.error)
        self.fields: dict[str, object] = {"error": fault.error, "where": fault.at}


class Runners:
    """One worker's clients of this host's runners.

    Args:
        directory: the directory of their sockets.
        connections: the most predictions of each version that run for this worker at a time.
        queue: the most predictions of each version that may wait.
    """

    def __init__(self, directory: Path, connections: int, queue: int) -> None:
        self._directory = directory
        self._connections = connections
        self._queue = queue
        # Weak keys, so that a version is freed once the store drops it.
        self._clients: WeakKeyDictionary[Version, RunnerClient] = WeakKeyDictionary()

    def of(self, version: Version) -> "RunnerClient":
        """Return the client of a version's runner."""
        client = self._clients.get(version)
        if client is None:
            client = self._clients[version] = RunnerClient(
                self._directory, version.folder.name, self._connections, self._queue
            )
        return client

    @property
    def running(self) -> int:
        """The number of running predictions."""
        return sum(client.running for client in self._clients.values())

    @property
    def waiting(self) -> int:
        """The number of waiting predictions."""
        return sum(client.waiting for client in self._clients.values())


class RunnerClient:
    """A client of one version's runner.

    Args:
        directory: the directory of the sockets.
        folder: the name of the version's folder.
        connections: the most predictions at a time.
        queue: the most predictions that may wait.
    """

    def __init__(self, directory: Path, folder: str, connections: int, queue: int) -> None:
        self._directory = directory
        self._folder = folder
        self._address = str(socket_of(directory, folder))
        self._count = connections
        self._room = connections + queue
        self._taken = 0
        self._turn = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []

    @property
    def running(self) -> int:
        """The number of running predictions."""
        return min(self._taken, self._count)

    @property
    def waiting(self) -> int:
        """The number of waiting predictions."""
        return max(self._taken - self._count, 0)

    async def predict(
        self, body: bytes, probabilities: bool, max_rows: int, seconds: float
    ) -> bytes:
        """Return the answer to a body of the strict contract, as members of a JSON object.

        Args:
            body: the request's body.
            probabilities: whether the request asks for them.
            max_rows: the most rows of the request.
            seconds: limit for the answer, including the wait.

        Raises:
            RequestError: the model cannot answer it.
            ModelFailed: the model's own code fails.
            Problem: there is no answer for now.
        """
        content = _pack(Predict(body, max_rows, probabilities))
        kind, answer = await self._ask(frame(Kind.PREDICT, content), seconds)
        if kind is not Kind.MEMBERS:
            raise _error(kind, answer)
        _check(_MEMBERS, b"{%b}" % answer)
        return answer

    async def invoke(
        self, body: bytes, content_type: str, max_rows: int, seconds: float
    ) -> Answered:
        """Return the answer to a body of MLflow's contract; otherwise like `predict`."""
        content = _pack(Invoke(body, max_rows, content_type))
        kind, answer = await self._ask(frame(Kind.INVOKE, content), seconds)
        if kind is not Kind.ANSWERED:
            raise _error(kind, answer)
        try:
            answered = _INVOKED.decode(answer)
        except msgspec.MsgspecError:
            raise _gone("answers with something else") from None
        if answered.whole:
            _check(_JSON, answered.content)
        else:
            _check(_MEMBERS, b"{%b}" % answered.content)
        return Answered(answered.content, answered.whole, answered.body)

    async def _ask(self, asked: bytes, seconds: float) -> tuple[Kind, bytes]:
        if self._taken >= self._room:
            raise overloaded("too many predictions are waiting")
        self._taken += 1
        clock = asyncio.get_running_loop().time
        sent = clock()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(seconds), self._turn:
                # Without the wait for its turn.
                sent = clock()
                connection = await self._connected()
                reader, writer = connection
                writer.write(asked)
                length, kind = opened(await reader.readexactly(HEAD.size))
                answer = await reader.readexactly(length)
                self._idle.append(connection)
                connection = None
                return kind, answer
        except TimeoutError:
            if connection is not None:
                self._complain(clock() - sent)
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "prediction-timeout",
                f"the prediction took more than {seconds:g} seconds: send fewer rows at a time",
                headers={"Retry-After": "1"},
            ) from None
        except (OSError, EOFError, FrameError):
            raise _gone("has ended") from None
        finally:
            self._taken -= 1
            if connection is not None:
                connection[1].close()

    async def _connected(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_unix_connection(self._address, limit=_STREAM_BYTES)

    def _complain(self, seconds: float) -> None:
        complaint = msgspec.json.encode(Complaint(self._folder, seconds))
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
            control.setblocking(False)
            control.sendto(complaint, os.fspath(self._directory / CONTROL))


def _check[T](decoder: msgspec.json.Decoder[T], content: bytes) -> None:
    try:
        decoder.decode(content)
    except msgspec.MsgspecError:
        raise _gone("answers with something other than JSON") from None


def _error(kind: Kind, content: bytes) -> Exception:
    try:
        if kind is Kind.REFUSED:
            refused = _REFUSAL.decode(content)
            return refusal(refused.kind, refused.detail, refused.members)
        if kind is Kind.FAILED:
            return ModelFailed(_FAULT.decode(content))
    except (msgspec.MsgspecError, KeyError):
        pass
    return _gone("answers with something else")


def _gone(what: str) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "runner-ended",
        f"the process that answers for this version {what}; it is being replaced: retry",
        headers={"Retry-After": "1"},
    )
