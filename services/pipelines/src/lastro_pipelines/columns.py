"""Converts a file's columns to the values of a request's JSON, and predictions to columns."""

import base64
from collections.abc import Callable
from datetime import date
from decimal import Decimal

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.types as is_
from model_api.model.answers import plain
from model_api.model.signature import NUMERIC, Column
from model_api.model.untyped import Prediction, Value


def _listed(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            is_.is_list,
            is_.is_large_list,
            is_.is_fixed_size_list,
            is_.is_list_view,
            is_.is_large_list_view,
        )
    )


def _text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (is_.is_string, is_.is_large_string, is_.is_string_view))


def _bytes(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            is_.is_binary,
            is_.is_large_binary,
            is_.is_binary_view,
            is_.is_fixed_size_binary,
        )
    )


def _number(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (is_.is_integer, is_.is_floating, is_.is_decimal))


def _time(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (is_.is_timestamp, is_.is_date))


def _json(kind: pa.DataType) -> bool:
    """Return whether JSON can represent all values of the type."""
    if _listed(kind):
        return _json(kind.value_type)
    if is_.is_struct(kind):
        return all(_json(field.type) for field in kind)
    if is_.is_map(kind):
        return _text(kind.key_type) and _json(kind.item_type)
    if is_.is_dictionary(kind):
        return _json(kind.value_type)
    tests = (is_.is_null, is_.is_boolean, _number, _text, _bytes, _time)
    return any(test(kind) for test in tests)


# Type of a signature -> whether a file's type can hold its values.
_HOLDS: dict[str, Callable[[pa.DataType], bool]] = {
    "boolean": is_.is_boolean,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "string": _text,
    "binary": lambda kind: _bytes(kind) or _text(kind),
    "datetime": lambda kind: _time(kind) or _text(kind),
    "array": lambda kind: _listed(kind) and _json(kind),
    "object": lambda kind: (is_.is_struct(kind) or is_.is_map(kind)) and _json(kind),
    "map": lambda kind: (is_.is_struct(kind) or is_.is_map(kind)) and _json(kind),
    "any": _json,
}


def fault(column: Column, kind: pa.DataType) -> str | None:
    """Return why a file's column of this type cannot be the model's input; None if it can."""
    stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    stored = stored.value_type if is_.is_dictionary(stored) else stored
    if is_.is_null(stored) or _HOLDS[column.type](stored):
        return None
    return f"column {column.name!r} has the type {kind}, but the model takes {column.type}"


def series(column: Column, array: pa.Array) -> pd.Series:
    """Return the values of a file's column as the model API's decoder takes them.

    Args:
        column: of the model.
        array: of a type that `fault` accepts.

    Raises:
        ValueError: a value is out of the range of Python and pandas.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if is_.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    flat = is_.is_integer(kind) or is_.is_floating(kind) or is_.is_boolean(kind)
    # A missing value would turn integers into floats, and lose their last digits.
    if flat and column.type in NUMERIC and (array.null_count == 0 or is_.is_floating(kind)):
        return array.to_pandas()
    if column.type == "datetime" and _time(kind):
        try:
            return _in_utc(array).to_pandas()
        except pa.ArrowInvalid:
            pass  # out of the range of nanoseconds: the decoder names it with its row
    try:
        values = array.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError) as error:
        raise ValueError(f"column {column.name!r}: {error}") from None
    # In a CSV file a missing time is an empty cell.
    empty = "" if column.type == "datetime" else None
    return pd.Series(
        [None if value is None or value == empty else _as_json(value) for value in values],
        dtype=object,
    )


def _in_utc(array: pa.Array) -> pa.Array:
    if is_.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    # Arrow keeps times with a zone in UTC.
    return array.cast(pa.int64()).cast(pa.timestamp(array.type.unit)).cast(pa.timestamp("ns"))


def _as_json(value: Value) -> Value:
    match value:
        case dict():
            return {name: _as_json(inner) for name, inner in value.items()}
        case list():
            return [_as_json(inner) for inner in value]
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case date():
            return value.isoformat()
    return value


def answers(answer: Prediction) -> pa.Array:
    """Return one value for each prediction: structs where the answer has columns.

    Answers without an Arrow type, such as values of several types, are written as JSON text.
    """
    if isinstance(answer, dict):
        return _struct({str(name): values for name, values in answer.items()})
    if getattr(answer, "ndim", 1) == 2 and hasattr(answer, "iloc"):
        return _struct({str(name): answer.iloc[:, i] for i, name in enumerate(answer.columns)})
    if getattr(answer, "ndim", 1) > 1:
        answer = answer.tolist()
    try:
        array = pa.array(answer, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        values = plain(answer)
        try:
            array = pa.array(values)
        except (pa.ArrowException, OverflowError):
            return pa.array([msgspec.json.encode(value).decode() for value in values])
    # Without any value the type is null.
    return array.cast(pa.float64()) if is_.is_null(array.type) else array


def _struct(columns: dict[str, Prediction]) -> pa.Array:
    arrays = []
    for values in columns.values():
        array = answers(values)
        # A column of objects without a value becomes text, as in later rows.
        objects = getattr(getattr(values, "dtype", None), "kind", None) == "O"
        empty = objects and array.null_count == len(array)
        arrays.append(array.cast(pa.string()) if empty else array)
    return pa.StructArray.from_arrays(arrays, list(columns))
