"""The documentation: an OpenAPI document of the loaded models, and a page that shows it.

The page is public and says nothing about the models. The document has their names, inputs and
examples, and requires a key as predictions do; a reader enters the key on the page.
"""

from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from model_api.http import problems
from model_api.http.absence import NotLoaded, UnknownModel
from model_api.http.store import Store
from model_api.model.decoding import FORMATS
from model_api.model.schema import body_schema
from model_api.model.untyped import JsonObject
from model_api.model.version import Version

DESCRIPTION = """\
Predictions of the models in an MLflow registry. Every model that is loaded has paths of its own
below, with its own fields and example.

There are two contracts. A path that ends in `/predict` is strict: rows must fit the model's
signature, and an error names row and field. A path that ends in `/invocations` answers as MLflow's
scoring server does (`mlflow models serve`): it also takes CSV, and converts values as MLflow does.
Below a model, `GET` of `/ping`, `/health` and `/version` answer as they do there.
"""

_OWN, _SWAGGER = files("model_api.http") / "pages", files("fastapi_offline") / "static"
_PAGES = {
    "/docs": (_OWN / "docs.html", "text/html; charset=utf-8"),
    "/docs/docs.css": (_OWN / "docs.css", "text/css; charset=utf-8"),
    "/docs/docs.js": (_OWN / "docs.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui.css": (_SWAGGER / "swagger-ui.css", "text/css; charset=utf-8"),
    "/docs/swagger-ui.js": (_SWAGGER / "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
}
PATHS = frozenset(_PAGES)
"""The files that need no key."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "max-age=3600",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_FAULTS = (400, 401, 404, 408, 413, 415, 422, 429, 500, 503)
_TEXT = {"type": "string"}
_PERHAPS_TEXT = {"type": ["string", "null"]}

MODELS: dict[int | str, JsonObject] = problems.responses(401, 429) | {
    200: {
        "description": "The models, by name",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["registry_error", "polled_at", "models"],
                    "properties": {
                        "registry_error": _PERHAPS_TEXT
                        | {"description": "why the registry was unreachable at the last poll"},
                        "polled_at": _PERHAPS_TEXT | {"description": "time of the last poll"},
                        "models": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["name", "aliases", "versions"],
                                "properties": {
                                    "name": _TEXT,
                                    "aliases": {
                                        "type": "object",
                                        "additionalProperties": {
                                            "type": "object",
                                            "required": ["version", "wanted_version", "failure"],
                                            "properties": {
                                                "version": _PERHAPS_TEXT
                                                | {"description": "the version that answers"},
                                                "wanted_version": _TEXT
                                                | {"description": "the version in the registry"},
                                                "since": _PERHAPS_TEXT,
                                                "failure": {"type": ["object", "null"]},
                                            },
                                        },
                                    },
                                    "versions": {
                                        "type": "object",
                                        "description": "the versions in memory",
                                        "additionalProperties": {"type": "object"},
                                    },
                                },
                            },
                        },
                    },
                }
            }
        },
    }
}
METRICS: dict[int | str, JsonObject] = problems.responses(401, 429) | {
    200: {"description": "The metrics", "content": {"text/plain": {"schema": _TEXT}}}
}


def add_routes(app: FastAPI, store: Store) -> None:
    """Add the document, the page, and the page's files."""
    made: tuple[object, bytes] = (None, b"")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        nonlocal made
        loaded = list(_loaded(store))
        generation = [(alias, version.name, version.number) for alias, version in loaded]
        if made[0] != generation:
            made = (generation, msgspec.json.encode(_document(app, loaded)))
        return Response(made[1], media_type="application/json")

    for path, (file, media_type) in _PAGES.items():
        app.get(path, include_in_schema=False)(_page(file.read_bytes(), media_type))


def _page(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return Response(content, headers=_HEADERS | {"Content-Type": media_type})

    return page


def _loaded(store: Store) -> Iterator[tuple[str, Version]]:
    for model in store.describe():
        for alias in model["aliases"]:
            try:
                yield alias, store.alias(model["name"], alias)
            except (UnknownModel, NotLoaded):
                continue


def _document(app: FastAPI, loaded: list[tuple[str, Version]]) -> JsonObject:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = problems.SCHEMA
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "One of the service's keys"}
    }
    document["security"] = [{"key": []}]
    paths = document["paths"]
    for path in ("/health/live", "/health/ready"):
        paths[path]["get"]["security"] = []
    for alias, version in loaded:
        operation = _of_version(alias, version)
        # A name may contain special characters of paths: braces, a question mark.
        model = f"/models/{quote(version.name, safe='')}"
        if alias == "champion":
            paths[f"{model}/predict"] = {"post": operation}
            operation = operation | {"operationId": f"{operation['operationId']} by alias"}
        paths[f"{model}/aliases/{quote(alias, safe='')}/predict"] = {"post": operation}
    for path, summary in {
        "/models/{name}/predict": "Predict with a model's champion",
        "/models/{name}/aliases/{alias}/predict": "Predict with the version of an alias",
        "/models/{name}/versions/{version}/predict": "Predict with one version",
    }.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        paths[path] = {
            "post": _operation(summary, f"predict by {' and '.join(names)}", "any model", {}, None)
            | {
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": _TEXT}
                    for name in names
                ]
                + [_PROBABILITIES]
            }
        }
    for head in (
        "/models/{name}",
        "/models/{name}/aliases/{alias}",
        "/models/{name}/versions/{version}",
        "/endpoints/{name}",
    ):
        paths[f"{head}/invocations"] = {"post": _invocations(head)}
    return document


