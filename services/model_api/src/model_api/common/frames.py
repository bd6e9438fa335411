"""The protocol between a worker and a runner over a Unix socket: one frame each way, in turn.

A frame is the length of its content (4 bytes, little-endian), its kind (1 byte), and its content.
Both ends run on the same host, from the same release.
"""

import socket
from enum import IntEnum
from struct import Struct

import msgspec

HEAD = Struct("<IB")
MOST_BYTES = 256 * 2**20
"""The most bytes of one frame, many times the size of the largest answer."""


class Kind(IntEnum):
    """The kind of a frame."""

    # Requests.
    PREDICT = 1
    INVOKE = 2
    # Answers.
    MEMBERS = 16
    """Members of a JSON object, without its braces."""
    ANSWERED = 17
    """See `Invoked`."""
    REFUSED = 18
    """See `Refusal`."""
    FAILED = 19
    """See `Fault`."""


class Predict(msgspec.Struct, array_like=True, frozen=True):
    """A request of the strict contract: its body and its parameters."""

    body: bytes
    max_rows: int
    probabilities: bool


class Invoke(msgspec.Struct, array_like=True, frozen=True):
    """A request of MLflow's contract."""

    body: bytes
    max_rows: int
    content_type: str


class Invoked(msgspec.Struct, array_like=True, frozen=True):
    """The answer to `Invoke`: see `model_api.model.invocations.Answered`."""

    content: bytes
    whole: bool
    body: bytes | None


class Refusal(msgspec.Struct, array_like=True, frozen=True):
    """A request that the model cannot answer: see `model_api.model.errors.RequestError`."""

    kind: str
    detail: str
    members: dict[str, object]


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """An error of the model's own code: its type and where it was raised, without values."""

    error: str
    at: list[str]


class FrameError(RuntimeError):
    """The bytes received are not a frame."""


def frame(kind: Kind, content: bytes) -> bytes:
    """Return a frame."""
    return HEAD.pack(len(content), kind) + content


def opened(head: bytes) -> tuple[int, Kind]:
    """Return the length and kind of a frame from its head.

    Raises:
        FrameError: it is not a head.
    """
    length, kind = HEAD.unpack(head)
    if length > MOST_BYTES or kind not in iter(Kind):
        raise FrameError("the bytes received are not a frame")
    return length, Kind(kind)


def receive(connection: socket.socket) -> tuple[Kind, bytes] | None:
    """Return the kind and content of the next frame; None at the end.

    Raises:
        FrameError: the bytes received are not a frame.
        OSError: the connection broke.
    """
    head = _exactly(connection, HEAD.size)
    if head is None:
        return None
    length, kind = opened(head)
    content = _exactly(connection, length)
    return None if content is None else (kind, content)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
