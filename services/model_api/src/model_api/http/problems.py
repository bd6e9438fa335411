"""Errors as RFC 9457 problem documents (``application/problem+json``)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from model_api.model.errors import (
    InvalidBody,
    InvalidInput,
    InvalidJson,
    InvalidRows,
    ModelRefuses,
    NoProbabilities,
    RequestError,
    TableTooLarge,
    TooManyRows,
    UnsupportedMediaType,
)
from model_api.model.untyped import JsonObject

if TYPE_CHECKING:
    from model_api.http.predict import BoundVersion

MEDIA_TYPE = "application/problem+json"

_encode = msgspec.json.Encoder().encode


class Problem(Exception):
    """An error with its HTTP answer.

    Args:
        status: HTTP status code.
        kind: short name of the kind of problem; becomes the document's ``type``.
        detail: what is wrong with this request, and what to do.
        headers: further HTTP headers.
        members: further members of the document.

    Attributes:
        bound: the version that should answer, if one was found.
    """

    bound: BoundVersion | None = None

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.members = members

    def document(self, path: str, request_id: str) -> bytes:
        """Return the document, JSON.

        Args:
            path: the request's path.
            request_id: the request's id.
        """
        return _encode(
            {
                "type": f"urn:model-api:{self.kind}",
                "title": self.status.phrase,
                "status": self.status.value,
                "detail": self.detail,
                "instance": path,
                "request_id": request_id,
                **self.members,
            }
        )


STATUSES: Mapping[type[RequestError], HTTPStatus] = {
    InvalidJson: HTTPStatus.BAD_REQUEST,
    InvalidInput: HTTPStatus.BAD_REQUEST,
    ModelRefuses: HTTPStatus.BAD_REQUEST,
    InvalidBody: HTTPStatus.UNPROCESSABLE_CONTENT,
    InvalidRows: HTTPStatus.UNPROCESSABLE_CONTENT,
    NoProbabilities: HTTPStatus.UNPROCESSABLE_CONTENT,
    TooManyRows: HTTPStatus.CONTENT_TOO_LARGE,
    TableTooLarge: HTTPStatus.CONTENT_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
"""The HTTP status of each kind of request that a model cannot answer."""
_HEADERS: Mapping[type[RequestError], Mapping[str, str]] = {
    UnsupportedMediaType: {"Accept": "application/json, text/csv"},
}


def from_request_error(error: RequestError, bound: BoundVersion | None = None) -> Problem:
    """Return the problem of a request that a model cannot answer.

    Args:
        error: the model's error.
        bound: the version that should answer, if one was found.
    """
    kind = type(error)
    problem = Problem(
        STATUSES[kind], kind.kind, error.detail, headers=_HEADERS.get(kind), **error.members
    )
    problem.bound = bound
    return problem


SCHEMA: JsonObject = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "the kind of problem: `urn:model-api:<kind>`"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong, and what to do"},
        "instance": {"type": "string", "description": "the path of the request"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "the first 20 errors of rows that do not fit",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": ["integer", "null"], "description": "counted from 0"},
                    "field": {"type": ["string", "null"]},
                    "detail": {"type": "string"},
                },
            },
        },
        "count": {
            "type": "integer",
            "description": "how many errors there are; after the first 20, a row counts as one",
        },
    },
}
"""The shape of every error, for the OpenAPI document."""


def responses(*statuses: int) -> dict[int | str, JsonObject]:
    """Describe these errors for the OpenAPI document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def from_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem of an HTTP status without further details, such as an unknown path."""
    known = HTTPStatus(status)
    details = {404: "unknown path", 405: "this path does not support the method"}
    return Problem(
        known,
        known.phrase.lower().replace(" ", "-"),
        details.get(status, known.description or known.phrase),
        headers=headers,
    )
