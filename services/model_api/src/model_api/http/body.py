"""The body of a request: read with a limit for its size and its time."""

import asyncio
from http import HTTPStatus

from model_api.http.asgi import Receive
from model_api.http.problems import Problem


class Disconnected(Exception):
    """The client went away before it had sent the whole request."""


async def read_body(receive: Receive, declared: bytes | None, limit: int, seconds: float) -> bytes:
    """Return a request's body, without ever holding more of it than the limit.

    Args:
        receive: ASGI's callable.
        declared: the header ``Content-Length``, if sent.
        limit: the most bytes.
        seconds: limit for its arrival.

    Raises:
        Problem: 413, it is too large; 408, it takes too long.
        Disconnected: the client went away.
    """
    # The server discards the rest of such a body unread, so the connection stays usable.
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            if not message.get("more_body", False):
                body: bytes = message.get("body", b"")
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
