"""The shared parts of the HTTP clients: limits, and errors that a visitor can read."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypedDict, Unpack

import httpx

from dashboard.untyped import JsonObject

LIMIT_SECONDS = 30.0
"""Timeout of a request. Pages wait less: see `session.WAIT_SECONDS`."""

PATIENCE_SECONDS = 8.0
"""Timeout of a request that a visitor started with a button and waits for."""

CONNECT_SECONDS = 2.0

ANSWER_BYTES = 32 << 20
"""Largest JSON answer that is read."""


class ServiceError(Exception):
    """A request to a service failed; the message is for the visitor."""


class Unavailable(ServiceError):
    """The service cannot be reached, does not answer in time, or has an internal error.

    `status` is the HTTP status of its answer, None without an answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Slow(Unavailable):
    """The service accepted the request but has not answered yet."""


class SignInRefused(ServiceError):
    """The service rejects the credentials (401)."""


class Refused(ServiceError):
    """The service refuses the request (a 4xx other than 401).

    `status` is the HTTP status and `kind` the `type` of an RFC 9457 problem document (None for
    other answers). `fields` maps the name of each invalid field to its problem.
    """

    def __init__(
        self,
        message: str,
        kind: str | None = None,
        status: int | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.status, self.fields = kind, status, dict(fields or {})


class Options(TypedDict, total=False):
    """Options of a request, as `httpx.Client.stream` takes them."""

    params: Mapping[str, object]
    headers: Mapping[str, str]
    json: object
    content: bytes


def open_client(
    base_url: str, *, auth: httpx.Auth | None = None, headers: Mapping[str, str] | None = None
) -> httpx.Client:
    """A client for one service and one set of credentials.

    It ignores proxy variables and .netrc, so that credentials reach only the service. The TLS
    context uses SSL_CERT_FILE if it is set.
    """
    return httpx.Client(
        base_url=base_url,
        timeout=httpx.Timeout(LIMIT_SECONDS, connect=CONNECT_SECONDS),
        trust_env=False,
        verify=_tls(),
        follow_redirects=False,
        auth=auth,
        headers=headers,
    )


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def ask(
    client: httpx.Client,
    service: str,
    method: str,
    path: str,
    seconds: float = LIMIT_SECONDS,
    **options: Unpack[Options],
) -> JsonObject:
    """Send one request and return the JSON answer.

    Args:
        client: a client with the service's base URL and credentials.
        service: the service's name on the page, for messages.
        method: HTTP method.
        path: path below the base URL, without a leading slash.
        seconds: time limit of the whole request.
        options: passed to `httpx.Client.stream`.

    Raises:
        Slow: no complete answer within `seconds`.
        Unavailable: no answer, not JSON, or a 5xx.
        SignInRefused: 401.
        Refused: another 4xx, with the service's explanation; or the answer is too large.
    """
    status, content = _send(client, service, method, path, seconds, ANSWER_BYTES, **options)
    try:
        answer: JsonObject = json.loads(content)
    except ValueError:
        raise Unavailable(f"{service} answered with status {status}.", status) from None
    return answer


def fetch(client: httpx.Client, service: str, path: str, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes.

    Raises:
        Slow, Unavailable, SignInRefused, Refused: as `ask`; also Refused if the file is larger.
    """
    return _send(client, service, "GET", path, LIMIT_SECONDS, limit)[1]


def _send(
    client: httpx.Client,
    service: str,
    method: str,
    path: str,
    seconds: float,
    limit: int,
    **options: Unpack[Options],
) -> tuple[int, bytes]:
    """The status and body of a successful answer.

    The body is read in chunks to limit the total time. httpx limits only the time between two
    chunks, so a service that sends a byte now and then could hold a request forever.
    """
    end = time.monotonic() + seconds
    timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
    try:
        with client.stream(method, path, timeout=timeout, **options) as response:
            content = bytearray()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > limit:
                    raise Refused(f"{path} is larger than the limit of {limit >> 20} MiB.")
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the whole answer takes too long")
    except (httpx.ConnectTimeout, httpx.PoolTimeout):
        raise Unavailable(f"{service} cannot be reached.") from None
    except httpx.TimeoutException:
        raise Slow(f"{service} did not answer within {seconds:g} s.") from None
    except httpx.HTTPError:
        raise Unavailable(f"{service} cannot be reached.") from None
    _check(response, bytes(content), service)
    return response.status_code, bytes(content)


def _check(response: httpx.Response, content: bytes, service: str) -> None:
    if response.is_success:
        return
    status = response.status_code
    if status == 401:
        raise SignInRefused(f"{service} rejects these credentials.")
    body = _json_object(content)
    explanation = _explanation(body)
    if response.is_client_error:
        raise Refused(
            explanation or f"{service} refused the request with status {status}.",
            body.get("type"),
            status,
            _fields(body),
        )
    raise Unavailable(
        f"{service} answered with status {status}" + (f": {explanation}" if explanation else "."),
        status,
    )


def _json_object(content: bytes) -> JsonObject:
    """The JSON object in the body of an error; empty if the body is something else."""
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _errors(body: JsonObject) -> Sequence[JsonObject]:
    errors = body.get("errors")
    return [error for error in errors if isinstance(error, dict)] if errors else []


def _fields(body: JsonObject) -> dict[str, str]:
    fields: dict[str, list[str]] = {}
    for error in _errors(body):
        if error.get("field") is not None:
            fields.setdefault(str(error["field"]), []).append(str(error.get("detail")))
    return {name: "; ".join(details) for name, details in fields.items()}


def _explanation(body: JsonObject) -> str | None:
    """The readable part of an error body, with one line per problem.

    The body is a problem document of the model API, whose `errors` are `{row, field, detail}`,
    MLflow's `{error_code, message}`, or Airflow's `{detail}`.
    """
    text = body.get("detail") or body.get("message") or body.get("title")
    lines = [str(text)] if text else []
    for error in _errors(body):
        row, field = error.get("row"), error.get("field")
        where = field if field is not None else f"row {row + 1}" if row is not None else "body"
        lines.append(f"{where}: {error.get('detail')}")
    return "\n".join(lines) or None
