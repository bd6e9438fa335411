"""A model's answers as JSON."""

from collections.abc import Callable
from datetime import date, datetime
from itertools import starmap
from typing import Any

import msgspec
import numpy as np

from model_api.model.signature import fits_struct
from model_api.model.untyped import Prediction, Value


def count(answer: Prediction) -> int | None:
    """Return the number of predictions in an answer; None if it is not a list of predictions."""
    if isinstance(answer, dict):
        lengths = {count(values) for values in answer.values()}
        return lengths.pop() if len(lengths) == 1 else None
    if isinstance(answer, str | bytes) or not hasattr(answer, "__len__"):
        return None
    return None if isinstance(answer, np.ndarray) and answer.ndim == 0 else len(answer)


def members(answer: Prediction, rows: int) -> bytes:
    """Return an answer as a member of a JSON object; RuntimeError unless it has one per row."""
    if count(answer) != rows:
        raise RuntimeError(f"the model answers {rows} rows with {count(answer)} predictions")
    return b'"predictions":' + encode(answer)


def plain(answer: Prediction) -> Value:
    """Return an answer as JSON values: lists, objects, text, numbers and null."""
    return msgspec.json.decode(encode(answer))


def encode(answer: Prediction) -> bytes:
    """Return an answer as JSON, as MLflow's own server writes it; non-finite numbers are null."""
    if isinstance(answer, dict):
        answer = {name: _listed(values) for name, values in answer.items()}
    else:
        answer = _listed(answer)
    return _encoder.encode(answer)


def _listed(answer: Prediction) -> Value:
    """Return a pyfunc's answer as MLflow's own server writes it."""
    if isinstance(answer, np.ndarray):
        # msgspec writes null for non-finite numbers. numpy turns nanoseconds into whole numbers.
        return list(answer) if answer.dtype.kind in "mM" else answer.tolist()
    if type(answer).__module__.startswith("pandas"):
        frame = answer.to_frame() if hasattr(answer, "to_frame") else answer
        return [
            {str(name): value for name, value in record.items()}
            for record in frame.to_dict(orient="records")
        ]
    return answer


def _hook(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.generic):
        return value.item()
    # NaT is also a datetime.
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if hasattr(value, "to_dict"):
        return _listed(value)
    raise TypeError(f"the model answers with {type(value).__name__}, which is not a JSON type")


_encoder = msgspec.json.Encoder(enc_hook=_hook)


def probability_encoder(classes: list[Value]) -> Callable[[np.ndarray], bytes]:
    """Return a function that writes a table of probabilities as one object per row."""
    names = [str(label) for label in classes]
    if not all(map(fits_struct, names)):
        return lambda table: msgspec.json.encode(
            [dict(zip(names, row, strict=True)) for row in table.tolist()]
        )
    row = msgspec.defstruct(
        "Row",
        [(f"p{i}", float) for i in range(len(names))],
        rename={f"p{i}": name for i, name in enumerate(names)},
        gc=False,
    )
    return lambda table: msgspec.json.encode(list(starmap(row, table.tolist())))
