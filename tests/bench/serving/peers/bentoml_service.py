"""BentoML, the way its documentation serves a scikit-learn model."""

import os

import bentoml
import mlflow.sklearn
import numpy as np


@bentoml.service(workers=1)
class Scorer:
    """One model, rows as lists."""

    def __init__(self) -> None:
        self.model = mlflow.sklearn.load_model(os.environ["BENCH_MODEL"])

    @bentoml.api
    async def predict(self, rows: list[list[float]]) -> list[int]:
        """Return one label a row."""
        return self.model.predict(np.asarray(rows)).tolist()
