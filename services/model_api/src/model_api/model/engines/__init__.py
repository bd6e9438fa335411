"""Engines compute a model's answers: the model's own library, or the compiled model.

An engine is opened from the folder of a prepared version, with the options that the preparation
chose for it. Nothing heavy is imported before an engine needs it: a compiled model brings neither
scikit-learn, pandas nor MLflow into the process.
"""

import os
from pathlib import Path

from model_api.model.engines.base import (
    ARRAYS,
    COMPILED_ONNX,
    COMPILED_TREELITE,
    FILES,
    MODEL_FOLDER,
    Engine,
)
from model_api.model.engines.compiled import CompiledOnnxEngine, LinearEngine, TreeliteEngine
from model_api.model.engines.native import (
    LightgbmEngine,
    OnnxFlavorEngine,
    PyfuncEngine,
    SklearnEngine,
    XgboostEngine,
)
from model_api.model.untyped import JsonObject

__all__ = [
    "ARRAYS",
    "COMPILED",
    "COMPILED_ONNX",
    "COMPILED_TREELITE",
    "ENGINES",
    "FILES",
    "MODEL_FOLDER",
    "CompiledOnnxEngine",
    "Engine",
    "LightgbmEngine",
    "LinearEngine",
    "OnnxFlavorEngine",
    "PyfuncEngine",
    "SklearnEngine",
    "TreeliteEngine",
    "XgboostEngine",
    "open_engine",
]


ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        PyfuncEngine,
        SklearnEngine,
        XgboostEngine,
        LightgbmEngine,
        OnnxFlavorEngine,
        LinearEngine,
        CompiledOnnxEngine,
        TreeliteEngine,
    )
}

COMPILED = frozenset((LinearEngine.name, CompiledOnnxEngine.name, TreeliteEngine.name))


def open_engine(name: str, folder: Path, options: JsonObject) -> Engine:
    """Return the engine of that name for a prepared version."""
    # OpenMP reads it when the first library loads it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return ENGINES[name](folder, options)
