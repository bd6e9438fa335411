"""What the HTTP clients share: short time-outs and errors a visitor can read."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(1.5, connect=1.0)
"""Of what a page shows: a service that hangs may not keep the page longer than two seconds."""

PATIENCE = httpx.Timeout(8.0, connect=2.0)
"""Of what a visitor pressed a button for."""


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
    response = _send(client, service, method, path, **options)
    body = _json(response)
    if body is None:
        raise Away(f"{service} answered with status {response.status_code}.", response.status_code)
    return body


def fetch(client: httpx.Client, service: str, path: str, limit: int) -> bytes:
    """A file of at most `limit` bytes.

    Raises:
        Away, SignInRefused, Refused: as `ask`; also Refused when the file is larger.
    """
    try:
        with client.stream("GET", path) as response:
            if not response.is_success:
                response.read()
                _check(response, service)
            content = bytearray()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > limit:
                    raise Refused(f"{path} is larger than {limit >> 20} MiB, so it is not read.")
            return bytes(content)
    except httpx.TimeoutException:
        raise Away(f"{service} did not answer in time.") from None
    except httpx.HTTPError:
        raise Away(f"{service} cannot be reached.") from None


def _send(
    client: httpx.Client, service: str, method: str, path: str, **options: Any
) -> httpx.Response:
    try:
        response = client.request(method, path, **options)
    except httpx.TimeoutException:
        raise Away(f"{service} did not answer in time.") from None
    except httpx.HTTPError:
        raise Away(f"{service} cannot be reached.") from None
    _check(response, service)
    return response


def _check(response: httpx.Response, service: str) -> None:
    if response.is_success:
        return
    status = response.status_code
    if status == 401:
        raise SignInRefused(f"{service} does not accept these credentials.")
    body = _json(response)
    explanation = _explanation(body)
    if response.is_client_error:
        raise Refused(
            explanation or f"{service} refused: status {status}.",
            body.get("type") if isinstance(body, dict) else None,
            status,
            _fields(body),
        )
    raise Away(
        f"{service} answered with status {status}" + (f": {explanation}" if explanation else "."),
        status,
    )


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _errors(body: Any) -> Sequence[Mapping[str, Any]]:
    errors = body.get("errors") if isinstance(body, dict) else None
    return [error for error in errors if isinstance(error, dict)] if errors else []


def _fields(body: Any) -> dict[str, str]:
    fields: dict[str, list[str]] = {}
    for error in _errors(body):
        if error.get("field") is not None:
            fields.setdefault(str(error["field"]), []).append(str(error.get("detail")))
    return {name: "; ".join(details) for name, details in fields.items()}


def _explanation(body: Any) -> str | None:
    """The readable part of an error body, a line for each fault.

    It may be a problem document of the model API, whose `errors` are `{row, field, detail}`,
    MLflow's `{error_code, message}`, or Airflow's `{detail}`.
    """
    if not isinstance(body, dict):
        return None
    text = body.get("detail") or body.get("message") or body.get("title")
    lines = [str(text)] if text else []
    for error in _errors(body):
        row, field = error.get("row"), error.get("field")
        where = field if field is not None else f"row {row + 1}" if row is not None else "body"
        lines.append(f"{where}: {error.get('detail')}")
    return "\n".join(lines) or None
