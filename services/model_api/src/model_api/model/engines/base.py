"""What every engine is to those that ask it."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from model_api.model.batch import Batch
from model_api.model.untyped import JsonObject, Prediction

MODEL_FOLDER = "model"
"""The folder of MLflow's own files in the folder of a prepared version."""
ARRAYS = "compiled.npz"


class Engine:
    """Computes the answers of one model.

    Args:
        folder: of the prepared version.
        options: as they stand in its manifest.

    Attributes:
        indexed: whether ``predict`` answers with places in the list of classes, not with labels.
        takes_params: whether ``predict`` heeds the parameters of a request. A model that has any
            is answered only by an engine that does.
    """

    name: ClassVar[str]
    indexed: bool = False
    takes_params: ClassVar[bool] = False

    def __init__(self, folder: Path, options: JsonObject) -> None:
        raise NotImplementedError

    def predict(self, batch: Batch) -> Prediction:
        """Return one answer a row: an array, a list, a frame or, of tensors, a dict of arrays."""
        raise NotImplementedError

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        """Return the same and the probabilities (rows, classes)."""
        raise NotImplementedError(f"{self.name} does not provide probabilities")
