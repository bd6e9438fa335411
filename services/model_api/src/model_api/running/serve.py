"""Answers the frames of workers with one version, one frame at a time: ``serve``."""

import logging
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress

import msgspec

from model_api.common.frames import (
    Fault,
    FrameError,
    Invoke,
    Invoked,
    Kind,
    Predict,
    Refusal,
    frame,
    receive,
)
from model_api.common.logs import without_values
from model_api.model.errors import RequestError
from model_api.model.invocations import Invocations
from model_api.model.version import Version

logger = logging.getLogger(__name__)

_pack = msgspec.msgpack.Encoder().encode
_PREDICT = msgspec.msgpack.Decoder(Predict)
_INVOKE = msgspec.msgpack.Decoder(Invoke)


def serve(listener: socket.socket, version: Version, progress: Callable[[], None]) -> None:
    """Answer for ever, one request after another.

    Args:
        listener: accepts the workers' connections.
        version: the version that answers.
        progress: called after each answer.
    """
    answers = Answers(version)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if connection is listener:
                    taken, _ = listener.accept()
                    taken.setblocking(True)
                    selector.register(taken, selectors.EVENT_READ)
                elif answers.answer(connection):
                    progress()
                else:
                    selector.unregister(connection)
                    connection.close()


class Answers:
    """Answers frames with a version.

    Args:
        version: the version that answers.
    """

    def __init__(self, version: Version) -> None:
        self._version = version
        self._invocations: Invocations | None = None

    def answer(self, connection: socket.socket) -> bool:
        """Answer the next frame of a connection; tell whether there was one."""
        with suppress(OSError, FrameError):
            asked = receive(connection)
            if asked is not None:
                connection.sendall(frame(*self.of(*asked)))
                return True
        return False

    def of(self, kind: Kind, content: bytes) -> tuple[Kind, bytes]:
        """Return the kind and the content of the answer to a frame."""
        try:
            if kind is Kind.PREDICT:
                return Kind.MEMBERS, self._predict(_PREDICT.decode(content))
            return Kind.ANSWERED, _pack(self._invoke(_INVOKE.decode(content)))
        except RequestError as error:
            return Kind.REFUSED, _pack(Refusal(error.kind, error.detail, dict(error.members)))
        except (Exception, SystemExit) as error:
            # A model's code may also try to end the process.
            told = without_values(error)
            where = told["where"]
            assert isinstance(where, list)
            return Kind.FAILED, _pack(Fault(str(told["error"]), where))

    def _predict(self, asked: Predict) -> bytes:
        batch = self._version.decoder.decode(asked.body, asked.max_rows)
        return self._version.predict(batch, asked.probabilities)

    def _invoke(self, asked: Invoke) -> Invoked:
        if self._invocations is None:
            self._invocations = Invocations(self._version)
        rows = None
        if asked.content_type == "application/json":
            rows = self._invocations.decode(asked.body, asked.max_rows)
        if rows is not None:
            # If this fails, MLflow's own code decides what is wrong.
            with suppress(Exception):
                return Invoked(self._version.compute(rows.batch), False, rows.body)
        answered = self._invocations.answer(
            self._version, asked.body, asked.content_type, asked.max_rows
        )
        return Invoked(answered.content, answered.whole, answered.body)
