"""What the two HTTP clients share: short time-outs and errors a visitor can read."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(6.0, connect=2.0)


class ServiceError(Exception):
    """A service did not give what was asked; the message is meant for the visitor."""


class Away(ServiceError):
    """The service cannot be reached, does not answer in time, or answers with a fault.

    `status` is the HTTP status of a faulty answer, None when there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SignInRefused(ServiceError):
    """The service does not accept these credentials (401)."""


class Refused(ServiceError):
    """The service understood the request and refuses it (other 4xx).

    `kind` is the `type` of an RFC 9457 problem document, None for other answers.
    """

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind


def open_client(base_url: str, **options: Any) -> httpx.Client:
    """A client for one service and one set of credentials.

    Proxy variables and .netrc are not read: credentials go to the service or nowhere.
    The TLS context still honours SSL_CERT_FILE.
    """
    return httpx.Client(
        base_url=base_url,
        timeout=TIMEOUT,
        trust_env=False,
        verify=_tls(),
        follow_redirects=False,
        **options,
    )


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def ask(client: httpx.Client, service: str, method: str, path: str, **options: Any) -> Any:
    """Send one request and return the JSON answer.

    Args:
        client: client with the service's base URL and credentials.
        service: the service's name as the visitor knows it, for messages.
        method: HTTP method.
        path: path below the base URL, without a leading slash.
        options: passed to `httpx.Client.request`.

    Raises:
        Away: no answer, not JSON, or a 5xx.
        SignInRefused: 401.
        Refused: another 4xx; the message is the service's own explanation.
    """
    try:
        response = client.request(method, path, **options)
    except httpx.TimeoutException:
        raise Away(f"{service} did not answer in time.") from None
    except httpx.HTTPError:
        raise Away(f"{service} cannot be reached.") from None
    if response.status_code == 401:
        raise SignInRefused(f"{service} does not accept these credentials.")
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_client_error:
        raise Refused(
            _explanation(body) or f"{service} refused: status {response.status_code}.",
            body.get("type") if isinstance(body, dict) else None,
        )
    if not response.is_success or body is None:
        reason = _explanation(body)
        raise Away(
            f"{service} answered with status {response.status_code}"
            + (f": {reason}" if reason else "."),
            response.status_code,
        )
    return body


def _explanation(body: Any) -> str | None:
    """The readable part of an error body, a line for each fault.

    It may be a problem document of the model API, whose `errors` are `{row, field, detail}`,
    or MLflow's `{error_code, message}`.
    """
    if not isinstance(body, dict):
        return None
    text = body.get("detail") or body.get("message") or body.get("title")
    lines = [str(text)] if text else []
    for error in body.get("errors", ()):
        where = f"row {error['row'] + 1}" if error["field"] is None else error["field"]
        lines.append(f"{where}: {error['detail']}")
    return "\n".join(lines) or None
