"""Names for types that mypy treats as Any: objects of untyped libraries, and JSON values."""

from typing import Any

type Estimator = Any
"""A model, or a step of one, of scikit-learn, XGBoost or LightGBM."""
type Pyfunc = Any
"""The result of ``mlflow.pyfunc.load_model``."""
type MlflowModel = Any
"""MLflow's ``Model``: the content of an ``MLmodel`` file."""
type Prediction = Any
"""One answer per row: an array, a list, a frame, a series or, for tensors, a dict of arrays."""
type Value = Any
"""A JSON value, or a checked value of a request's row."""
type JsonObject = dict[str, Any]
"""A JSON object whose members have different types."""
type RuntimeType = Any
"""A type made at runtime, for msgspec."""
