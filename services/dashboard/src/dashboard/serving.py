"""A small client for Lastro's model API: the serving versions, and predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Unpack
from urllib.parse import quote, urlsplit

from lastro_promotion import Report, alias_report

from dashboard.fields import Field
from dashboard.services import (
    LIMIT_SECONDS,
    PATIENCE_SECONDS,
    Options,
    Refused,
    SignInRefused,
    Unavailable,
    ask,
    open_client,
)
from dashboard.untyped import Json, JsonObject

SERVICE = "The model API"
CHAMPION = "champion"
"""The default alias of a prediction request."""

COMPILED = ("numpy", "onnx", "treelite")
"""Engines other than the model's own library."""

_NO_PROBABILITIES = "urn:model-api:no-probabilities"


@dataclass(frozen=True)
class Failure:
    """Why a version does not serve although its alias points to it."""

    version: str
    reason: str
    attempts: int
    at: datetime | None


@dataclass(frozen=True)
class ServedAlias:
    """An alias on one host of the API.

    The alias points to version `wanted`. Version `serves` (or None) answers since `since`; before
    it, `previous` answered. `report` lists the versions that the host served under the alias.
    """

    name: str
    wanted: str | None
    serves: str | None
    since: datetime | None
    previous: str | None
    failure: Failure | None
    report: Report | None


@dataclass(frozen=True)
class ServedVersion:
    """A version in the API's memory.

    `engine` computes its predictions (`numpy`, `onnx`, `treelite`, or the model's own library) and
    `note` says how they compare with the original's. `fields` are its columns, empty for a model of
    tensors. `example` is a valid value of `inputs` in a prediction request: rows, or tensors.
    """

    number: str
    run_id: str | None
    engine: str
    note: str
    fields: tuple[Field, ...]
    example: Json

    @property
    def row(self) -> Mapping[str, Json]:
        """The example's first row, or an empty one if it has no rows."""
        first = self.example[0] if isinstance(self.example, list) and self.example else None
        return first if self.fields and isinstance(first, dict) else {}


@dataclass(frozen=True)
class ServedModel:
    """A model that the API follows."""

    name: str
    aliases: Mapping[str, ServedAlias]
    versions: Mapping[str, ServedVersion]

    def serving(self) -> dict[str, ServedVersion]:
        """Alias -> the version that serves it, `champion` first."""
        found = {
            alias.name: version
            for alias in self.aliases.values()
            if (version := self.versions.get(alias.serves or ""))
        }
        return dict(sorted(found.items(), key=lambda item: (item[0] != CHAMPION, item[0])))

    def failures(self) -> list[tuple[ServedAlias, Failure]]:
        """The aliases whose version could not be loaded."""
        return [(alias, alias.failure) for alias in self.aliases.values() if alias.failure]


@dataclass(frozen=True)
class Held:
    """The models that one host of the API has loaded.

    `registry_error` says why the host cannot poll MLflow right now. `age` is the time since its
    last successful poll, None if it never had one.
    """

    models: tuple[ServedModel, ...]
    registry_error: str | None
    age: timedelta | None


@dataclass(frozen=True)
class Answer:
    """The predictions, one per input row, and the model that made them.

    `probabilities` maps each class to its probability, one mapping per row; None if the model does
    not provide probabilities.
    """

    predictions: list[Json]
    probabilities: list[dict[str, float]] | None
    version: str
    alias: str | None
    run_id: str | None


class ModelApi:
    """The model API, called with the dashboard's bearer key.

    The key gives access to every model. Callers must show a visitor only the models that the
    visitor may see in MLflow.
    """

    def __init__(self, url: str, key: str) -> None:
        """Send nothing yet."""
        self.host = urlsplit(url).netloc
        self._http = open_client(url, headers={"Authorization": f"Bearer {key}"})

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the API reports that it is ready.

        Raises:
            Unavailable: no usable answer.
        """
        try:
            self._ask("GET", "health/ready")
        except Unavailable as error:
            if error.status == 503:
                return False
            raise
        return True

    def models(self) -> Held:
        """The models that the API has loaded.

        Raises:
            Unavailable: no usable answer.
        """
        answer = self._ask("GET", "models")
        polled = _time(answer["polled_at"])
        return Held(
            models=tuple(_model(item, self.host) for item in answer["models"]),
            registry_error=answer["registry_error"],
            age=max(datetime.now(UTC) - polled, timedelta()) if polled else None,
        )

    def predict(self, name: str, alias: str, inputs: Json) -> Answer:
        """Predict, with probabilities if the model provides them.

        Args:
            name: the registered model.
            alias: the alias of the version that predicts.
            inputs: rows of named values, or tensors.

        Raises:
            Refused: the API rejects the input; the message and `fields` say why.
            Unavailable: no usable answer.
        """
        try:
            answer = self._predict(name, alias, inputs, probabilities=True)
        except Refused as error:
            if error.kind != _NO_PROBABILITIES:
                raise
            answer = self._predict(name, alias, inputs, probabilities=False)
        model = answer["model"]
        return Answer(
            predictions=answer["predictions"],
            probabilities=answer.get("probabilities"),
            version=model["version"],
            alias=model["alias"],
            run_id=model["run_id"],
        )

    def _predict(self, name: str, alias: str, inputs: Json, probabilities: bool) -> JsonObject:
        return self._ask(
            "POST",
            predict_path(name, alias),
            seconds=PATIENCE_SECONDS,
            params={"probabilities": "true"} if probabilities else {},
            # httpx's `json=` rejects NaN and infinity, which the API accepts.
            content=json.dumps({"inputs": inputs}).encode(),
            headers={"Content-Type": "application/json"},
        )

    def _ask(
        self, method: str, path: str, seconds: float = LIMIT_SECONDS, **options: Unpack[Options]
    ) -> JsonObject:
        try:
            return ask(self._http, SERVICE, method, path, seconds, **options)
        except SignInRefused:
            raise Unavailable(
                f"{SERVICE} rejects the dashboard's key: "
                "set MODEL_API_KEY to one of the API's keys."
            ) from None


def predict_path(name: str, alias: str) -> str:
    """The path for predictions of a model, below the API's URL."""
    path = f"models/{quote(name, safe='')}"
    return f"{path}/predict" if alias == CHAMPION else f"{path}/aliases/{quote(alias)}/predict"


def _model(item: JsonObject, host: str) -> ServedModel:
    return ServedModel(
        name=item["name"],
        aliases={name: _alias(name, alias, host) for name, alias in item["aliases"].items()},
        versions={number: _version(number, v) for number, v in item["versions"].items()},
    )


def _alias(name: str, item: JsonObject, host: str) -> ServedAlias:
    failure = item["failure"]
    return ServedAlias(
        name=name,
        wanted=item["wanted_version"],
        serves=item["version"],
        since=_time(item["since"]),
        previous=item["previous_version"],
        failure=failure
        and Failure(
            failure["version"], failure["reason"], failure["attempts"], _time(failure["at"])
        ),
        report=alias_report(host, item),
    )


def _version(number: str, item: JsonObject) -> ServedVersion:
    inputs, known = item["signature"]["inputs"], item["categories"]
    named = [(str(column.get("name", place)), column) for place, column in enumerate(inputs)]
    tensors = any(column["type"] == "tensor" for _, column in named)
    return ServedVersion(
        number=number,
        run_id=item["run_id"],
        engine=item["engine"],
        note=item["engine_note"],
        fields=()
        if tensors
        else tuple(
            Field(name, column["type"], column.get("required", True), tuple(known.get(name) or ()))
            for name, column in named
        ),
        example=item["example"],
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
