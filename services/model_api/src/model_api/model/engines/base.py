"""The interface of all engines."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from model_api.model.batch import Batch
from model_api.model.untyped import JsonObject, Prediction

MODEL_FOLDER = "model"
"""The folder of MLflow's own files in the folder of a prepared version."""
ARRAYS = "compiled.npz"
COMPILED_ONNX = "compiled.onnx"
COMPILED_TREELITE = "compiled.treelite"
FILES = frozenset((ARRAYS, COMPILED_ONNX, COMPILED_TREELITE))
"""The engines of compiled models."""


class Engine:
    """Computes the answers of one model.

    Args:
        folder: the prepared version's folder.
        options: the options from its manifest.

    Attributes:
        indexed: whether ``predict`` answers with places in the list of classes, not with labels.
        takes_params: whether ``predict`` uses the parameters of a request. A model with parameters
            needs an engine that does.
    """

    name: ClassVar[str]
    indexed: bool = False
    takes_params: ClassVar[bool] = False

    def __init__(self, folder: Path, options: JsonObject) -> None:
        raise NotImplementedError

    def predict(self, batch: Batch) -> Prediction:
        """Return one answer per row: an array, a list, a frame or (tensors) a dict of arrays."""
        raise NotImplementedError

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        """Return the result of `predict`, and the probabilities (rows, classes)."""
        raise NotImplementedError(f"{self.name} does not provide probabilities")
