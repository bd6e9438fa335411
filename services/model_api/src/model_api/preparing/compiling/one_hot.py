"""The encoder of categories: the parameters with which it may be compiled, and how."""

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from model_api.model.signature import Column
from model_api.model.untyped import Estimator, JsonObject
from model_api.preparing.compiling.drafts import Seen
from model_api.preparing.compiling.numbers import IMPUTE
from model_api.preparing.compiling.rules import (
    NotCompiled,
    Rule,
    anything,
    check,
    is_nan,
    name_of,
    only,
)


def one_hot(
    steps: list[Estimator], places: list[int], columns: tuple[Column, ...]
) -> tuple[JsonObject, Seen]:
    """Return the block of a OneHotEncoder's columns, and the resulting array.

    Args:
        steps: the encoder, and perhaps an imputer before it.
        places: the places of the columns in the request.
        columns: the columns at those places.

    Raises:
        NotCompiled: the steps are different, or have learnt something that is not compiled.
    """
    *imputers, encoder = steps
    if type(encoder) is not OneHotEncoder or len(imputers) > 1:
        raise NotCompiled("OneHotEncoder is neither alone nor behind a SimpleImputer")
    check(encoder, ONE_HOT)
    fills: list[Any] = [None] * len(columns)
    if imputers:
        fills = _text_fills(imputers[0], columns)
    if len(encoder.categories_) != len(columns):
        raise NotCompiled("OneHotEncoder takes another number of columns")
    tables, width = [], 0
    dropped = encoder._drop_idx_after_grouping
    for place, (column, learnt) in enumerate(zip(columns, encoder.categories_, strict=True)):
        values = _learnt(column, learnt.tolist(), imputed=bool(imputers))
        drop = None if dropped is None else dropped[place]
        at, free = [], width
        for index in range(len(values)):
            at.append(-1 if index == drop else free)
            free += index != drop
        tables.append([values, at])
        width = free
    block = {
        "kind": "categories",
        "places": places,
        "tables": tables,
        "width": width,
        "strict": encoder.handle_unknown == "error",
        "fills": fills,
    }
    return block, Seen(np.dtype(np.float64), width, sparse=bool(encoder.sparse_output))


def _learnt(column: Column, values: list[Any], imputed: bool) -> list[Any]:
    """Return the categories that an encoder has learnt for a column, a missing value as None."""
    if column.type == "string":
        plain = [value for value in values if isinstance(value, str)]
        rest = [value for value in values if not isinstance(value, str)]
        # In a frame's column of text, missing values are NaN.
        if len(rest) > 1 or not all(map(is_nan, rest)) or (rest and rest[0] is not values[-1]):
            raise NotCompiled("OneHotEncoder has learnt categories that are not text")
        return plain + [None] * len(rest)
    if column.type in ("integer", "long") and column.required and not imputed:
        if all(type(value) is int for value in values):
            return values
        raise NotCompiled("OneHotEncoder has learnt categories that are not whole numbers")
    raise NotCompiled(f"OneHotEncoder takes a column of type {column.type}")


def _text_fills(step: Estimator, columns: tuple[Column, ...]) -> list[Any]:
    if type(step) is not SimpleImputer:
        raise NotCompiled(f"{name_of(step)} before OneHotEncoder is not compiled")
    check(step, IMPUTE)
    if step._fit_dtype.kind != "O" or any(column.type != "string" for column in columns):
        raise NotCompiled("SimpleImputer before OneHotEncoder takes more than text")
    fills: list[Any] = step.statistics_.tolist()
    if len(fills) != len(columns) or not all(isinstance(value, str) for value in fills):
        raise NotCompiled("SimpleImputer has not learnt a text for each column")
    return fills


ONE_HOT: dict[str, Rule] = {
    "categories": anything,
    "drop": anything,
    "sparse_output": anything,
    "dtype": only(np.float64),
    "handle_unknown": only("error", "ignore"),
    # Rare categories share a column.
    "min_frequency": only(None),
    "max_categories": only(None),
    "feature_name_combiner": anything,
}
