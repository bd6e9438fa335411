"""The HTTP side: routes, the key, and answers."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from pydantic_core import to_json

from model_api import payload, problems
from model_api.problems import Problem
from model_api.registry import MlflowRegistry, Registry
from model_api.schema import InvalidRows
from model_api.settings import Settings
from model_api.store import ModelStore, NotLoaded, UnknownModel

_bearer = HTTPBearer(auto_error=False, description="The key in MODEL_API_KEY")


class ModelReference(BaseModel):
    """Which model gave an answer."""

    name: str
    version: str
    alias: str
    run_id: str | None


class Prediction(BaseModel):
    """One prediction a row, in the rows' order."""

    predictions: list[Any]
    probabilities: list[dict[str, float]] | None = None
    model: ModelReference


class ModelColumn(BaseModel):
    """One input of a model."""

    name: str
    type: str
    required: bool


class LoadError(BaseModel):
    """Why a version does not serve."""

    version: str
    reason: str


class ModelStatus(BaseModel):
    """One registered model: the version that serves, and the one that should."""

    name: str
    version: str | None
    run_id: str | None
    since: str | None
    wanted_version: str
    last_error: LoadError | None
    signature: list[ModelColumn] | None
    example: dict[str, Any] | None


class Models(BaseModel):
    """All models that the alias names."""

    alias: str
    registry_error: str | None
    models: list[ModelStatus]


def create_app(settings: Settings, registry: Registry | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: see `Settings`.
        registry: where models come from; by default the MLflow server of the settings.

    Returns:
        An app that follows the registry from its start-up to its shutdown.
    """
    store = ModelStore(
        registry
        or MlflowRegistry(settings.tracking_uri, settings.alias, settings.registry_timeout_seconds),
        settings.poll_seconds,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store.start()
        yield
        store.stop()

    app = FastAPI(
        title="Model API",
        version=version("model-api"),
        description="Serves the model versions that the registry's alias names.",
        lifespan=lifespan,
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(_health(store, app.version))
    app.include_router(_models(store, settings))
    return app


def _health(store: ModelStore, package_version: str) -> APIRouter:
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Tell that the process runs, and its version."""
        return {"status": "alive", "version": package_version}

    @router.get("/ready", responses=problems.responses(HTTPStatus.SERVICE_UNAVAILABLE))
    async def ready() -> dict[str, str]:
        """Tell whether every model has been tried once, and the registry answers or a model can."""
        if not store.ready:
            reason = (
                f"no model is loaded, and the registry does not answer: {store.registry_error}"
                if store.registry_error
                else "the models are being loaded"
            )
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", reason)
        return {"status": "ready"}

    return router


def _models(store: ModelStore, settings: Settings) -> APIRouter:
    key = settings.key.get_secret_value().encode()
    retry_after = {"Retry-After": str(max(1, round(settings.poll_seconds)))}

    async def require_key(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> None:
        given = credentials.credentials.encode() if credentials else b""
        if not secrets.compare_digest(given, key):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "send the header `Authorization: Bearer <key>` with the service's key",
                headers={"WWW-Authenticate": 'Bearer realm="model-api"'},
            )

    router = APIRouter(
        prefix="/models",
        tags=["models"],
        dependencies=[Depends(require_key)],
        responses=problems.responses(HTTPStatus.UNAUTHORIZED),
    )

    @router.get("")
    async def models() -> Models:
        """List the models: what serves, since when, what it takes, and what failed."""
        return Models.model_validate(
            {
                "alias": settings.alias,
                "registry_error": store.registry_error,
                "models": store.describe(),
            }
        )

    def answer(name: str, body: bytes, with_probabilities: bool) -> bytes:
        try:
            model = store.get(name)
        except UnknownModel as error:
            raise Problem(HTTPStatus.NOT_FOUND, "unknown-model", str(error)) from None
        except NotLoaded as error:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "not-loaded", str(error), headers=retry_after
            ) from None
        if with_probabilities and model.probabilities is None:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_CONTENT,
                "no-probabilities",
                f"version {model.version} of {name!r} tells no probabilities",
            )
        try:
            frame = model.schema.frame(payload.rows(body, settings.max_rows))
        except InvalidRows as error:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_CONTENT,
                "invalid-rows",
                f"{error.count} value(s) do not fit the inputs of {name!r}",
                errors=error.errors,
            ) from None
        result: dict[str, Any] = {"predictions": model.predict(frame)}
        if with_probabilities and model.probabilities is not None:
            result["probabilities"] = model.probabilities(frame)
        result["model"] = {
            "name": name,
            "version": model.version,
            "alias": settings.alias,
            "run_id": model.run_id,
        }
        # JSON has no NaN: a model's NaN becomes null.
        return to_json(result, inf_nan_mode="null")

    @router.post(
        "/{name}/predict",
        response_model=Prediction,
        responses=problems.responses(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONTENT_TOO_LARGE,
            HTTPStatus.UNPROCESSABLE_CONTENT,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
        openapi_extra=payload.OPENAPI_BODY,
    )
    async def predict(name: str, request: Request, probabilities: bool = False) -> Response:
        """Predict one value a row, with the version that the alias names."""
        body = await _read(request, settings.max_body_bytes)
        # In a thread: a large model or batch must not hold up the others' requests.
        content = await run_in_threadpool(answer, name, body, probabilities)
        return Response(content, media_type="application/json")

    return router


async def _read(request: Request, limit: int) -> bytes:
    """Return the body, without ever holding more of it than the limit."""
    too_large = Problem(
        HTTPStatus.CONTENT_TOO_LARGE,
        "body-too-large",
        f"the body is larger than {limit} bytes: send fewer rows at a time",
        headers={"Connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)
