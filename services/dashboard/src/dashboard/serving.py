"""A small client for Lastro's model API: what serves right now, and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from dashboard.fields import Field
from dashboard.services import Away, Refused, SignInRefused, ask, open_client

SERVICE = "The model API"

_NO_PROBABILITIES = "urn:model-api:no-probabilities"


@dataclass(frozen=True)
class ServedModel:
    """A model whose alias names a version.

    `version`, `run_id`, `since` and `fields` are those of the version that serves, None while
    none does; `wanted` is the version that should, `failure` why it could not be loaded.
    """

    name: str
    version: str | None
    run_id: str | None
    since: datetime | None
    wanted: str
    failure: str | None
    fields: tuple[Field, ...] | None


@dataclass(frozen=True)
class Held:
    """What the API holds; `registry_error` tells why it cannot follow MLflow right now."""

    alias: str
    models: tuple[ServedModel, ...]
    registry_error: str | None


@dataclass(frozen=True)
class Answer:
    """A prediction, one item per input row, and the model that made it.

    `probabilities` maps a class to its probability for each row, None where the model tells none.
    """

    predictions: list[Any]
    probabilities: list[dict[str, float]] | None
    name: str
    version: str
    alias: str
    run_id: str | None


class ModelApi:
    """The model API, called with the dashboard's bearer key.

    The key opens every model: callers show a visitor only the models MLflow lets them see.
    """

    def __init__(self, url: str, key: str) -> None:
        """Nothing is sent yet."""
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
        return Held(
            alias=answer["alias"],
            models=tuple(_served(item) for item in answer["models"]),
            registry_error=answer["registry_error"],
        )

    def predict(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Predict for rows of named values, with probabilities where the model tells them.

        Raises:
            Refused: the API does not accept the input; the message says why.
            Away: no usable answer.
        """
        try:
            answer = self._predict(name, rows, probabilities=True)
        except Refused as error:
            if error.kind != _NO_PROBABILITIES:
                raise
            answer = self._predict(name, rows, probabilities=False)
        model = answer["model"]
        return Answer(
            predictions=answer["predictions"],
            probabilities=answer.get("probabilities"),
            name=model["name"],
            version=model["version"],
            alias=model["alias"],
            run_id=model["run_id"],
        )

    def _predict(
        self, name: str, rows: Sequence[Mapping[str, Any]], probabilities: bool
    ) -> dict[str, Any]:
        return self._ask(
            "POST",
            f"models/{quote(name, safe='')}/predict",
            params={"probabilities": probabilities},
            json={"inputs": list(rows)},
        )

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            return ask(self._http, SERVICE, method, path, **options)
        except SignInRefused:
            raise Away(
                f"{SERVICE} does not accept the dashboard's key: "
                "MODEL_API_KEY differs from the API's own."
            ) from None


def _served(item: dict[str, Any]) -> ServedModel:
    failure, columns, since = item["last_error"], item["signature"], item["since"]
    return ServedModel(
        name=item["name"],
        version=item["version"],
        run_id=item["run_id"],
        since=datetime.fromisoformat(since) if since else None,
        wanted=item["wanted_version"],
        failure=f"version {failure['version']}: {failure['reason']}" if failure else None,
        fields=(
            None
            if columns is None
            else tuple(Field(c["name"], c["type"], c["required"]) for c in columns)
        ),
    )
