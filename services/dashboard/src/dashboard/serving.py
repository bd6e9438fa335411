"""A small client for Lastro's model API: what serves right now, and predictions."""

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
    Away,
    Options,
    Refused,
    SignInRefused,
    ask,
    open_client,
)
from dashboard.untyped import Json, JsonObject

SERVICE = "The model API"
CHAMPION = "champion"
"""The alias that is asked when a request names none."""

COMPILED = ("numpy", "onnx", "treelite")
"""Engines that are not the model's own library."""

_NO_PROBABILITIES = "urn:model-api:no-probabilities"


@dataclass(frozen=True)
class Failure:
    """Why a version does not serve although its alias names it."""

    version: str
    reason: str
    attempts: int
    at: datetime | None


@dataclass(frozen=True)
class ServedAlias:
    """An alias as the API follows it: `wanted` is what it names, `serves` what answers (or None).

    `since` is when that began to answer, `previous` what answered before, `report` what the host
    says of the versions that it served under the alias.
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

    `engine` is what predicts (`numpy`, `onnx`, `treelite`, or the model's own library), `note` how
    it compares with the original. `fields` are its columns, none where it takes tensors; `example`
    is what the prediction API would be sent as `inputs`: rows, or tensors.
    """

    number: str
    run_id: str | None
    engine: str
    note: str
    fields: tuple[Field, ...]
    example: Json

    @property
    def row(self) -> Mapping[str, Json]:
        """The example's first row, empty where it has no rows."""
        first = self.example[0] if isinstance(self.example, list) and self.example else None
        return first if self.fields and isinstance(first, dict) else {}


@dataclass(frozen=True)
class ServedModel:
    """A model the API follows."""

    name: str
    aliases: Mapping[str, ServedAlias]
    versions: Mapping[str, ServedVersion]

    def serving(self) -> dict[str, ServedVersion]:
        """Alias -> the version that answers for it, `champion` first."""
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
    """What one host of the API holds.

    `registry_error` tells why it cannot follow MLflow right now, `age` how long before this
    answer it last did; None when it never has.
    """

    models: tuple[ServedModel, ...]
    registry_error: str | None
    age: timedelta | None


@dataclass(frozen=True)
class Answer:
    """A prediction, one item per input row, and the model that made it.

    `probabilities` maps a class to its probability for each row, None where the model tells none.
    """

    predictions: list[Json]
    probabilities: list[dict[str, float]] | None
    version: str
    alias: str | None
    run_id: str | None


class ModelApi:
    """The model API, called with the dashboard's bearer key.

    The key opens every model: callers show a visitor only the models MLflow lets them see.
    """

    def __init__(self, url: str, key: str) -> None:
        """Nothing is sent yet."""
        self.host = urlsplit(url).netloc
        self._http = open_client(url, headers={"Authorization": f"Bearer {key}"})

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the API says it can predict.

        Raises:
            Away: no usable answer.
        """
        try:
            self._ask("GET", "health/ready")
        except Away as error:
            if error.status == 503:
                return False
            raise
        return True

    def models(self) -> Held:
        """What the API holds.

        Raises:
            Away: no usable answer.
        """
        answer = self._ask("GET", "models")
        polled = _time(answer["polled_at"])
        return Held(
            models=tuple(_model(item, self.host) for item in answer["models"]),
            registry_error=answer["registry_error"],
            age=max(datetime.now(UTC) - polled, timedelta()) if polled else None,
        )

    def predict(self, name: str, alias: str, inputs: Json) -> Answer:
        """Predict, with probabilities where the model tells them.

        Args:
            name: the registered model.
            alias: which of its versions.
            inputs: rows of named values, or tensors.

        Raises:
            Refused: the API does not accept the input; the message and `fields` say why.
            Away: no usable answer.
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
            # Not httpx's `json=`, which refuses NaN and infinity: the API takes both.
            content=json.dumps({"inputs": inputs}).encode(),
            headers={"Content-Type": "application/json"},
        )

    def _ask(
        self, method: str, path: str, seconds: float = LIMIT_SECONDS, **options: Unpack[Options]
    ) -> JsonObject:
        try:
            return ask(self._http, SERVICE, method, path, seconds, **options)
        except SignInRefused:
            raise Away(
                f"{SERVICE} does not accept the dashboard's key: "
                "MODEL_API_KEY differs from the API's own."
            ) from None


def predict_path(name: str, alias: str) -> str:
    """Where a model is asked for predictions, below the API's URL."""
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
