"""Checks of a request's values, with messages for the wrong ones."""

import base64
import json
import math
from datetime import UTC, datetime

import numpy as np

from model_api.model.errors import InvalidJson
from model_api.model.faults import Faults
from model_api.model.signature import FLOAT32_MAX, INT32, INT64, SCALARS, Column, Tensor, param_type
from model_api.model.untyped import JsonObject, Value
from model_api.model.words import clean, short

# Doubles have at most 309 digits. Parsing takes quadratic time, so longer numbers are not parsed.
_MOST_DIGITS = 400
_DATETIMES = (datetime(1678, 1, 1), datetime(2262, 1, 1))
MISSING: Value = object()


def parse(body: bytes) -> Value:
    """Return a body's JSON, including ``NaN`` and ``Infinity``; InvalidJson says what is wrong."""
    try:
        return json.loads(body.decode(), parse_int=_parse_integer)
    except UnicodeDecodeError as error:
        raise InvalidJson(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise InvalidJson("it is nested too deeply") from None
    except ValueError as error:
        raise InvalidJson(str(error)) from None


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def checked_value(column: Column, value: Value) -> Value:
    """Return a value as the model takes it, null as None; ValueError says what is wrong."""
    if value is MISSING or value is None or (isinstance(value, float) and math.isnan(value)):
        if value is MISSING and column.required:
            raise ValueError("is missing")
        if column.nullable:
            return None
        raise ValueError("must not be null or NaN: the model takes no missing values here")
    checked = _value(column.spec | {"type": column.type}, value)
    if column.categories is not None and checked not in column.known:
        known = ", ".join(map(short, column.categories[:10]))
        more = ", ..." if len(column.categories) > 10 else ""
        raise ValueError(f"must be one that the model has seen: {known}{more}; not {short(value)}")
    return checked


def _value(spec: JsonObject, value: Value) -> Value:
    """Return the value as the model takes it; ValueError says what is wrong."""
    match spec["type"]:
        case "any":
            return value
        case "array":
            if not isinstance(value, list):
                raise ValueError(f"must be a list, not {short(value)}")
            return [_inner(f"[{i}]", spec["items"], v) for i, v in enumerate(value)]
        case "map":
            if not isinstance(value, dict):
                raise ValueError(f"must be an object, not {short(value)}")
            return {k: _inner(f".{clean(k)}", spec["values"], v) for k, v in value.items()}
        case "object":
            return _object(spec["properties"], value)
        case "boolean":
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, not {short(value)}")
        case "integer":
            return _whole(value, *INT32)
        case "long":
            return _whole(value, *INT64)
        case "float":
            return _number(value, FLOAT32_MAX, "a number of 32 bits")
        case "double":
            return _number(value, math.inf, "a double")
        case "string":
            return _text(value)
        case "binary":
            try:
                # MLflow's clients split it into lines.
                return base64.b64decode("".join(_text(value).split()), validate=True)
            except ValueError:
                raise ValueError(f"must be text in base64, not {short(value)}") from None
        case "datetime":
            return parse_datetime(_text(value))
    return value


def _inner(place: str, spec: JsonObject, value: Value) -> Value:
    if value is None and not spec.get("required", True):
        return None
    try:
        return _value(spec, value)
    except ValueError as error:
        text = str(error)
        joint = "" if text.startswith(("[", ".")) else ": "
        raise ValueError(f"{place}{joint}{text}") from None


def _object(properties: JsonObject, value: Value) -> JsonObject:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {short(value)}")
    if unknown := value.keys() - properties.keys():
        raise ValueError(f"must not have {clean(min(unknown))!r}")
    checked = {}
    for name, spec in properties.items():
        if name in value:
            checked[name] = _inner(f".{name}", spec, value[name])
        elif spec.get("required", True):
            raise ValueError(f"must have {name!r}")
    return checked


def _whole(value: Value, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {short(value)}")
    if not least <= value <= most:
        raise ValueError(f"must be between {least} and {most}, not {short(value)}")
    return value


def _number(value: Value, most: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {short(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        raise ValueError("must be a number, not NaN")
    if math.isinf(number) or abs(number) > most:
        raise ValueError(f"is beyond the range of {what}: {short(value)}")
    return number


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {short(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"is not Unicode text: {short(value)}") from None
    return value


def parse_datetime(value: str) -> datetime:
    """Return the time in UTC, without a zone, as MLflow does."""
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(
            f"must be a time such as 2026-11-24T06:00:00, not {short(value)}"
        ) from None
    if not _DATETIMES[0] <= time < _DATETIMES[1]:
        raise ValueError(f"must be between the years 1678 and 2261, not {short(value)}")
    return time


def check_tensor(tensor: Tensor, row: int, value: Value, faults: Faults) -> None:
    """Note the faults in one row of a tensor, each with its place in the other dimensions."""

    def add(detail: str, place: tuple[int, ...]) -> None:
        at = "".join(f"[{i}]" for i in place) + ": " if place else ""
        faults.add(row, tensor.name, f"{at}{detail}")

    def walk(value: Value, shape: tuple[int, ...], place: tuple[int, ...]) -> None:
        if not shape:
            try:
                _check_element(tensor.dtype, value)
            except ValueError as error:
                add(str(error), place)
        elif not isinstance(value, list):
            add(f"must be a list, not {short(value)}", place)
        elif shape[0] not in (-1, len(value)):
            add(f"must have {shape[0]} values, not {len(value)}", place)
        else:
            for i, item in enumerate(value):
                if faults.full:
                    return
                walk(item, shape[1:], (*place, i))

    walk(value, tensor.shape[1:], ())


def _check_element(dtype: np.dtype, value: Value) -> None:
    match dtype.kind:
        case "b":
            _value({"type": "boolean"}, value)
        case "f":
            _number(value, float(np.finfo(dtype).max), str(dtype))
        case "i" | "u":
            bounds = np.iinfo(dtype)
            _whole(value, int(bounds.min), int(bounds.max))
        case "U" | "S":
            _text(value)


def checked_parameter(spec: JsonObject, value: Value) -> Value:
    """Return a parameter as the model takes it; ValueError says what is wrong."""
    kind = param_type(spec)
    if value is None or kind not in SCALARS:
        return value
    if spec.get("shape") is None:
        return _value({"type": kind}, value)
    return _value({"type": "array", "items": {"type": kind}}, value)
