"""The stand-in for the model in MLflow's scoring server, which checks rows as MLflow does."""

from typing import Any

import numpy as np

from model_api.model.answers import encode
from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.engines import PyfuncEngine
from model_api.model.errors import InvalidInput, ModelRefuses, RequestError, TooManyRows
from model_api.model.invocations.common import strict_body
from model_api.model.untyped import JsonObject, MlflowModel, Prediction, Value
from model_api.model.version import Version
from model_api.model.words import first_line


class StandIn:
    """Replaces the pyfunc in MLflow's scoring server: checks its input and has it answered.

    Attributes:
        metadata: MLflow's ``Model``.
        answered: whether it was called and has answered.
        predictions: the predictions as JSON.
        body: see ``Answered``.
    """

    def __init__(self, version: Version, metadata: MlflowModel, max_rows: int) -> None:
        self.metadata = metadata
        self.answered = False
        self.predictions = b""
        self.body: bytes | None = None
        self._version = version
        self._max_rows = max_rows
        self._refusal: Exception | None = None
        self._asked = False

    def predict(self, data: Prediction, params: JsonObject | None = None) -> list[Value]:
        """Compute the answer, and return an empty one for MLflow to wrap."""
        try:
            self._predict(data, params)
        except Exception as error:
            # MLflow wraps the error into a message with the whole input.
            self._refusal = error
            raise
        self.answered = True
        return []

    def _predict(self, data: Any, params: JsonObject | None) -> None:
        from mlflow.models.utils import _enforce_params_schema, _enforce_schema

        batch = None
        if self.metadata._is_signature_from_type_hint():
            if isinstance(data, list) and len(data) > self._max_rows:
                raise TooManyRows(len(data), self._max_rows)
        else:
            enforced = _enforce_schema(data, self.metadata.get_input_schema())
            checked = _enforce_params_schema(params, self.metadata.get_params_schema())
            batch = _batch_of(self._version.decoder, enforced, self._max_rows)
        self._asked = True
        if batch is None or checked or self._version.engine == PyfuncEngine.name:
            answer = self._version.original().predict(data, params=params)
        else:
            try:
                answer = self._version.answer(batch)
            except Exception:
                # The cause may be a limit of the engine, such as 32 bits, so the original decides.
                answer = self._version.original().predict(data, params=params)
        self.predictions = encode(answer)
        if batch is not None:
            self.body = strict_body(batch, checked)

    def refusal(self, error: Exception) -> RequestError:
        """Return the reason for the missing answer, from an error of MLflow's scoring server."""
        if isinstance(self._refusal, RequestError):
            return self._refusal
        if isinstance(error, RequestError):
            return error
        reason = first_line(self._refusal or error)
        if self._asked:
            return ModelRefuses(reason)
        return InvalidInput(reason)


def _batch_of(decoder: Decoder, enforced: Any, max_rows: int) -> Batch | None:
    """Return the rows that MLflow has coerced; None if the strict contract would not take them.

    Raises:
        TooManyRows: there are too many.
    """
    rows = max(map(len, enforced.values())) if isinstance(enforced, dict) else len(enforced)
    if rows > max_rows:
        raise TooManyRows(rows, max_rows)
    if not rows:
        return None
    if decoder.tensors:
        given = enforced if decoder.named else {None: enforced}
        tensors = {tensor.name: np.asarray(given[tensor.name]) for tensor in decoder.tensors}
        alike = all(
            tensors[tensor.name].dtype == tensor.dtype
            and tensor.dtype.kind in "biuf"
            and len(tensors[tensor.name]) == rows
            and np.isfinite(tensors[tensor.name]).all()
            for tensor in decoder.tensors
        )
        return Batch(decoder.layout, rows, tensors=tensors) if alike else None
    for label, column in zip(decoder.layout.labels, decoder.columns, strict=True):
        if label not in enforced:
            return None
        # None, NaN and pandas' other missing values are the same to MLflow only among floats.
        if column.type not in ("float", "double") and enforced[label].isna().any():
            return None
    try:
        return decoder.batch(enforced)
    except (ValueError, TypeError, OverflowError):
        return None
