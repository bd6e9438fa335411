"""The rows of one request, in the forms that the different engines need."""

import base64
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from model_api.model.checking import checked_value
from model_api.model.layout import Layout
from model_api.model.signature import NESTED, SCALARS, Column, Tensor
from model_api.model.untyped import JsonObject, Value

if TYPE_CHECKING:
    import pandas as pd


class Batch:
    """The rows of one request.

    Args:
        layout: the columns or tensors of the rows.
        rows: their number.
        values: one tuple or struct per row, in the signature's order; None for tensors and frames.
        tensors: by name, the one without a name under None; None for columns.
        params: the prediction's parameters, checked, with the signature's defaults; None if the
            signature has none.
        frame: the rows as a frame with the signature's columns, order and types, if there is one.
    """

    __slots__ = ("_array", "_frame", "_gaps", "_tensors", "_values", "layout", "params", "rows")

    def __init__(
        self,
        layout: Layout,
        rows: int,
        values: Sequence[Value] | None = None,
        tensors: dict[str | None, np.ndarray] | None = None,
        params: JsonObject | None = None,
        frame: "pd.DataFrame | None" = None,
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.params = params
        self._values = values
        self._tensors = tensors
        self._array: np.ndarray | None = None
        self._gaps: bool | None = None
        self._frame = frame

    def tuples(self) -> Iterable[tuple[Value, ...]]:
        """Return the values of each row, in the signature's order; null is None."""
        if self._values is None and self._frame is not None:
            frame = self._frame.astype(object).where(self._frame.notna(), None)
            self._values = list(frame.itertuples(index=False, name=None))
        if self._values and isinstance(self._values[0], msgspec.Struct):
            return map(astuple, self._values)
        return self._values or ()

    def array(self) -> np.ndarray:
        """Return the rows as one array (rows, columns), or the only tensor as it is.

        Its type holds the values of all numeric columns; null is NaN.

        Raises:
            TypeError: a column is not numeric, or there are several tensors.
        """
        if self._array is None:
            self._array = self._make_array()
        return self._array

    def _make_array(self) -> np.ndarray:
        layout = self.layout
        if self._tensors is not None:
            [tensor] = self._tensors.values()
            return tensor
        if layout.dtype is None:
            raise TypeError("the model takes columns that are not numeric: use frame()")
        width = len(layout.columns)
        if self._frame is not None:
            table: np.ndarray = self._frame.to_numpy(layout.dtype)
            return table
        # If None is possible, the type is a float, and numpy turns None into NaN.
        flat = chain.from_iterable(self.tuples())
        return np.fromiter(flat, layout.dtype, self.rows * width).reshape(self.rows, width)

    def gaps(self) -> bool:
        """Tell whether a value is missing in a required column.

        Null in an optional column is not a gap: the comparison of engines included such rows.
        """
        if self._gaps is None:
            places = self.layout.filled
            if not places:
                self._gaps = False
            elif self.layout.dtype is not None:
                self._gaps = bool(np.isnan(self.array()[:, places]).any())
            else:
                self._gaps = any(row[place] is None for row in self.tuples() for place in places)
        return self._gaps

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a frame with the signature's columns, order and types."""
        import pandas as pd

        if self._frame is not None:
            return self._frame
        layout = self.layout
        if self._tensors is not None:
            raise TypeError("the model takes tensors, which no frame can hold: use native()")
        if layout.uniform:
            return pd.DataFrame(self.array(), columns=layout.labels, copy=False)
        series = {
            label: series_of(column, list(values))
            for label, column, values in zip(
                layout.labels, layout.columns, zip(*self.tuples(), strict=True), strict=True
            )
        }
        return pd.DataFrame(series)

    def native(self) -> Value:
        """Return the input of MLflow's pyfunc: a frame, an array, or a dict of arrays."""
        if self._tensors is None:
            return self.frame()
        return self._tensors.get(None, self._tensors)

    def tensors(self) -> dict[str | None, np.ndarray] | None:
        """Return the tensors by name, the one without a name under None; None for columns."""
        return self._tensors

    def row(self, number: int) -> "Batch":
        """Return one row as a separate batch."""
        return self.take([number])

    def take(self, numbers: list[int]) -> "Batch":
        """Return these rows, in this order, as a separate batch."""
        if self._tensors is not None:
            tensors = {name: tensor[numbers] for name, tensor in self._tensors.items()}
            return Batch(self.layout, len(numbers), tensors=tensors, params=self.params)
        values = list(self.tuples())
        chosen = [values[number] for number in numbers]
        return Batch(self.layout, len(numbers), chosen, params=self.params)

    def columns(self) -> dict[str, list[Value]]:
        """Return the values of each column as JSON, for the prediction log.

        An unnamed tensor of two dimensions has columns "0", "1" and so on; any other is one column
        of lists.
        """
        if self._tensors is None:
            names = [column.name for column in self.layout.columns]
            table = zip(*self.tuples(), strict=True)
            return {n: [_plain(v) for v in values] for n, values in zip(names, table, strict=True)}
        if None in self._tensors and self._tensors[None].ndim == 2:
            return {str(i): column.tolist() for i, column in enumerate(self._tensors[None].T)}
        return {name or "inputs": tensor.tolist() for name, tensor in self._tensors.items()}


def as_tensor(tensor: Tensor, nested: list[Value]) -> np.ndarray:
    """Return nested lists as the tensor's array; ValueError if they do not have its shape."""
    with np.errstate(over="ignore"):
        array = np.array(nested, tensor.dtype)
    if len(array.shape) != len(tensor.shape) or any(
        want not in (-1, have) for want, have in zip(tensor.shape, array.shape, strict=True)
    ):
        raise ValueError(f"must be of shape {tensor.shape}, not {array.shape}")
    if tensor.dtype.kind == "f" and tensor.dtype.itemsize < 8 and np.isinf(array).any():
        raise ValueError(f"has a value beyond the range of {tensor.dtype}")
    return array


def series_of(column: Column, values: list[Value]) -> "pd.Series":
    """Return a column's values, None where one is missing, with the column's type."""
    import pandas as pd

    dtype: Any = SCALARS[column.type][1] if column.type in SCALARS else np.object_
    if column.type in NESTED:
        # MLflow's check writes numpy's scalars into its input, which belongs to the caller.
        values = deepcopy(values)
    if column.type == "string":
        dtype = "str"
    elif not column.required and None in values:
        # numpy's booleans and integers have no missing value.
        dtype = {"boolean": np.object_, "integer": np.float64, "long": np.float64}.get(
            column.type, dtype
        )
    return pd.Series(values, dtype=dtype)


def series_from(column: Column, values: "pd.Series") -> "pd.Series":
    """Return a frame's column with the signature's type.

    Raises:
        ValueError: the model does not take a value; the message names column and row.
    """
    labels = values.index
    values = values.reset_index(drop=True)
    missing = values.isna()
    if missing.any() and not column.nullable:
        row = int(missing.to_numpy().argmax())
        raise ValueError(f"column {column.name!r}, row {labels[row]}: must not be missing")
    if column.type in ("float", "double") and values.dtype.kind in "iuf":
        dtype = SCALARS[column.type][1]
        if not np.isinf(converted := values.astype(dtype)).any():
            return converted
    whole = column.type in ("integer", "long") and column.categories is None
    if whole and values.dtype.kind == "i" and values.dtype.itemsize <= 8:
        dtype = np.dtype(SCALARS[column.type][1])
        if values.dtype.itemsize <= dtype.itemsize:
            return values.astype(dtype)
    if column.type == "datetime" and values.dtype.kind == "M":
        return values.astype("datetime64[ns]")
    checked: list[Any] = []
    for row, value in enumerate(values.tolist()):
        if column.nullable and missing[row]:
            checked.append(None)
            continue
        if isinstance(value, float) and column.type in ("integer", "long") and value.is_integer():
            # A whole number that became a float because other values are missing.
            value = int(value)
        try:
            checked.append(checked_value(column, value))
        except ValueError as error:
            raise ValueError(f"column {column.name!r}, row {labels[row]}: {error}") from None
    return series_of(column, checked)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
