"""The hot path's side: sends a record to the writing process, or drops and counts it."""

import errno
import random
import socket
import time
from collections import Counter
from typing import Self

import msgspec

from model_api.prediction_log.settings import Settings

# By default, a kernel takes 208 KiB in one datagram, including bookkeeping.
MAXIMUM_BYTES = 128 * 1024

_REASONS = {
    errno.EAGAIN: "full",
    errno.ENOBUFS: "full",
    errno.EMSGSIZE: "too-large",
    errno.ENOENT: "absent",
    errno.ECONNREFUSED: "absent",
}


class Record(msgspec.Struct, array_like=True, gc=False):
    """One prediction, as sent over the socket."""

    at: float
    """The time of the answer, in seconds since 1970."""
    name: str
    version: str
    alias: str | None
    request_id: str
    body: bytes
    """The request's unchanged body."""
    answer: bytes
    """The answer's body: JSON with the member ``predictions``."""


class PredictionLog:
    """Offers predictions to the writing process, from one worker.

    ``offered``, ``sent`` and ``dropped`` (a count for each reason: ``rate``, ``too-large``,
    ``full``, ``absent``, ``failed``) only grow; the metrics show them.

    Args:
        settings: without a ``url``, nothing is offered.
    """

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.url is not None and settings.sample > 0
        self.offered = 0
        self.sent = 0
        self.dropped: Counter[str] = Counter()
        self._address = str(settings.socket)
        self._sample = settings.sample
        self._per_second = settings.per_second
        self._second = 0
        self._left = 0
        self._encode = msgspec.msgpack.Encoder().encode
        # Never connected, so that it finds the writing process again after a restart.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    @classmethod
    def from_environment(cls) -> Self:
        """Make one from the settings in the environment.

        Raises:
            pydantic.ValidationError: a setting is invalid.
        """
        return cls(Settings())

    def offer(
        self,
        name: str,
        version: str,
        alias: str | None,
        request_id: str,
        body: bytes,
        answer: bytes,
    ) -> None:
        """Log one prediction if it is in the sample; never waits, never raises.

        Args:
            name: the registered model.
            version: the version that answered.
            alias: the alias in the request, if any.
            request_id: the header ``x-request-id``.
            body: the request's body.
            answer: the answer's body.
        """
        if not self.enabled or (self._sample < 1 and random.random() >= self._sample):
            return
        self.offered += 1
        now = time.time()
        if (second := int(now)) != self._second:
            self._second, self._left = second, self._per_second
        if self._left <= 0:
            self.dropped["rate"] += 1
            return
        if len(body) + len(answer) > MAXIMUM_BYTES:
            self.dropped["too-large"] += 1
            return
        try:
            record = Record(now, name, version, alias, request_id, body, answer)
            self._socket.sendto(self._encode(record), self._address)
        except OSError as error:
            self.dropped[_REASONS.get(error.errno or 0, "failed")] += 1
        except ValueError:  # text that is not Unicode
            self.dropped["failed"] += 1
        else:
            self._left -= 1
            self.sent += 1
