"""Predictions over HTTP: from a request to the bytes of its answer.

This is the hot path: it uses neither FastAPI nor pandas, and waits only for the body and, if a
prediction takes long, for a thread.
"""

import functools
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import msgspec

from model_api.http.absence import NotLoaded, UnknownModel
from model_api.http.asgi import Receive
from model_api.http.body import read_body
from model_api.http.executor import PredictionExecutor, overloaded
from model_api.http.metrics import Metrics, Series
from model_api.http.problems import Problem, from_request_error
from model_api.http.runners import Runners
from model_api.http.settings import Settings
from model_api.http.store import Store
from model_api.model.batch import Batch
from model_api.model.errors import RequestError, UnsupportedMediaType
from model_api.model.invocations import Answered, Invocations, Rows, load_mlflow
from model_api.model.version import NeedsOriginal, Version

DEFAULT_ALIAS = "champion"

# Longer bodies take a millisecond or more to decode.
_INLINE_BYTES = 64 * 1024
# Limit for importing MLflow, which a worker does when it first needs it. The edge waits as long.
_LOADING_SECONDS = 60.0


class Target(NamedTuple):
    """The target of a path: a version, by alias or number, and one of the contracts."""

    name: str
    alias: str | None
    number: str | None
    invocations: bool = False


class PredictionLog(Protocol):
    """Takes a sample of the requests and answers; neither waits nor fails."""

    def offer(
        self,
        name: str,
        version: str,
        alias: str | None,
        request_id: str,
        body: bytes,
        answer: bytes,
    ) -> None:
        """Log one prediction, if the sample takes it."""


def target(path: str) -> Target | None:
    """Return the target of a path; None if it is not a path of predictions."""
    head, _, last = path.rpartition("/")
    if last not in ("predict", "invocations"):
        return None
    mlflow = last == "invocations"
    match head.split("/"):
        case ["", "models", name] if name:
            return Target(name, DEFAULT_ALIAS, None, mlflow)
        case ["", "models", name, "aliases", alias] if name and alias:
            return Target(name, alias, None, mlflow)
        case ["", "models", name, "versions", number] if name and number:
            return Target(name, None, number, mlflow)
        # MLflow's deployment client uses this path.
        case ["", "endpoints", name] if name and mlflow:
            return Target(name, DEFAULT_ALIAS, None, mlflow)
    return None


def find(store: Store, name: str, alias: str | None, number: str | None) -> Version:
    """Return the version that serves under an alias or, without an alias, that has a number.

    Raises:
        Problem: 404 ``unknown-model``; 503 ``not-loaded``.
    """
    try:
        return store.version(name, number or "") if alias is None else store.alias(name, alias)
    except UnknownModel as error:
        raise Problem(HTTPStatus.NOT_FOUND, "unknown-model", str(error)) from None
    except NotLoaded as error:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "not-loaded", str(error), headers={"Retry-After": "2"}
        ) from None


class BoundVersion:
    """The part that all answers of a version share, for the alias in the request.

    It holds no reference to the version, because it is kept for as long as the version exists.
    """

    __slots__ = ("invocations", "name", "number", "series", "tail")

    def __init__(self, version: Version, target: Target, metrics: Metrics) -> None:
        self.name, self.number = version.name, version.number
        self.invocations = Invocations(version) if target.invocations else None
        self.series = Series(metrics, version.name, version.number)
        model = {
            "name": version.name,
            "version": version.number,
            "alias": target.alias,
            "run_id": version.run_id,
        }
        self.tail = b',"model":' + msgspec.json.encode(model) + b"}"


class Answer(NamedTuple):
    """A prediction's answer, and its version."""

    content: bytes
    bound: BoundVersion


