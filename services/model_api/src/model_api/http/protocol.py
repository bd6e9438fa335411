"""uvicorn's HTTP protocol, with limits for a request's head and problem documents."""

import asyncio
import secrets
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from model_api.http.problems import MEDIA_TYPE, Problem

MOST_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """Answers unreadable requests with a problem document, and limits the wait for a request.

    uvicorn closes a connection that is idle between two requests. It waits forever for the first
    byte, for the end of a head that has begun, and for the rest of a body that nothing reads.

    Attributes:
        head_seconds: a connection is closed if no head is completed and nothing is answered for
            this long; a head gets at least half of this time.
    """

    head_seconds = 10.0

    _watch: asyncio.TimerHandle | None = None
    _seen: object = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch the connection."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(self.head_seconds / 2, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching it."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        # One timer per connection, so that requests cost nothing extra.
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self.cycle is self._seen:
            if self._in_head:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "head-timeout", "the head took too long")
            self.transport.close()
            return
        self._seen = self.cycle
        self._watch = self.loop.call_later(self.head_seconds / 2, self._look)

    def data_received(self, data: bytes) -> None:
        """Read more; refuse a head that does not end."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "head-too-large",
                    f"the path and the headers have more than {MOST_HEAD_BYTES} bytes",
                )

    def on_message_begin(self) -> None:
        """Start counting the head's bytes."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Stop counting."""
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection.

        Args:
            msg: uvicorn's own text.
        """
        self._refuse(HTTPStatus.BAD_REQUEST, "invalid-http", msg)

    def _refuse(self, status: HTTPStatus, kind: str, detail: str) -> None:
        request_id = secrets.token_hex(8)
        document = Problem(status, kind, detail).document("", request_id)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(document)}\r\nx-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + document)
        self.transport.close()
