"""LitServe, the way its documentation serves a scikit-learn model."""

import os
import sys

import litserve
import mlflow.sklearn
import numpy as np


class Scorer(litserve.LitAPI):
    """One model, rows as lists."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = mlflow.sklearn.load_model(os.environ["BENCH_MODEL"])

    def decode_request(self, request: dict) -> np.ndarray:
        """Return the rows."""
        return np.asarray(request["rows"])

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return one label a row."""
        return self.model.predict(rows)

    def encode_response(self, labels: np.ndarray) -> dict:
        """Return the answer."""
        return {"predictions": labels.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Scorer(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