class Predictor:
    """Answers requests for predictions.

    Args:
        store: the versions.
        settings: the limits.
        metrics: the metrics of this process.
        executor: runs longer predictions.
        log: the prediction log.
        runners: answer for versions that run their own code, and for the originals of compiled
            ones; without runners, this process answers.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        metrics: Metrics,
        executor: PredictionExecutor,
        log: PredictionLog,
        runners: Runners | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._executor = executor
        self._log = log
        self._runners = runners
        # Weak keys, so that a version is freed once the store drops it.
        self._bound: WeakKeyDictionary[Version, dict[tuple[str | None, bool], BoundVersion]] = (
            WeakKeyDictionary()
        )
        self._mlflow_loaded = False
        self.in_flight = 0
        """Requests being read or answered."""

    async def answer(
        self,
        target: Target,
        query: bytes,
        headers: dict[bytes, bytes],
        receive: Receive,
        request_id: str,
    ) -> Answer:
        """Return the answer to one request.

        Args:
            target: the target of the path.
            query: the query string.
            headers: the request's headers, by lower-case name.
            receive: ASGI's callable.
            request_id: the id for the prediction log.

        Raises:
            Problem: the request is wrong, or there is no answer for now. Its attribute ``bound`` is
                set if a version was found.
            Disconnected: the client went away.
        """
        settings = self._settings
        if self.in_flight >= settings.concurrency:
            raise overloaded(f"{self.in_flight} requests are in progress already")
        self.in_flight += 1
        try:
            if target.invocations:
                # MLflow's server does not look at Content-Encoding either.
                kind = _invocations_type(headers)
                # MLflow's server has no parameters in the URL, and does not look at them.
                probabilities = False
            else:
                _check_encoding(headers)
                _check_content(headers)
                probabilities = bool(query) and _wants_probabilities(query)
            body = await read_body(
                receive,
                headers.get(b"content-length"),
                settings.max_body_bytes,
                settings.body_seconds,
            )
            version, bound = self._bind(target)
            logged: bytes | None = body
            try:
                if bound.invocations is not None:
                    answer = await self._invoke(version, bound.invocations, body, kind)
                    content, logged = answer.content, answer.body
                else:
                    content = await self._predict(version, body, probabilities)
            except Problem as problem:
                problem.bound = bound
                raise
            except RequestError as error:
                raise from_request_error(error, bound) from None
        finally:
            self.in_flight -= 1
        if bound.invocations is None or not answer.whole:
            content = b"{" + content + bound.tail
        if logged is not None:
            self._log.offer(bound.name, bound.number, target.alias, request_id, logged, content)
        return Answer(content, bound)

    def _bind(self, target: Target) -> tuple[Version, BoundVersion]:
        version = find(self._store, target.name, target.alias, target.number)
        shared = self._bound.get(version)
        if shared is None:
            shared = self._bound[version] = {}
        key = target.alias, target.invocations
        bound = shared.get(key)
        if bound is None:
            bound = shared[key] = BoundVersion(version, target, self._metrics)
        return version, bound

    async def _predict(self, version: Version, body: bytes, probabilities: bool) -> bytes:
        if self._runners is None:
            return await self._compute(version, body, probabilities)
        settings = self._settings
        seconds = settings.prediction_seconds
        if not version.elsewhere:
            try:
                return await self._compute(version, body, probabilities)
            except NeedsOriginal:
                # Its runner may have to start first.
                seconds = _LOADING_SECONDS
        runner = self._runners.of(version)
        return await runner.predict(body, probabilities, settings.max_rows, seconds)

    async def _compute(self, version: Version, body: bytes, probabilities: bool) -> bytes:
        """Return the answer, computed in this process."""
        settings = self._settings
        if len(body) > _INLINE_BYTES:

            def work() -> bytes:
                batch = version.decoder.decode(body, settings.max_rows)
                return version.predict(batch, probabilities)

        else:
            batch = version.decoder.decode(body, settings.max_rows)
            if self._inline(version, batch):
                try:
                    return version.compute(batch, probabilities)
                except (RequestError, NeedsOriginal):
                    raise
                except Exception as error:
                    # No local variable holds the error, and the error is not its own cause: in a
                    # cycle with this frame it would keep the version.
                    raise await self._executor.run(  # noqa: B904
                        functools.partial(version.blame, batch, error),
                        settings.prediction_seconds,
                    )

            def work() -> bytes:
                return version.predict(batch, probabilities)

        return await self._executor.run(work, settings.prediction_seconds)

    async def _invoke(
        self, version: Version, invocations: Invocations, body: bytes, kind: str
    ) -> Answered:
        max_rows = self._settings.max_rows
        if self._runners is not None and version.elsewhere:
            return await self._runners.of(version).invoke(
                body, kind, max_rows, self._settings.prediction_seconds
            )
        plain = kind == "application/json" or _is_json(kind)

        def fast(rows: Rows | None) -> Answered | None:
            if rows is None:
                return None
            try:
                return Answered(version.compute(rows.batch), False, rows.body)
            except Exception:
                # MLflow's own code decides what is wrong.
                return None

        async def run(work: Callable[[], Answered | None]) -> Answered | None:
            return await self._executor.run(work, self._settings.prediction_seconds)

        answer = None
        if plain and len(body) > _INLINE_BYTES:
            answer = await run(lambda: fast(invocations.decode(body, max_rows)))
        elif plain and (rows := invocations.decode(body, max_rows)) is not None:
            quick = self._inline(version, rows.batch)
            answer = fast(rows) if quick else await run(lambda: fast(rows))
        if answer is not None:
            return answer
        if self._runners is not None:
            # The runner may have to start first, and import MLflow.
            runner = self._runners.of(version)
            return await runner.invoke(body, kind, max_rows, _LOADING_SECONDS)
        if not self._mlflow_loaded:
            # The seconds of importing do not count as prediction time.
            await self._executor.run(load_mlflow, _LOADING_SECONDS)
            self._mlflow_loaded = True
        return await self._executor.run(
            lambda: invocations.answer(version, body, kind, max_rows),
            self._settings.prediction_seconds,
        )

    def _inline(self, version: Version, batch: Batch) -> bool:
        """Tell whether a prediction is quick enough for the event loop."""
        expected = version.seconds(batch.rows)
        return expected < self._settings.inline_seconds and not version.by_original(batch)


def _invocations_type(headers: dict[bytes, bytes]) -> str:
    kind = headers.get(b"content-type")
    if kind is None:
        raise from_request_error(UnsupportedMediaType("the header `Content-Type` is missing"))
    return kind.decode("latin-1")


def _is_json(kind: str) -> bool:
    """Tell whether MLflow's server reads a content type as JSON in UTF-8."""
    media, more, parameter = kind.partition(";")
    name, _, value = parameter.strip().partition("=")
    utf8 = name == "charset" and value.lower() == "utf-8"
    return media.strip() == "application/json" and (utf8 or not more)


def _check_content(headers: dict[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"application/json")
    if kind != b"application/json":
        media, _, parameters = kind.lower().partition(b";")
        if media.strip() != b"application/json":
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "send JSON, with the header `Content-Type: application/json`",
                headers={"Accept": "application/json"},
            )
        for parameter in parameters.split(b";"):
            name, _, value = parameter.partition(b"=")
            if name.strip() == b"charset" and value.strip(b' "') not in (b"utf-8", b"utf8"):
                raise Problem(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "unsupported-charset",
                    "JSON is always UTF-8: encode the body in UTF-8 and remove the charset",
                )


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-encoding",
            "compressed bodies are not supported: send the body without Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )


def _wants_probabilities(query: bytes) -> bool:
    parameters = parse_qs(query, keep_blank_values=True)
    for name in parameters.keys() - {b"probabilities"}:
        raise _wrong_parameter(f"unknown parameter {name[:60]!r}: the only one is probabilities")
    match parameters.get(b"probabilities", [b"false"])[-1].lower():
        case b"true" | b"1":
            return True
        case b"false" | b"0":
            return False
    raise _wrong_parameter("the parameter probabilities must be true or false")


def _wrong_parameter(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_CONTENT, "invalid-parameters", detail)
