"""The service: what every request passes, and the routes that are no predictions."""

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from importlib.metadata import version
from time import monotonic, perf_counter
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from model_api import documentation, metrics, problems
from model_api.guard import Guard
from model_api.keys import Keys
from model_api.limits import Disconnected, Rates, Threads
from model_api.logs import Repeats, without_values
from model_api.metrics import Metrics
from model_api.predict import DEFAULT_ALIAS, PredictionLog, Predictor, find, target
from model_api.prediction_log import PredictionLog as SocketLog
from model_api.problems import Problem
from model_api.settings import Settings
from model_api.store import Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = frozenset(("/health/live", "/health/ready", *documentation.PATHS))
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_JSON = "application/json"
_TICK_SECONDS = 0.5
_LOADING_SECONDS = 60.0
_PATH_SHOWN = 500

logger = logging.getLogger("model_api.requests")
_ticks = logging.getLogger(__name__)


def from_environment() -> ASGIApp:
    """Build the service of the environment's settings, for one worker process."""
    # What a model's libraries warn of is one line of the log, too.
    logging.captureWarnings(True)
    return create_app(Settings.from_environment())


def create_app(
    settings: Settings, store: Store | None = None, log: PredictionLog | None = None
) -> ASGIApp:
    """Build the service.

    Args:
        settings: see `Settings`; with a ``runtime_directory``.
        store: the models; by default what the follower prepares in the settings' folder.
        log: takes the predictions; by default the socket of the prediction log.

    Returns:
        An ASGI app that follows the state of the store from its start-up to its shutdown.

    Raises:
        KeysError: the file of keys is not acceptable.
    """
    if settings.runtime_directory is None:
        raise ValueError("the settings lack a runtime_directory")
    store = store or Store(settings.state_directory)
    log = log or SocketLog.from_environment()
    keys = Keys(settings.keys_file)
    counted = Metrics()
    threads = Threads(settings.threads, settings.queue)
    predictor = Predictor(store, settings, counted, threads, log)

    async def tick() -> None:
        # A worker without fresh gauges still answers: no reason to end it. One guard each, so that
        # a fault of the keys leaves the gauges alive, and the other way round.
        reading, sampling = Guard("reading the keys", _ticks), Guard("sampling the gauges", _ticks)
        telling = Guard("telling of what was refused", _ticks)
        while True:
            with reading:
                keys.refresh()
            with sampling:
                counted.sample(
                    in_flight=predictor.in_flight,
                    running=threads.running,
                    waiting=threads.waiting,
                    keys_broken=keys.broken,
                )
                if isinstance(log, SocketLog):
                    counted.log(log.offered, log.dropped)
            with telling:
                gate.tell_repeats()
            await asyncio.sleep(_TICK_SECONDS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store.start()
        # Until it has its models, a worker leaves the connections to those that do.
        deadline = monotonic() + _LOADING_SECONDS
        while store.loading and monotonic() < deadline:
            await asyncio.sleep(_TICK_SECONDS / 10)
        ticking = asyncio.create_task(tick())
        yield
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        threads.stop()
        store.stop()

    app = FastAPI(
        title="Model API",
        version=version("model-api"),
        description=documentation.DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    _explain_errors(app)
    _add_routes(app, store)
    documentation.add_routes(app, store)
    gate = Gate(
        app,
        predictor,
        keys,
        Rates(settings.runtime_directory / "rates"),
        counted,
        slow_seconds=settings.slow_seconds if settings.log_requests == "failed" else 0,
    )
    return gate


class Gate:
    """What every request passes: it gets an id, shows a key, is counted, answered and logged.

    Args:
        app: answers what is no prediction.
        predictor: answers what is.
        keys: who may ask.
        rates: and how often.
        counted: metrics of this process.
        slow_seconds: requests that take longer leave a line, as those do that fail.
    """

    def __init__(
        self,
        app: ASGIApp,
        predictor: Predictor,
        keys: Keys,
        rates: Rates,
        counted: Metrics,
        slow_seconds: float,
    ) -> None:
        self._app = app
        self._predictor = predictor
        self._keys = keys
        self._rates = rates
        self._metrics = counted
        self._slow_seconds = slow_seconds
        self._repeats = Repeats()
        # Unique by the process's part, at the cost of a number.
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

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
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
            # It has been answered.
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
            bound = getattr(problem, "bound", None)
            (bound.series if bound else self._metrics.unfound).count(key, status)
            if bound:
                fields |= {"model": bound.name, "version": bound.number}
        content = problem.document(scope["path"][:_PATH_SHOWN], request_id)
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
        logger.error(
            "a prediction failed",
            extra={"fields": {"request_id": request_id, **without_values(error)}},
        )
        await self._refuse(_internal_error(), scope, send, request_id, key, prediction, began)

    def tell_repeats(self) -> None:
        """Log how many requests were refused without a line of their own; call it now and then."""
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
                    "path": scope["path"][:_PATH_SHOWN],
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


def _internal_error() -> Problem:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "the request could not be answered; the service's log has the reason, by the request's id",
    )


def _add_routes(app: FastAPI, store: Store) -> None:
    def listing() -> dict[str, Any]:
        polled_at = store.polled_at
        return {
            "registry_error": store.registry_error,
            "polled_at": polled_at.isoformat() if polled_at else None,
            "models": store.describe(),
        }

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """Tell that the process runs, and its version."""
        return {"status": "alive", "version": app.version}

    @app.get("/health/ready", tags=["health"], responses=problems.responses(503))
    async def ready() -> dict[str, str]:
        """Tell whether there are models to answer with."""
        if not store.ready:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not-ready",
                store.not_ready_reason,
                headers={"Retry-After": "2"},
            )
        return {"status": "ready"}

    async def probe(request: Request) -> Response:
        """Answer as MLflow's scoring server does while its model is loaded."""
        at = request.path_params
        alias = at.get("alias") or (None if "version" in at else DEFAULT_ALIAS)
        find(store, at["name"], alias, at.get("version"))
        is_version = request.url.path.endswith("/version")
        return Response(version("mlflow-skinny") if is_version else "\n", media_type=_JSON)

    for below in ("", "/aliases/{alias}", "/versions/{version}"):
        for last in ("ping", "health", "version"):
            path = f"/models/{{name}}{below}/{last}"
            app.add_api_route(path, probe, include_in_schema=False)

    @app.get("/models", tags=["models"], response_class=Response, responses=documentation.MODELS)
    async def models() -> Response:
        """List the models: what serves under which alias, what it takes, and what failed."""
        return Response(msgspec.json.encode(listing()), media_type=_JSON)

    @app.get("/metrics", tags=["metrics"], response_class=Response, responses=documentation.METRICS)
    def prometheus() -> Response:
        """Return the metrics of all worker processes, as Prometheus takes them."""
        return Response(metrics.expose(listing), media_type=metrics.CONTENT_TYPE)


def _explain_errors(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    def answer(request: Request, problem: Problem) -> Response:
        return Response(
            problem.document(request.url.path[:_PATH_SHOWN], request.state.request_id),
            problem.status.value,
            headers=problem.headers,
            media_type=problems.MEDIA_TYPE,
        )

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return answer(request, problems.from_status(error.status_code, error.headers))

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> Response:
        detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return answer(
            request, Problem(HTTPStatus.UNPROCESSABLE_CONTENT, "invalid-parameters", detail)
        )

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        # Starlette raises it again after the answer: `Gate` logs it.
        return answer(request, _internal_error())