def _invocations(head: str) -> JsonObject:
    names = [part[1:-1] for part in head.split("/") if part.startswith("{")]
    formats = ", ".join(FORMATS)
    body = {
        "application/json": {
            "schema": {"type": "object", "description": f"with one of {formats}, optionally params"}
        },
        "text/csv": {"schema": _TEXT | {"description": "a line of names, then one line per row"}},
    }
    answer = {
        "description": "An object with `predictions` and `model`, as from `/predict`; to a body of"
        " chat, completions or embeddings the predictions alone"
    }
    return {
        "summary": "Predict as MLflow's scoring server does",
        "operationId": f"invoke {head.split('/')[1]} by {' and '.join(names)}",
        "tags": ["any model"],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
        ],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {
                "description": HTTPStatus.OK.phrase,
                "content": {"application/json": {"schema": answer}},
            }
        }
        | {str(status): fault for status, fault in problems.responses(*_FAULTS).items()},
    }


_PROBABILITIES: dict[str, Any] = {
    "name": "probabilities",
    "in": "query",
    "description": "whether to return the probability of each class as well",
    "schema": {"type": "boolean", "default": False},
}


def _of_version(alias: str, version: Version) -> JsonObject:
    operation = _operation(
        f"Predict with {version.name}, {alias}: version {version.number}",
        f"predict {version.name} {alias}",
        version.name,
        body_schema(version.decoder),
        version.classes,
    )
    operation["requestBody"]["content"]["application/json"]["example"] = {"inputs": version.example}
    operation["parameters"] = [_PROBABILITIES]
    return operation


def _operation(
    summary: str, operation_id: str, tag: str, body: dict[str, Any], classes: list[Any] | None
) -> JsonObject:
    row: dict[str, Any] = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
    if classes is not None:
        row["required"] = [str(name) for name in classes]
    answer = {
        "type": "object",
        "required": ["predictions", "model"],
        "properties": {
            "predictions": {"description": "one per row", "type": "array", "items": {}},
            "probabilities": {"type": "array", "items": row},
            "model": {
                "type": "object",
                "required": ["name", "version", "alias", "run_id"],
                "properties": {
                    "name": _TEXT,
                    "version": _TEXT,
                    "alias": _PERHAPS_TEXT,
                    "run_id": _PERHAPS_TEXT,
                },
            },
        },
    }
    return {
        "summary": summary,
        "operationId": operation_id,
        "tags": [tag],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": HTTPStatus.OK.phrase,
                "content": {"application/json": {"schema": answer}},
            }
        }
        | {str(status): fault for status, fault in problems.responses(*_FAULTS).items()},
    }
