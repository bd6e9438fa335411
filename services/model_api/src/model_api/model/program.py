"""The steps of a compiled model before its predictor, in scikit-learn's own arithmetic.

Each operation repeats one step of scikit-learn, in the same order and with the same types, so that
the result is the same to the last bit. `preparing.compiling` writes the programs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from model_api.model.batch import Batch
from model_api.model.signature import SCALARS, Column
from model_api.model.untyped import JsonObject

# Doubles represent whole numbers up to this one exactly.
EXACT = 2.0**53

type Columns = Sequence[Sequence[Any]]


class Program:
    """The steps of a compiled model, from a request to the array that its predictor takes.

    Args:
        options: ``blocks``, each of some columns, whose results are placed side by side, and
            ``operations`` on the result.
        arrays: the arrays that the operations refer to.
    """

    def __init__(self, options: JsonObject, arrays: Mapping[str, np.ndarray]) -> None:
        kinds: dict[str, type[_Block]] = {
            "numbers": _Numbers,
            "narrow": _Narrow,
            "categories": _Categories,
        }
        self._blocks = [kinds[block["kind"]](block, arrays) for block in options["blocks"]]
        self._operations = _operations(options["operations"], arrays)
        self._by_column = any(block.by_column for block in self._blocks)

    def rows(self, batch: Batch) -> np.ndarray:
        """Return the array (rows, features), which the caller must not change.

        Raises:
            ValueError: a category that the model refuses.
        """
        columns = list(zip(*batch.tuples(), strict=True)) if self._by_column else ()
        parts = [block.rows(batch, columns) for block in self._blocks]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return _run(self._operations, rows)


# ---- operations ---------------------------------------------------------------------------------


def _operations(
    specs: Sequence[Sequence[Any]], arrays: Mapping[str, np.ndarray]
) -> list[tuple[str, tuple[Any, ...]]]:
    return [(name, tuple(arrays[key] for key in keys)) for name, *keys in specs]


def _run(operations: list[tuple[str, tuple[Any, ...]]], rows: np.ndarray) -> np.ndarray:
    if not operations:
        return rows
    # A copy, so that the batch's own array stays unchanged.
    rows = rows.astype(rows.dtype if rows.dtype.kind == "f" else np.float64)
    for name, values in operations:
        match name:
            case "finite":
                # Every step of scikit-learn refuses infinities that an earlier one produced.
                if np.isinf(rows).any():
                    raise ValueError("Input X contains infinity")
            case "fill":
                np.copyto(rows, values[0], where=np.isnan(rows))
            case "clip":
                np.clip(rows, *values, out=rows)
            case _:
                # As `X -= self.center_` does: rounded to the type of the rows.
                getattr(np, name)(rows, values[0], out=rows, casting="same_kind")
    return rows


# ---- blocks -------------------------------------------------------------------------------------


class _Block(Protocol):
    """Some columns of the predictor's input; ``by_column`` says whether it reads ``columns``."""

    by_column: bool

    def __init__(self, options: JsonObject, arrays: Mapping[str, np.ndarray]) -> None: ...

    def rows(self, batch: Batch, columns: Columns) -> np.ndarray: ...


class _Numbers:
    """Columns of numbers as one array.

    Options: ``places``, null for all; ``dtype``; ``operations``.
    """

    def __init__(self, options: JsonObject, arrays: Mapping[str, np.ndarray]) -> None:
        self._places = options["places"]
        self._dtype = np.dtype(options["dtype"])
        self._operations = _operations(options["operations"], arrays)
        self.by_column: bool = self._places is not None

    def rows(self, batch: Batch, columns: Columns) -> np.ndarray:
        if self._places is None:
            rows = batch.array()
        else:
            rows = np.array([columns[place] for place in self._places], self._dtype).T
        return _run(self._operations, rows)


class _Narrow:
    """All columns in 32 bits, each rounded once from its own type, as XGBoost reads a frame."""

    by_column = False

    def __init__(self, options: JsonObject, arrays: Mapping[str, np.ndarray]) -> None:
        pass

    def rows(self, batch: Batch, columns: Columns) -> np.ndarray:
        return narrow(batch)


class _Categories:
    """Columns of categories, one-hot.

    Options: ``places``; ``tables``, for each place a mapping from category to column of the result,
    -1 for a category without one; ``width`` of the result; ``strict``, whether a value that is in
    no table is refused; ``fills``, for each place the replacement of a missing value, or null.
    """

    by_column = True

    def __init__(self, options: JsonObject, arrays: Mapping[str, np.ndarray]) -> None:
        tables = [dict(zip(values, at, strict=True)) for values, at in options["tables"]]
        self._parts = list(zip(options["places"], tables, options["fills"], strict=True))
        self._width: int = options["width"]
        self._strict: bool = options["strict"]

    def rows(self, batch: Batch, columns: Columns) -> np.ndarray:
        width = self._width
        hits: list[int] = []
        for place, table, fill in self._parts:
            values = columns[place]
            if fill is not None:
                values = [fill if value is None else value for value in values]
            if self._strict and not table.keys() >= set(values):
                raise ValueError(f"Found unknown categories in column {place} during transform")
            hits += [
                row * width + at
                for row, value in enumerate(values)
                if (at := table.get(value, -1)) >= 0
            ]
        rows = np.zeros((batch.rows, width))
        rows.reshape(-1)[hits] = 1.0
        return rows


def narrow(batch: Batch) -> np.ndarray:
    """Return the rows in 32 bits, each value rounded once from its own column's type."""
    rows = batch.array()
    with np.errstate(over="ignore"):
        if rows.dtype == np.float64 and batch.layout.long and (np.abs(rows) > EXACT).any():
            columns = zip(*batch.tuples(), strict=True)
            parts = [
                np.array(values, _own_type(column, values)).astype(np.float32)
                for column, values in zip(batch.layout.columns, columns, strict=True)
            ]
            return np.stack(parts, axis=1)
        return rows.astype(np.float32, order="C", copy=False)


def _own_type(column: Column, values: Sequence[Any]) -> Any:
    missing = not column.required and None in values
    return np.float64 if missing else SCALARS[column.type][1]
