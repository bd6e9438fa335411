"""Names for what mypy takes for anything: objects of libraries without types, and JSON's values."""

from typing import Any

type Estimator = Any
"""A model, or a step of one, of scikit-learn, XGBoost or LightGBM."""
type Pyfunc = Any
"""What ``mlflow.pyfunc.load_model`` returns."""
type MlflowModel = Any
"""MLflow's ``Model``: what an ``MLmodel`` file says."""
type Prediction = Any
"""One answer a row: an array, a list, a frame or a series or, of tensors, a dict of arrays."""
type Value = Any
"""A value of JSON, or of a request's row once it is checked."""
type JsonObject = dict[str, Any]
"""An object of JSON whose members are as different as what they describe."""
type RuntimeType = Any
"""A type that is made at runtime, for msgspec to decode."""
