"""What the HTTP clients share: limits, and errors a visitor can read."""

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
"""Until a request is given up. No page waits that long: see `session.WAIT_SECONDS`."""

PATIENCE_SECONDS = 8.0
"""The same for what a visitor pressed a button for, and then waits for."""

CONNECT_SECONDS = 2.0

ANSWER_BYTES = 32 << 20
"""Size of the largest JSON answer that is read."""


class ServiceError(Exception):
    """A service did not give what was asked; the message is meant for the visitor."""


class Away(ServiceError):
    """The service cannot be reached, does not answer in time, or answers with a fault.

    `status` is the HTTP status of a faulty answer, None when there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Slow(Away):
    """The service is reached and has not answered yet."""


class SignInRefused(ServiceError):
    """The service does not accept these credentials (401)."""


class Refused(ServiceError):
    """The service understood the request and refuses it (other 4xx).

    `status` is the HTTP status, `kind` the `type` of an RFC 9457 problem document (None for
    other answers), `fields` what it says of single fields: name -> what is wrong.
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
    """The parts of a request that `httpx.Client.stream` takes."""

    params: Mapping[str, object]
    headers: Mapping[str, str]
    json: object
    content: bytes


def open_client(
    base_url: str, *, auth: httpx.Auth | None = None, headers: Mapping[str, str] | None = None
) -> httpx.Client:
    """A client for one service and one set of credentials.

    Proxy variables and .netrc are not read: credentials go to the service or nowhere.
    The TLS context still honours SSL_CERT_FILE.
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
        client: client with the service's base URL and credentials.
        service: the service's name as the visitor knows it, for messages.
        method: HTTP method.
        path: path below the base URL, without a leading slash.
        seconds: limit of the whole request, in seconds.
        options: passed to `httpx.Client.stream`.

    Raises:
        Slow: no complete answer within `seconds`.
        Away: no answer, not JSON, or a 5xx.
        SignInRefused: 401.
        Refused: another 4xx, with the service's own explanation; or the answer is too large.
    """
    status, content = _send(client, service, method, path, seconds, ANSWER_BYTES, **options)
    try:
        answer: JsonObject = json.loads(content)
    except ValueError:
        raise Away(f"{service} answered with status {status}.", status) from None
    return answer


def fetch(client: httpx.Client, service: str, path: str, limit: int) -> bytes:
    """A file of at most `limit` bytes.

    Raises:
        Slow, Away, SignInRefused, Refused: as `ask`; also Refused when the file is larger.
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
    """The status and body of an answer that is a success.

    The body is read piece by piece: httpx limits the time between two pieces only, so a service
    that sends a byte now and then could hold a request for ever.
    """
    end = time.monotonic() + seconds
    timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
    try:
        with client.stream(method, path, timeout=timeout, **options) as response:
            content = bytearray()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > limit:
                    raise Refused(f"{path} is larger than {limit >> 20} MiB, so it is not read.")
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the whole answer takes too long")
    except (httpx.ConnectTimeout, httpx.PoolTimeout):
        raise Away(f"{service} cannot be reached.") from None
    except httpx.TimeoutException:
        raise Slow(f"{service} did not answer within {seconds:g} s.") from None
    except httpx.HTTPError:
        raise Away(f"{service} cannot be reached.") from None
    _check(response, bytes(content), service)
    return response.status_code, bytes(content)


def _check(response: httpx.Response, content: bytes, service: str) -> None:
    if response.is_success:
        return
    status = response.status_code
    if status == 401:
        raise SignInRefused(f"{service} does not accept these credentials.")
    body = _json_object(content)
    explanation = _explanation(body)
    if response.is_client_error:
        raise Refused(
            explanation or f"{service} refused: status {status}.",
            body.get("type"),
            status,
            _fields(body),
        )
    raise Away(
        f"{service} answered with status {status}" + (f": {explanation}" if explanation else "."),
        status,
    )


def _json_object(content: bytes) -> JsonObject:
    """The object in the body of an error, empty where there is none."""
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
    """The readable part of an error body, a line for each fault.

    It may be a problem document of the model API, whose `errors` are `{row, field, detail}`,
    MLflow's `{error_code, message}`, or Airflow's `{detail}`.
    """
    text = body.get("detail") or body.get("message") or body.get("title")
    lines = [str(text)] if text else []
    for error in _errors(body):
        row, field = error.get("row"), error.get("field")
        where = field if field is not None else f"row {row + 1}" if row is not None else "body"
        lines.append(f"{where}: {error.get('detail')}")
    return "\n".join(lines) or None
