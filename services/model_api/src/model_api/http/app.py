"""The service: the app around all requests, and the routes other than predictions."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from model_api.common.guard import Guard
from model_api.http import documentation, metrics, problems
from model_api.http.asgi import ASGIApp
from model_api.http.executor import PredictionExecutor
from model_api.http.gate import PATH_SHOWN, Gate, internal_error
from model_api.http.keys import Keys
from model_api.http.metrics import Metrics
from model_api.http.predict import DEFAULT_ALIAS, PredictionLog, Predictor, find
from model_api.http.problems import Problem
from model_api.http.rates import RateLimiter
from model_api.http.runners import Runners
from model_api.http.settings import Settings
from model_api.http.store import Store
from model_api.model.untyped import JsonObject
from model_api.prediction_log import PredictionLog as SocketLog

DRAINING = "draining"
"""File in the runtime directory; while it exists, a proxy is told not to send more requests."""

_JSON = "application/json"
_TICK_SECONDS = 0.5
_LOADING_SECONDS = 60.0

_ticks = logging.getLogger(__name__)


def from_environment() -> ASGIApp:
    """Build the service from the environment's settings, for one worker process."""
    # Warnings of a model's libraries become lines of the log as well.
    logging.captureWarnings(True)
    return create_app(Settings.from_environment())


def create_app(
    settings: Settings, store: Store | None = None, log: PredictionLog | None = None
) -> ASGIApp:
    """Build the service.

    Args:
        settings: see `Settings`; with a ``runtime_directory``.
        store: the models; by default what the follower prepares in the settings' folder.
        log: receives the predictions; by default the socket of the prediction log.

    Returns:
        An ASGI app that follows the store's state from start-up to shutdown.

    Raises:
        KeysError: the file of keys is invalid.
    """
    if settings.runtime_directory is None:
        raise ValueError("the settings lack a runtime_directory")
    directory = settings.runners_directory
    store = store or Store(settings.state_directory, runners=directory)
    runners = None
    if directory is not None:
        runners = Runners(directory, settings.threads, settings.queue)
    log = log or SocketLog.from_environment()
    keys = Keys(settings.keys_file)
    counted = Metrics()
    executor = PredictionExecutor(settings.threads, settings.queue)
    predictor = Predictor(store, settings, counted, executor, log, runners)

    async def tick() -> None:
        # A worker without fresh gauges still answers, so it continues. Each has its own guard, so
        # that a fault of the keys leaves the gauges alive, and vice versa.
        reading, sampling = Guard("reading the keys", _ticks), Guard("sampling the gauges", _ticks)
        telling = Guard("logging refused requests", _ticks)
        while True:
            with reading:
                keys.refresh()
            with sampling:
                counted.sample(
                    in_flight=predictor.in_flight,
                    running=executor.running + (runners.running if runners else 0),
                    waiting=executor.waiting + (runners.waiting if runners else 0),
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
        # Until it has its models, a worker leaves the connections to workers that have theirs.
        deadline = monotonic() + _LOADING_SECONDS
        while store.loading and monotonic() < deadline:
            await asyncio.sleep(_TICK_SECONDS / 10)
        ticking = asyncio.create_task(tick())
        yield
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        executor.stop()
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
    _add_routes(app, store, settings.runtime_directory / DRAINING)
    documentation.add_routes(app, store)
    gate = Gate(
        app,
        predictor,
        keys,
        RateLimiter(settings.runtime_directory / "rates"),
        counted,
        slow_seconds=settings.slow_seconds if settings.log_requests == "failed" else 0,
    )
    return gate


def _add_routes(app: FastAPI, store: Store, draining: Path) -> None:
    def listing() -> JsonObject:
        polled_at = store.polled_at
        return {
            "registry_error": store.registry_error,
            "polled_at": polled_at.isoformat() if polled_at else None,
            "models": store.describe(),
        }

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """Say that the process runs, and its version."""
        return {"status": "alive", "version": app.version}

    @app.get("/health/ready", tags=["health"], responses=problems.responses(503))
    async def ready() -> dict[str, str]:
        """Tell whether to send requests here: the models are loaded, and no stop is pending."""
        reason = "this host is about to restart" if draining.exists() else store.not_ready_reason
        if reason is not None:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not-ready",
                reason,
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
        """List the models: the serving version of each alias, its inputs, and failures."""
        return Response(msgspec.json.encode(listing()), media_type=_JSON)

    @app.get("/metrics", tags=["metrics"], response_class=Response, responses=documentation.METRICS)
    def prometheus() -> Response:
        """Return the metrics of all worker processes, in Prometheus' format."""
        return Response(metrics.expose(listing), media_type=metrics.CONTENT_TYPE)


def _explain_errors(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    def answer(request: Request, problem: Problem) -> Response:
        return Response(
            problem.document(request.url.path[:PATH_SHOWN], request.state.request_id),
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
        return answer(request, internal_error())
