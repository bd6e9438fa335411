"""The kind of a column's values, and the values in a form that both samples share."""

from __future__ import annotations

import base64
import datetime as dt
import numbers
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from dashboard.drift.verdicts import Kind

_EXACT_IN_FLOATS = 2**53


def read_values(present: pd.Series) -> tuple[Kind, pd.Series]:
    """The kind of non-missing values, and the values as `Feature` holds them.

    Covers all values of a Parquet file as pandas reads them: booleans, integers, floats, decimals,
    text, bytes, dates, times of day, timestamps, durations, dictionaries, lists, structs, nulls.
    """
    kinds = pd.api.types
    if isinstance(present.dtype, pd.CategoricalDtype):
        present = present.astype(object)
    if present.empty:
        return Kind.EMPTY, present.astype(object)
    if kinds.is_bool_dtype(present.dtype):
        return Kind.FLAG, present.astype(object).map(str)
    if kinds.is_datetime64_any_dtype(present.dtype):
        return Kind.MOMENT, _microseconds(present)
    if kinds.is_timedelta64_dtype(present.dtype):
        return Kind.NUMBER, present.dt.total_seconds()
    if kinds.is_numeric_dtype(present.dtype) and not kinds.is_complex_dtype(present.dtype):
        return Kind.NUMBER, present.astype(float)
    if isinstance(present.dtype, pd.StringDtype):
        return Kind.TEXT, present.astype(object)
    for types, kind, convert in _OBJECTS:
        if all(isinstance(value, types) for value in present):
            return kind, convert(present)
    if any(isinstance(value, list | tuple | dict | set | np.ndarray) for value in present):
        return Kind.NESTED, present
    return Kind.TEXT, present.map(str).astype(object)


def _microseconds(present: pd.Series) -> pd.Series:
    moments = pd.to_datetime(present, utc=True)
    return moments.astype("datetime64[us, UTC]").astype("int64")


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")  # type: ignore[operator]


def _seconds(value: dt.time) -> float:
    return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6


# The log stores bytes as base64.
_OBJECTS: tuple[tuple[tuple[type, ...], Kind, Callable[[pd.Series], pd.Series]], ...] = (
    ((str,), Kind.TEXT, lambda present: present.astype(object)),
    ((bool, np.bool_), Kind.FLAG, lambda present: present.map(str).astype(object)),
    ((numbers.Real, Decimal), Kind.NUMBER, lambda present: present.map(_float).astype(float)),
    ((dt.date,), Kind.MOMENT, _microseconds),
    ((dt.time,), Kind.NUMBER, lambda present: present.map(_seconds).astype(float)),
    ((dt.timedelta,), Kind.NUMBER, lambda present: pd.to_timedelta(present).dt.total_seconds()),
    ((bytes,), Kind.TEXT, lambda present: present.map(lambda b: base64.b64encode(b).decode())),
)


def exact_integers(
    sources: Sequence[pd.Series], columns: Sequence[pd.Series]
) -> list[np.ndarray] | None:
    """Integers beyond the exact range of floats as Python integers; None if floats are exact."""
    if all(column.abs().max() <= _EXACT_IN_FLOATS for column in columns if len(column)):
        return None
    objects = [source.astype(object) for source in sources]
    if not all(isinstance(value, numbers.Integral) for column in objects for value in column):
        return None
    return [np.array([int(value) for value in column], dtype=object) for column in objects]


def same_precision(
    sources: Sequence[pd.Series], columns: Sequence[pd.Series]
) -> Sequence[pd.Series]:
    """Both columns in the lower precision of the two, because 0.1 as float32 differs from 0.1."""
    for kind in (np.float16, np.float32):
        if any(source.dtype == kind for source in sources):
            return [
                column.astype(kind).astype(float) if column.dtype == float else column
                for column in columns
            ]
    return columns


def common_kind(
    kinds: Sequence[Kind], columns: Sequence[pd.Series]
) -> tuple[Kind, Sequence[pd.Series], str]:
    """The common kind and the values of both samples, and the reason if they are not comparable."""
    found = set(kinds) - {Kind.EMPTY}
    if len(found) < 2:
        return (found or {Kind.EMPTY}).pop(), columns, ""
    if found == {Kind.FLAG, Kind.NUMBER}:
        as_numbers = [
            (c == "True").astype(float) if kind is Kind.FLAG else c
            for kind, c in zip(kinds, columns, strict=True)
        ]
        return Kind.NUMBER, as_numbers, ""
    if found == {Kind.NESTED, Kind.TEXT}:
        # The log stores arrays as JSON.
        return Kind.NESTED, columns, ""
    different = f"{kinds[0]} in the reference, {kinds[1]} in the recent sample"
    return Kind.TEXT, [column.map(str) for column in columns], f"not comparable: {different}"
