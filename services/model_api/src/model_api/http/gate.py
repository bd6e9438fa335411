"""The gate that every request passes."""

import itertools
import logging
import re
import secrets
from http import HTTPStatus
from time import perf_counter
from typing import Any

from model_api.common.logs import Repeats, without_values
from model_api.http import documentation, problems
from model_api.http.asgi import ASGIApp, Message, Receive, Scope, Send
from model_api.http.body import Disconnected
from model_api.http.keys import Keys
from model_api.http.metrics import Metrics
from model_api.http.predict import Predictor, target
from model_api.http.problems import Problem
from model_api.http.rates import RateLimiter
from model_api.http.runners import ModelFailed

_OPEN = frozenset(("/health/live", "/health/ready", *documentation.PATHS))
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
PATH_SHOWN = 500

logger = logging.getLogger("model_api.requests")


class Gate:
    """Gives each request an id, checks its key, counts it, has it answered, and logs it.

    Args:
        app: answers all other requests.
        predictor: answers predictions.
        keys: the valid keys.
        rates: the rate limits of the keys.
        counted: the metrics of this process.
        slow_seconds: requests that take longer get a log line, as failed ones do.
    """

    def __init__(
        self,
        app: ASGIApp,
        predictor: Predictor,
        keys: Keys,
        rates: RateLimiter,
        counted: Metrics,
        slow_seconds: float,
    ) -> None:
        self._app = app
        self._predictor = predictor
        self._keys = keys
        self._rates = rates
        self._metrics = counted
        self._slow_seconds = slow_seconds
        self._repeats: Repeats[tuple[str, int]] = Repeats()
        # A random prefix per process, plus a counter.
        self._ids = map((secrets.token_hex(6) + "-{:x}").format, itertools.count())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: the interface of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        headers = dict(scope["headers"])
        path = scope["path"]
        request_id = self._request_id(headers)
        key = ""
        asked = target(path)
        try:
            if path not in _OPEN:
                caller = self._keys.caller(headers.get(b"authorization"))
                if caller is None:
                    raise _unauthorized()
                key = caller.name
                if caller.requests_per_second is not None:
                    self._rates.take(caller)
            if asked is None:
                status = await self._pass_on(scope, receive, send, request_id)
                taken = perf_counter() - began
                if status >= 400 or taken >= self._slow_seconds:
                    self._log(scope, request_id, key, status, taken)
                return
            if scope["method"] != "POST":
                raise problems.from_status(405, headers={"Allow": "POST"})
            content, bound = await self._predictor.answer(
                asked, scope["query_string"], headers, receive, request_id
            )
        except Problem as problem:
            await self._refuse(problem, scope, send, request_id, key, asked is not None, began)
            return
        except Disconnected:
            self._log(scope, request_id, key, 499, perf_counter() - began)
            return
        except Exception as error:
            await self._fail(error, scope, send, request_id, key, asked is not None, began)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(content)),
                    (b"x-request-id", request_id.encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": content})
        taken = perf_counter() - began
        bound.series.observe(taken)
        bound.series.count(key, 200)
        if taken >= self._slow_seconds:
            self._log(scope, request_id, key, 200, taken, model=bound.name, version=bound.number)

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _SANE_ID.fullmatch(given):
            return given.decode()
        return next(self._ids)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        status = 0
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # The request has been answered.
            logger.error("a request failed", exc_info=error, extra={"fields": {"id": request_id}})
        return status

    async def _refuse(
        self,
        problem: Problem,
        scope: Scope,
        send: Send,
        request_id: str,
        key: str,
        prediction: bool,
        began: float,
    ) -> None:
        status = problem.status.value
        self._metrics.problems.labels(problem.kind).inc()
        fields: dict[str, Any] = {"problem": problem.kind}
        if prediction:
            bound = problem.bound
            (bound.series if bound else self._metrics.unfound).count(key, status)
            if bound:
                fields |= {"model": bound.name, "version": bound.number}
        content = problem.document(scope["path"][:PATH_SHOWN], request_id)
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(content)),
            (b"x-request-id", request_id.encode()),
        ]
        for name, value in (problem.headers or {}).items():
            headers.append((name.lower().encode(), value.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        self._log(scope, request_id, key, status, perf_counter() - began, **fields)

    async def _fail(
        self,
        error: Exception,
        scope: Scope,
        send: Send,
        request_id: str,
        key: str,
        prediction: bool,
        began: float,
    ) -> None:
        fields = error.fields if isinstance(error, ModelFailed) else without_values(error)
        logger.error(
            "a prediction failed",
            extra={"fields": {"request_id": request_id, **fields}},
        )
        await self._refuse(internal_error(), scope, send, request_id, key, prediction, began)

    def tell_repeats(self) -> None:
        """Log the number of requests refused without a line; to be called regularly."""
        for (key, status), count in self._repeats.due():
            fields = {"status": status, "key": key, "count": count}
            logger.log(_level(status), "refused as before", extra={"fields": fields})

    def _log(
        self, scope: Scope, request_id: str, key: str, status: int, seconds: float, **fields: Any
    ) -> None:
        cheap = status == HTTPStatus.TOO_MANY_REQUESTS or (key == "" and status >= 400)
        if cheap and not self._repeats.first((key, status)):
            return
        client = scope.get("client")
        logger.log(
            _level(status),
            "%s",
            scope["method"],
            extra={
                "fields": {
                    "path": scope["path"][:PATH_SHOWN],
                    "status": status,
                    "seconds": round(seconds, 6),
                    "request_id": request_id,
                    "key": key,
                    "client": client[0] if client else None,
                    **fields,
                }
            },
        )


def _level(status: int) -> int:
    return logging.INFO if status < 500 else logging.ERROR


def _unauthorized() -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "send the header `Authorization: Bearer <key>` with one of the service's keys",
        headers={"WWW-Authenticate": 'Bearer realm="model-api"'},
    )


def internal_error() -> Problem:
    """Return the problem for a request on which the service itself failed."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "the request could not be answered; the service's log has the reason, by the request's id",
    )
