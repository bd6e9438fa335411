"""MLflow's model registry, as far as serving needs it."""

import os
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import mlflow.artifacts
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model as MlflowModel

from model_api.model import Model
from model_api.schema import RowSchema


class Registry(Protocol):
    """Where models come from."""

    def champions(self) -> dict[str, str | None]:
        """Return every registered model, with the version that the alias names, if any."""

    def load(self, name: str, version: str) -> Model:
        """Load one version into memory."""


class MlflowRegistry:
    """The registry of an MLflow server.

    Args:
        tracking_uri: the server's URL.
        alias: names the version that serves.
        timeout: seconds that the server may take for one answer.
    """

    def __init__(self, tracking_uri: str, alias: str, timeout: int) -> None:
        # MLflow's client knows no other way; its defaults hold a call for minutes. Whoever polls
        # has no need of retries.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        self._uri = tracking_uri
        self._alias = alias
        self._client = MlflowClient(tracking_uri, tracking_uri)

    def champions(self) -> dict[str, str | None]:
        """Return every registered model, with the version that the alias names, if any."""
        found: dict[str, str | None] = {}
        token = None
        while True:
            page = self._client.search_registered_models(max_results=1000, page_token=token)
            found |= {model.name: model.aliases.get(self._alias) for model in page}
            token = page.token
            if not token:
                return found

    def load(self, name: str, version: str) -> Model:
        """Download one version and load it: scikit-learn's natively, others through pyfunc.

        Raises:
            Exception: whatever MLflow, or the model's own code, raises.
        """
        registered = self._client.get_model_version(name, version)
        with TemporaryDirectory(prefix="model-api-") as folder:
            path = mlflow.artifacts.download_artifacts(
                f"models:/{name}/{version}",
                dst_path=folder,
                tracking_uri=self._uri,
                registry_uri=self._uri,
            )
            description = MlflowModel.load(path)
            schema = RowSchema.from_signature(description.get_input_schema())
            example = description.load_input_example(path)
            estimator, probabilities = _open(description, path)
        return Model(
            name=name,
            version=version,
            run_id=registered.run_id or None,
            schema=schema,
            estimator=estimator,
            probabilities=probabilities,
            example=example if isinstance(example, pd.DataFrame) else None,
        )


def _open(
    description: MlflowModel, path: str
) -> tuple[Callable[[pd.DataFrame], Any], Callable[[pd.DataFrame], list[dict[str, float]]] | None]:
    pyfunc = description.flavors.get(mlflow.pyfunc.FLAVOR_NAME, {})
    plain = pyfunc.get("predict_fn", "predict") == "predict"
    if mlflow.sklearn.FLAVOR_NAME not in description.flavors or not plain:
        return mlflow.pyfunc.load_model(path).predict, None
    estimator = mlflow.sklearn.load_model(path)
    if not hasattr(estimator, "predict_proba"):
        return estimator.predict, None
    classes = [str(name) for name in estimator.classes_]

    def probabilities(frame: pd.DataFrame) -> list[dict[str, float]]:
        table = estimator.predict_proba(frame).tolist()
        return [dict(zip(classes, row, strict=True)) for row in table]

    return estimator.predict, probabilities
