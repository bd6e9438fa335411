"""Errors as RFC 9457 problem documents (``application/problem+json``)."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


class Problem(Exception):
    """An error that knows its HTTP answer.

    Args:
        status: HTTP status code.
        kind: short name of the kind of problem; becomes the document's ``type``.
        detail: what is wrong with this request, and what to do.
        headers: further HTTP headers.
        members: further members of the document.
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.members = members

    def response(self, request: Request) -> JSONResponse:
        """Return the HTTP answer."""
        content = {
            "type": f"urn:model-api:{self.kind}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "instance": request.url.path,
            **self.members,
        }
        return JSONResponse(content, self.status.value, headers=self.headers, media_type=MEDIA_TYPE)


class ProblemDocument(BaseModel):
    """The shape of every error, for the OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Describe these errors for the OpenAPI document."""
    return {
        status.value: {
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": ProblemDocument.model_json_schema()}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> JSONResponse:
        return error.response(request)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        problem = Problem(
            status, status.phrase.lower().replace(" ", "-"), error.detail, headers=error.headers
        )
        return problem.response(request)

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return Problem(HTTPStatus.UNPROCESSABLE_CONTENT, "invalid-parameters", detail).response(
            request
        )

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again after the answer, so that the server's log has the traceback.
        return Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal-error",
            "the request could not be answered; the service's log has the reason",
        ).response(request)
