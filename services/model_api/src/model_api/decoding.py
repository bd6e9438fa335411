"""Requests for a model: its MLflow signature, compiled once into a decoder of request bodies.

A body that is right is decoded by msgspec straight into the signature's types. Any other goes
through a second, slower reading whose only purpose is to say what is wrong, and where; it also
takes what msgspec does not know, such as the ``NaN`` of pandas' JSON.
"""

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec.structs import astuple

from model_api.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("inputs", "instances", "dataframe_records", "dataframe_split")
ERRORS_SHOWN = 20

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT32, _INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
# What a double can hold has some 309 digits; more are not worth the square of their number.
_MOST_DIGITS = 400
_DATETIMES = (datetime(1678, 1, 1), datetime(2262, 1, 1))

_Float32 = Annotated[float, msgspec.Meta(ge=-_FLOAT32_MAX, le=_FLOAT32_MAX)]
_Integer = Annotated[int, msgspec.Meta(ge=_INT32[0], le=_INT32[1])]
_Long = Annotated[int, msgspec.Meta(ge=_INT64[0], le=_INT64[1])]

# MLflow's names of types: what msgspec decodes, numpy's type, JSON schema.
_SCALARS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "boolean": (bool, np.bool_, {"type": "boolean"}),
    "integer": (
        _Integer,
        np.int32,
        {"type": "integer", "minimum": _INT32[0], "maximum": _INT32[1]},
    ),
    "long": (_Long, np.int64, {"type": "integer", "minimum": _INT64[0], "maximum": _INT64[1]}),
    "float": (
        _Float32,
        np.float32,
        {"type": "number", "minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX},
    ),
    "double": (float, np.float64, {"type": "number"}),
    "string": (str, np.object_, {"type": "string"}),
    "binary": (bytes, np.object_, {"type": "string", "contentEncoding": "base64"}),
    "datetime": (str, np.dtype("datetime64[ns]"), {"type": "string", "format": "date-time"}),
}
_NUMERIC = ("boolean", "integer", "long", "float", "double")
_NESTED = ("array", "object", "map", "any")
_FIRST_OF_LIST = re.compile(rb"\s*\[\s*(.)", re.DOTALL)


class SignatureError(ValueError):
    """The signature is not one that requests can be checked against."""


@dataclass(frozen=True)
class Column:
    """One input of a model; ``type`` is MLflow's name of it.

    A column that is not required may be null or left out. ``categories``, of text and whole
    numbers only, are the only values that the model takes.
    """

    name: str
    type: str
    required: bool = True
    categories: tuple[Any, ...] | None = None
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def numeric(self) -> bool:
        """Whether numbers, or booleans, come in it."""
        return self.type in _NUMERIC


@dataclass(frozen=True)
class Tensor:
    """One tensor that a model takes; -1 in its shape is any length, and name may be None."""

    name: str | None
    dtype: np.dtype
    shape: tuple[int, ...]


class Batch:
    """The rows of one request.

    Args:
        decoder: that made it.
        rows: their number.
        values: one tuple or struct a row, in the signature's order; None for tensors.
        tensors: by name, the one without a name under None; None for columns.
        params: of the prediction, checked, with the signature's defaults; None if it has none.
    """

    __slots__ = ("_array", "_decoder", "_frame", "_tensors", "_values", "params", "rows")

    def __init__(
        self,
        decoder: "Decoder",
        rows: int,
        values: Sequence[Any] | None = None,
        tensors: dict[str | None, np.ndarray] | None = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        self.rows = rows
        self.params = params
        self._decoder = decoder
        self._values = values
        self._tensors = tensors
        self._array: np.ndarray | None = None
        self._frame: pd.DataFrame | None = None

    def tuples(self) -> Iterable[tuple[Any, ...]]:
        """Return the values of each row, in the signature's order; null is None."""
        if self._values is None and self._frame is not None:
            frame = self._frame.astype(object).where(self._frame.notna(), None)
            self._values = list(frame.itertuples(index=False, name=None))
        if self._values and isinstance(self._values[0], msgspec.Struct):
            return map(astuple, self._values)
        return self._values or ()

    def array(self) -> np.ndarray:
        """Return the rows as one array (rows, columns), or the only tensor as it is.

        Its type is the one that all numeric columns fit in; null is NaN.

        Raises:
            TypeError: a column is not numeric, or there are several tensors.
        """
        if self._array is None:
            self._array = self._make_array()
        return self._array

    def _make_array(self) -> np.ndarray:
        decoder = self._decoder
        if self._tensors is not None:
            [tensor] = self._tensors.values()
            return tensor
        if decoder.dtype is None:
            raise TypeError("the model takes columns that are not numeric: use frame()")
        width = len(decoder.columns)
        if self._frame is not None:
            return self._frame.to_numpy(decoder.dtype)
        if decoder.dense:
            flat = chain.from_iterable(self.tuples())
            return np.fromiter(flat, decoder.dtype, self.rows * width).reshape(self.rows, width)
        return np.array(list(self.tuples()), decoder.dtype).reshape(self.rows, width)

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a frame with the signature's columns, order and types."""
        import pandas as pd

        if self._frame is not None:
            return self._frame
        decoder = self._decoder
        if self._tensors is not None:
            raise TypeError("the model takes tensors, which no frame can hold: use native()")
        if decoder.uniform:
            return pd.DataFrame(self.array(), columns=decoder.labels, copy=False)
        series = {
            label: _series(column, list(values))
            for label, column, values in zip(
                decoder.labels, decoder.columns, zip(*self.tuples(), strict=True), strict=True
            )
        }
        return pd.DataFrame(series)

    def native(self) -> Any:
        """Return what MLflow's pyfunc takes: a frame, an array, or a dict of arrays."""
        if self._tensors is None:
            return self.frame()
        return self._tensors.get(None, self._tensors)

    def tensors(self) -> dict[str | None, np.ndarray] | None:
        """Return the tensors by name, the one without a name under None; None for columns."""
        return self._tensors

    def row(self, number: int) -> "Batch":
        """Return one row as a batch of its own."""
        return self.take([number])

    def take(self, numbers: list[int]) -> "Batch":
        """Return these rows, in this order, as a batch of their own."""
        if self._tensors is not None:
            tensors = {name: tensor[numbers] for name, tensor in self._tensors.items()}
            return Batch(self._decoder, len(numbers), tensors=tensors, params=self.params)
        values = list(self.tuples())
        chosen = [values[number] for number in numbers]
        return Batch(self._decoder, len(numbers), chosen, params=self.params)

    def columns(self) -> dict[str, list[Any]]:
        """Return the values of each column as JSON, for the prediction log.

        An unnamed tensor of two dimensions has columns "0", "1" and so on; any other is one column
        of lists.
        """
        if self._tensors is None:
            names = [column.name for column in self._decoder.columns]
            table = zip(*self.tuples(), strict=True)
            return {n: [_plain(v) for v in values] for n, values in zip(names, table, strict=True)}
        if None in self._tensors and self._tensors[None].ndim == 2:
            return {str(i): column.tolist() for i, column in enumerate(self._tensors[None].T)}
        return {name or "inputs": tensor.tolist() for name, tensor in self._tensors.items()}


class Decoder:
    """Checks requests against a signature, and makes them what the model takes.

    Args:
        inputs: ``signature.inputs`` as MLflow writes it, parsed.
        params: ``signature.params``, likewise.
        categories: by column, the only values that the model takes.

    Attributes:
        columns: what one row holds; empty for tensors.
        tensors: what a request holds; empty for columns.
        dtype: the type of ``Batch.array``; None if there is no such array.

    Raises:
        SignatureError: the signature holds no inputs, or one of an unknown type.
    """

    def __init__(
        self,
        inputs: list[dict[str, Any]],
        params: list[dict[str, Any]] | None = None,
        categories: dict[str, list[Any]] | None = None,
    ) -> None:
        if not inputs:
            raise SignatureError("the signature has no inputs")
        self.columns: list[Column] = []
        self.tensors: list[Tensor] = []
        self.params = params or []
        if inputs[0]["type"] == "tensor":
            self.tensors = [_tensor(entry) for entry in inputs]
        else:
            self.columns = [_column(i, entry, categories or {}) for i, entry in enumerate(inputs)]
        self.named = inputs[0].get("name") is not None
        self.labels: Any = (
            [c.name for c in self.columns] if self.named else list(range(len(self.columns)))
        )
        self.dtype = self._common_type()
        # Whether no value can be null, and whether all columns have one type: the frequent case,
        # and the fast one.
        self.dense = all(column.required for column in self.columns)
        self.uniform = self.dtype is not None and all(
            column.required and _SCALARS[column.type][1] == self.dtype for column in self.columns
        )
        self._texts: list[int] = []
        self._nested = any(column.type in _NESTED for column in self.columns)
        self._names = {column.name for column in self.columns}
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._split = msgspec.json.Decoder(_Split)
        self._compile()

    # ---- what it is -----------------------------------------------------------------------------

    def _common_type(self) -> np.dtype | None:
        if self.tensors:
            return self.tensors[0].dtype if len(self.tensors) == 1 else None
        if not all(column.numeric for column in self.columns):
            return None
        types = [
            _SCALARS[column.type][1]
            if column.required or column.type in ("float", "double")
            else np.float64
            for column in self.columns
        ]
        return np.result_type(*types)

    def _compile(self) -> None:
        if self.tensors:
            types = [_tensor_type(tensor) for tensor in self.tensors]
            self._records = None
            self._lists = msgspec.json.Decoder(types[0]) if len(types) == 1 else None
            names = [tensor.name for tensor in self.tensors]
            self._by_column = msgspec.json.Decoder(_struct(names, types)) if self.named else None
            return
        if self._nested:
            self._records = self._lists = self._by_column = None
            return
        values = [_column_type(column) for column in self.columns]
        names = [column.name for column in self.columns]
        required = [column.required for column in self.columns]
        self._records = msgspec.json.Decoder(list[_struct(names, values, required)])
        self._lists = msgspec.json.Decoder(list[tuple[tuple(values)]])
        by_column = _struct(names, [list[value] for value in values])
        self._by_column = msgspec.json.Decoder(by_column)
        self._texts = [i for i, c in enumerate(self.columns) if c.type == "datetime"]
        # Clients write columns in one order or another, not in a thousand.
        self._lists_of = lru_cache(maxsize=16)(self._compile_order)

    def _compile_order(
        self, names: tuple[str, ...]
    ) -> tuple[msgspec.json.Decoder, Callable[[Any], tuple[Any, ...]]]:
        """Return a decoder of rows in this order of columns, and what puts them into ours."""
        places = {name: place for place, name in enumerate(names)}
        if len(places) != len(names) or not places.keys() <= self._names:
            raise ValueError("not the columns of the signature")
        if any(c.required and c.name not in places for c in self.columns):
            raise ValueError("a column is missing")
        types = {column.name: _column_type(column) for column in self.columns}
        decoder = msgspec.json.Decoder(list[tuple[tuple(types[name] for name in names)]])
        order = [places.get(column.name) for column in self.columns]
        return decoder, lambda row: tuple([None if i is None else row[i] for i in order])

    # ---- the fast way ---------------------------------------------------------------------------

    def decode(self, body: bytes, max_rows: int) -> Batch:
        """Return the rows of a request's body.

        Raises:
            Problem: 400 ``invalid-json`` (also not UTF-8, or nested too deeply), 422
                ``invalid-body`` or ``invalid-rows`` (with ``errors``, the first 20 as
                ``{"row", "field", "detail"}``, and their ``count``), 413 ``too-many-rows``.
        """
        try:
            batch = self._decode(body)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
            batch = self._explain(body, max_rows)
        if batch.rows > max_rows:
            raise too_many_rows(batch.rows, max_rows)
        if batch.rows == 0:
            raise _malformed("the body has no rows: send at least one")
        return batch

    def _decode(self, body: bytes) -> Batch:
        if not self.params and body[:1] == b"[":
            return self._list(body)
        if body.lstrip()[:1] == b"[":
            return self._list(body, self._parameters(None))
        envelope = self._envelope.decode(body)
        given = [name for name in FORMATS if getattr(envelope, name) is not msgspec.UNSET]
        [name] = given
        params = self._parameters(envelope.params)
        content = bytes(getattr(envelope, name))
        if name == "dataframe_split":
            return self._decode_split(content, params)
        if content[:1] == b"{" and name == "inputs" and self._by_column is not None:
            return self._decode_columns(content, params)
        return self._list(content, params)

    def _list(self, content: bytes, params: dict[str, Any] | None = None) -> Batch:
        if self.tensors:
            if self._lists is None:
                raise ValueError("several tensors have names")
            tensor = self.tensors[0]
            array = _as_tensor(tensor, self._lists.decode(content))
            return Batch(self, len(array), tensors={tensor.name: array}, params=params)
        if self._records is None:
            raise ValueError("nested columns are read the slow way")
        first = _FIRST_OF_LIST.match(content)
        as_lists = first is not None and first[1] == b"["
        values = (self._lists if as_lists else self._records).decode(content)
        return Batch(self, len(values), self._times(values), params=params)

    def _decode_split(self, content: bytes, params: dict[str, Any] | None) -> Batch:
        split = self._split.decode(content)
        names = split.columns
        if self.tensors or not self.named or names == self.labels:
            return self._list(bytes(split.data), params)
        if names is None or self._nested:
            raise ValueError("columns are missing, or are read the slow way")
        decoder, reorder = self._lists_of(tuple(names))
        values = list(map(reorder, decoder.decode(split.data)))
        return Batch(self, len(values), self._times(values), params=params)

    def _decode_columns(self, content: bytes, params: dict[str, Any] | None) -> Batch:
        found = astuple(self._by_column.decode(content))
        if self.tensors:
            arrays = {
                tensor.name: _as_tensor(tensor, value)
                for tensor, value in zip(self.tensors, found, strict=True)
            }
            [rows] = {len(array) for array in arrays.values()}
            return Batch(self, rows, tensors=arrays, params=params)
        values = list(zip(*found, strict=True))
        return Batch(self, len(values), self._times(values), params=params)

    def _times(self, values: Sequence[Any]) -> Sequence[Any]:
        if not self._texts:
            return values
        rows = [list(astuple(v) if isinstance(v, msgspec.Struct) else v) for v in values]
        for place in self._texts:
            for row in rows:
                row[place] = None if row[place] is None else _datetime(row[place])
        return rows

    def batch(self, frame: "pd.DataFrame") -> Batch:
        """Return the rows of a frame, for those who have no request: scoring in bulk.

        Raises:
            ValueError: the frame lacks a column, or has values that the model does not take; the
                message names the column and the first such row, by its label in the index.
        """
        import pandas as pd

        if self.tensors:
            raise ValueError("the model takes tensors: a frame cannot hold them")
        series = {}
        for label, column in zip(self.labels, self.columns, strict=True):
            if label not in frame:
                if column.required:
                    raise ValueError(f"the frame lacks the column {column.name!r}")
                series[label] = _series(column, [None] * len(frame))
                continue
            series[label] = _from_series(column, frame[label])
        batch = Batch(self, len(frame))
        batch._frame = pd.DataFrame(series)
        return batch

    # ---- the slow way ---------------------------------------------------------------------------

    def _explain(self, body: bytes, max_rows: int) -> Batch:
        document = _parse(body)
        if isinstance(document, list):
            name, content, params = "the body", document, None
        elif isinstance(document, dict):
            name, content, params = _unwrap(document)
        else:
            raise _malformed(
                f"the body must be a list of rows, or an object with one of {', '.join(FORMATS)}"
            )
        checked = self._parameters(params)
        faults = _Faults()
        if name == "dataframe_split":
            content, names = _from_split(content)
        else:
            names = None
        if self.tensors:
            batch = self._explain_tensors(name, content, faults)
        else:
            batch = self._explain_rows(name, content, names, faults, max_rows)
        faults.raise_any()
        batch.params = checked
        return batch

    def _explain_rows(
        self, name: str, content: Any, names: list[Any] | None, faults: "_Faults", max_rows: int
    ) -> Batch:
        if name == "inputs" and isinstance(content, dict):
            content = self._from_columns(content, faults)
            faults.raise_any()
        elif not isinstance(content, list | dict) and len(self.columns) == 1:
            content = [[content]]
        if not isinstance(content, list):
            raise _malformed(f"{name} must be a list with one row each")
        if not content:
            raise _malformed(f"{name} has no rows: send at least one")
        if len(content) > max_rows:
            raise too_many_rows(len(content), max_rows)
        if names is not None and self.named:
            if any(not isinstance(column, str) for column in names):
                raise _malformed("dataframe_split.columns must be a list of names")
            if twice := [n for n, count in Counter(names).items() if count > 1]:
                raise _malformed(f"dataframe_split.columns has {twice[0]!r} twice")
            content = _named(content, names)
        elif name == "dataframe_split" and self.named:
            raise _malformed("dataframe_split must have columns: the names of the values in data")
        values = [self._explain_row(row, given, faults) for row, given in enumerate(content)]
        return Batch(self, len(values), values)

    def _explain_row(self, row: int, given: Any, faults: "_Faults") -> tuple[Any, ...]:
        if isinstance(given, list):
            if len(given) != len(self.columns):
                faults.add(row, None, f"must have {len(self.columns)} values, not {len(given)}")
                return ()
            given = {c.name: value for c, value in zip(self.columns, given, strict=True)}
        elif not isinstance(given, dict):
            if len(self.columns) != 1:
                faults.add(
                    row,
                    None,
                    "must be an object with one value for each field, or a list of the values,"
                    f" not {_short(given)}",
                )
                return ()
            given = {self.columns[0].name: given}
        values = []
        for column in self.columns:
            value = given.get(column.name, _MISSING)
            try:
                values.append(_checked(column, value))
            except ValueError as error:
                faults.add(row, column.name, str(error))
        for extra in given.keys() - self._names:
            faults.add(row, extra, f"is not an input of this model{_near(extra, self._names)}")
        return tuple(values)

    def _from_columns(self, content: dict[str, Any], faults: "_Faults") -> list[Any]:
        if self._nested or not any(isinstance(value, list) for value in content.values()):
            return [content]
        for column in self.columns:
            if column.required and column.name not in content:
                faults.add(None, column.name, "is missing")
        for extra in content.keys() - self._names:
            faults.add(None, extra, f"is not an input of this model{_near(extra, self._names)}")
        lengths = {}
        for name, values in content.items():
            if isinstance(values, list):
                lengths[name] = len(values)
            else:
                faults.add(
                    None, name, f"must be a list, as other columns are, not {_short(values)}"
                )
        if len(set(lengths.values())) > 1:
            raise _malformed(
                "the columns of inputs have different lengths: "
                + ", ".join(f"{_clean(n)} has {length}" for n, length in list(lengths.items())[:10])
            )
        faults.raise_any()
        return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]

    def _explain_tensors(self, name: str, content: Any, faults: "_Faults") -> Batch:
        given: dict[Any, Any]
        known = {tensor.name for tensor in self.tensors}
        if name == "dataframe_records":
            raise _malformed("the model takes tensors: send them as inputs or instances")
        if isinstance(content, list) and content and isinstance(content[0], dict) and self.named:
            given = {n: [] for n in known}
            for row, record in enumerate(content):
                if not isinstance(record, dict):
                    faults.add(row, None, f"must be an object, not {_short(record)}")
                    continue
                for extra in record.keys() - known:
                    faults.add(row, extra, "is not an input of this model")
                for tensor in known:
                    if tensor in record:
                        given[tensor].append(record[tensor])
                    else:
                        faults.add(row, tensor, "is missing")
            faults.raise_any()
        elif isinstance(content, dict) and self.named:
            given = content
            for missing in known - content.keys():
                faults.add(None, missing, "is missing")
            for extra in content.keys() - known:
                faults.add(None, extra, "is not an input of this model")
            faults.raise_any()
        elif len(self.tensors) == 1:
            given = {self.tensors[0].name: content}
        else:
            raise _malformed(
                f"{name} must be an object with the tensors {', '.join(map(str, sorted(known)))}"
            )
        arrays = {}
        for tensor in self.tensors:
            if given[tensor.name] == []:
                raise _malformed(f"{tensor.name or name} has no rows: send at least one")
            if not isinstance(given[tensor.name], list):
                faults.add(None, tensor.name, f"must be a list, not {_short(given[tensor.name])}")
                continue
            for row, value in enumerate(given[tensor.name]):
                _check_tensor(tensor, row, value, faults)
            lead = tensor.shape[0]
            if lead not in (-1, len(given[tensor.name])):
                faults.add(
                    None, tensor.name, f"must have {lead} rows, not {len(given[tensor.name])}"
                )
            if not faults.count:
                try:
                    arrays[tensor.name] = _as_tensor(tensor, given[tensor.name])
                except (ValueError, OverflowError) as error:
                    faults.add(None, tensor.name, str(error))
        faults.raise_any()
        if len({len(array) for array in arrays.values()}) > 1:
            raise _malformed("the tensors have different numbers of rows")
        return Batch(self, len(next(iter(arrays.values()))), tensors=arrays)

    def _parameters(self, given: Any) -> dict[str, Any] | None:
        if not self.params and not given:
            return None
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise _malformed(f"params must be an object, not {_short(given)}")
        specs = {spec["name"]: spec for spec in self.params}
        if unknown := given.keys() - specs.keys():
            known = f"it takes {', '.join(specs)}" if specs else "it takes none"
            raise _malformed(f"params: {_clean(min(unknown))} is not one of this model; {known}")
        checked = {}
        for name, spec in specs.items():
            if name not in given:
                checked[name] = spec.get("default")
                continue
            try:
                checked[name] = _parameter(spec, given[name])
            except ValueError as error:
                raise _malformed(f"params: {name} {error}") from None
        return checked

    # ---- documentation --------------------------------------------------------------------------

    def body_schema(self) -> dict[str, Any]:
        """Return the JSON schema (2020-12, as in OpenAPI 3.1) of a request's body."""
        params = {"params": self._params_schema()} if self.params else {}

        def wrapped(name: str, schema: dict[str, Any]) -> dict[str, Any]:
            return {
                "type": "object",
                "title": name,
                "required": [name],
                "properties": {name: schema} | params,
                "additionalProperties": False,
            }

        if self.tensors:
            shapes = {tensor.name: _tensor_schema(tensor) for tensor in self.tensors}
            if self.named:
                inputs = {
                    "type": "object",
                    "required": list(shapes),
                    "properties": shapes,
                    "additionalProperties": False,
                }
                return wrapped("inputs", inputs)
            return {"anyOf": [wrapped("inputs", shapes[None]), wrapped("instances", shapes[None])]}
        values = {column.name: _column_schema(column) for column in self.columns}
        record = {
            "type": "object",
            "required": [column.name for column in self.columns if column.required],
            "properties": values,
            "additionalProperties": False,
        }
        width = len(self.columns)
        row = {
            "type": "array",
            "prefixItems": list(values.values()),
            "items": False,
            "minItems": width,
            "maxItems": width,
        }
        records = {"type": "array", "minItems": 1, "items": record}
        rows = {"type": "array", "minItems": 1, "items": row}
        split = {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {
                "columns": {"const": [column.name for column in self.columns]},
                "data": rows,
                "index": {"type": "array"},
            },
            "additionalProperties": False,
        }
        ways = [
            wrapped("inputs", records),
            wrapped("instances", rows),
            wrapped("dataframe_records", records),
            wrapped("dataframe_split", split),
            records | {"title": "records"},
        ]
        return {"anyOf": ways}

    def _params_schema(self) -> dict[str, Any]:
        properties = {}
        for spec in self.params:
            kind = _param_type(spec)
            schema = dict(_SCALARS[kind][2]) if kind in _SCALARS else {}
            if spec.get("shape") is not None:
                schema = {"type": "array", "items": schema}
            properties[spec["name"]] = schema | {"default": spec.get("default")}
        return {"type": "object", "properties": properties, "additionalProperties": False}


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dataframe_split: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | None = None


class _Split(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    data: msgspec.Raw
    columns: list[str | int] | None = None
    index: list[Any] | None = None


# ---- compiling ----------------------------------------------------------------------------------


def _column(place: int, entry: dict[str, Any], categories: dict[str, list[Any]]) -> Column:
    kind = entry["type"]
    if kind not in _SCALARS and kind not in _NESTED:
        raise SignatureError(f"input {entry.get('name', place)!r} is of the unknown type {kind!r}")
    name = entry.get("name")
    name = str(place) if name is None else name
    known = categories.get(name)
    return Column(
        name, kind, entry.get("required", True), None if known is None else tuple(known), entry
    )


def _tensor(entry: dict[str, Any]) -> Tensor:
    spec = entry["tensor-spec"]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind not in "biufUSO":
        raise SignatureError(f"a tensor of type {dtype} cannot be written as JSON")
    return Tensor(entry.get("name"), dtype, tuple(spec["shape"]))


def _struct(names: list[Any], types: list[Any], required: list[bool] | None = None) -> Any:
    """Return a struct with a field for each name, whatever the names are."""
    required = required or [True] * len(names)
    # msgspec wants the fields without a default first; the order of astuple is the signature's.
    fields = [
        (f"f{i}", kind) if needed else (f"f{i}", kind, None)
        for i, (kind, needed) in enumerate(zip(types, required, strict=True))
    ]
    return msgspec.defstruct(
        "Row",
        fields,
        rename={f"f{i}": name for i, name in enumerate(names)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def _column_type(column: Column) -> Any:
    kind = _SCALARS[column.type][0]
    if column.categories:
        kind = Literal[column.categories]
    return kind if column.required else kind | None


def _tensor_type(tensor: Tensor) -> Any:
    kind: Any = str
    if tensor.dtype.kind == "b":
        kind = bool
    elif tensor.dtype.kind == "f":
        kind = float
    elif tensor.dtype.kind in "iu":
        bounds = np.iinfo(tensor.dtype)
        kind = Annotated[int, msgspec.Meta(ge=int(bounds.min), le=min(int(bounds.max), _INT64[1]))]
    elif tensor.dtype.kind == "O":
        kind = Any
    for _ in tensor.shape:
        kind = list[kind]
    return kind


def _as_tensor(tensor: Tensor, nested: list[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = np.array(nested, tensor.dtype)
    if len(array.shape) != len(tensor.shape) or any(
        want not in (-1, have) for want, have in zip(tensor.shape, array.shape, strict=True)
    ):
        raise ValueError(f"must be of shape {tensor.shape}, not {array.shape}")
    if tensor.dtype.kind == "f" and tensor.dtype.itemsize < 8 and np.isinf(array).any():
        raise ValueError(f"has a value beyond the range of {tensor.dtype}")
    return array


def _series(column: Column, values: list[Any]) -> "pd.Series":
    import pandas as pd

    dtype: Any = _SCALARS[column.type][1] if column.type in _SCALARS else np.object_
    if column.type == "string":
        dtype = "str"
    elif not column.required and None in values:
        # numpy's booleans and whole numbers have no missing value.
        dtype = {"boolean": np.object_, "integer": np.float64, "long": np.float64}.get(
            column.type, dtype
        )
    return pd.Series(values, dtype=dtype)


def _from_series(column: Column, values: "pd.Series") -> "pd.Series":
    labels = values.index
    values = values.reset_index(drop=True)
    missing = values.isna()
    if column.required and missing.any():
        row = int(missing.to_numpy().argmax())
        raise ValueError(f"column {column.name!r}, row {labels[row]}: must not be missing")
    if column.type in ("float", "double") and values.dtype.kind in "iuf":
        dtype = _SCALARS[column.type][1]
        if not np.isinf(converted := values.astype(dtype)).any():
            return converted
    whole = column.type in ("integer", "long") and column.categories is None
    if whole and values.dtype.kind == "i" and values.dtype.itemsize <= 8:
        dtype = np.dtype(_SCALARS[column.type][1])
        if values.dtype.itemsize <= dtype.itemsize:
            return values.astype(dtype)
    if column.type == "datetime" and values.dtype.kind == "M":
        return values.astype("datetime64[ns]")
    checked = []
    for row, value in enumerate(values.tolist()):
        if not column.required and missing[row]:
            checked.append(None)
            continue
        if isinstance(value, float) and column.type in ("integer", "long") and value.is_integer():
            # A whole number that shared its column with missing ones.
            value = int(value)
        try:
            checked.append(_checked(column, value))
        except ValueError as error:
            raise ValueError(f"column {column.name!r}, row {labels[row]}: {error}") from None
    return _series(column, checked)


# ---- explaining ---------------------------------------------------------------------------------

_MISSING: Any = object()


class _Faults:
    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.count = 0

    def add(self, row: int | None, name: str | None, detail: str) -> None:
        self.count += 1
        if self.count <= ERRORS_SHOWN:
            self.shown.append(
                {"row": row, "field": None if name is None else _clean(name), "detail": detail}
            )

    def raise_any(self) -> None:
        if self.count:
            raise invalid_rows(self.shown, self.count)


def invalid_rows(errors: list[dict[str, Any]], count: int) -> Problem:
    """Return the problem of rows that do not fit the model, the first errors named."""
    first = errors[0]
    place = "" if first["row"] is None else f"row {first['row']}"
    if first["field"] is not None:
        place += f"{', ' if place else ''}field {first['field']!r}"
    more = f" (and {count - 1} more)" if count > 1 else ""
    return Problem(
        HTTPStatus.UNPROCESSABLE_CONTENT,
        "invalid-rows",
        f"the rows do not fit the model: {place}: {first['detail']}{more}",
        errors=errors,
        count=count,
    )


def too_many_rows(rows: int, most: int) -> Problem:
    """Return the problem of a request with more rows than are taken at a time."""
    return Problem(
        HTTPStatus.CONTENT_TOO_LARGE,
        "too-many-rows",
        f"the body has {rows} rows; at most {most} are taken at a time: split them",
    )


def _malformed(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_CONTENT, "invalid-body", detail)


def _not_json(reason: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "invalid-json", f"the body is not JSON: {reason}")


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_int=_parse_integer)
    except UnicodeDecodeError as error:
        raise _not_json(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except ValueError as error:
        raise _not_json(str(error)) from None


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _unwrap(document: dict[str, Any]) -> tuple[str, Any, Any]:
    given = [name for name in FORMATS if name in document]
    if len(given) != 1:
        raise _malformed(
            f"the body must have exactly one of {', '.join(FORMATS)}; it has "
            + (", ".join(given) or ", ".join(map(_clean, list(document)[:10])) or "none")
        )
    if unknown := document.keys() - {*FORMATS, "params"}:
        raise _malformed(f"the body has {_clean(min(unknown))!r}, which means nothing here")
    return given[0], document[given[0]], document.get("params")


def _from_split(content: Any) -> tuple[list[Any], list[Any] | None]:
    if not isinstance(content, dict) or not {"data"} <= content.keys() <= {
        "columns",
        "data",
        "index",
    }:
        raise _malformed("dataframe_split must be an object with columns and data")
    names, data = content.get("columns"), content["data"]
    if names is not None and not isinstance(names, list):
        raise _malformed("dataframe_split.columns must be a list of names")
    if not isinstance(data, list):
        raise _malformed("dataframe_split.data must be a list of rows")
    for number, row in enumerate(data):
        if not isinstance(row, list) or (names is not None and len(row) != len(names)):
            width = "" if names is None else f" of {len(names)} values, one for each column"
            raise _malformed(f"dataframe_split.data, row {number}: must be a list{width}")
    return data, names


def _named(rows: list[list[Any]], names: list[str]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name[:100], list(names)[:1000], 1)
    return f": is {near[0]!r} meant?" if near else ""


def _checked(column: Column, value: Any) -> Any:
    if value is _MISSING or value is None or (isinstance(value, float) and math.isnan(value)):
        if not column.required:
            return None
        if value is _MISSING:
            raise ValueError("is missing")
        raise ValueError(f"must not be {_short(value)}: the model takes no missing values here")
    checked = _value(column.spec | {"type": column.type}, value)
    if column.categories is not None and checked not in column.categories:
        known = ", ".join(map(_short, column.categories[:10]))
        more = ", ..." if len(column.categories) > 10 else ""
        raise ValueError(f"must be one that the model has seen: {known}{more}; not {_short(value)}")
    return checked


def _value(spec: dict[str, Any], value: Any) -> Any:
    """Return the value as the model takes it; ValueError says why it does not."""
    match spec["type"]:
        case "any":
            return value
        case "array":
            if not isinstance(value, list):
                raise ValueError(f"must be a list, not {_short(value)}")
            return [_inner(f"[{i}]", spec["items"], v) for i, v in enumerate(value)]
        case "map":
            if not isinstance(value, dict):
                raise ValueError(f"must be an object, not {_short(value)}")
            return {k: _inner(f".{_clean(k)}", spec["values"], v) for k, v in value.items()}
        case "object":
            return _object(spec["properties"], value)
        case "boolean":
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, not {_short(value)}")
        case "integer":
            return _whole(value, *_INT32)
        case "long":
            return _whole(value, *_INT64)
        case "float":
            return _number(value, _FLOAT32_MAX, "a number of 32 bits")
        case "double":
            return _number(value, math.inf, "a double")
        case "string":
            return _text(value)
        case "binary":
            try:
                return base64.b64decode(_text(value), validate=True)
            except ValueError:
                raise ValueError(f"must be text in base64, not {_short(value)}") from None
        case "datetime":
            return _datetime(_text(value))
    return value


def _inner(place: str, spec: dict[str, Any], value: Any) -> Any:
    if value is None and not spec.get("required", True):
        return None
    try:
        return _value(spec, value)
    except ValueError as error:
        text = str(error)
        joint = "" if text.startswith(("[", ".")) else ": "
        raise ValueError(f"{place}{joint}{text}") from None


def _object(properties: dict[str, Any], value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {_short(value)}")
    if unknown := value.keys() - properties.keys():
        raise ValueError(f"must not have {_clean(min(unknown))!r}")
    checked = {}
    for name, spec in properties.items():
        if name in value:
            checked[name] = _inner(f".{name}", spec, value[name])
        elif spec.get("required", True):
            raise ValueError(f"must have {name!r}")
    return checked


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {_short(value)}")
    if not least <= value <= most:
        raise ValueError(f"must be between {least} and {most}, not {_short(value)}")
    return value


def _number(value: Any, most: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {_short(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        raise ValueError("must be a number, not NaN")
    if math.isinf(number) or abs(number) > most:
        raise ValueError(f"is beyond the range of {what}: {_short(value)}")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_short(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"is not Unicode text: {_short(value)}") from None
    return value


def _datetime(value: str) -> datetime:
    """Return the time, in UTC and without a zone, as MLflow has it."""
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(
            f"must be a time such as 2026-11-24T06:00:00, not {_short(value)}"
        ) from None
    if not _DATETIMES[0] <= time < _DATETIMES[1]:
        raise ValueError(f"must be between the years 1678 and 2261, not {_short(value)}")
    return time


def _check_tensor(tensor: Tensor, row: int, value: Any, faults: _Faults) -> None:
    """Note what is wrong in one row of a tensor; its other dimensions by place."""

    def walk(value: Any, shape: tuple[int, ...], place: str) -> None:
        at = f"{place}: " if place else ""
        if not shape:
            try:
                _check_element(tensor.dtype, value)
            except ValueError as error:
                faults.add(row, tensor.name, f"{at}{error}")
            return
        if not isinstance(value, list):
            faults.add(row, tensor.name, f"{at}must be a list, not {_short(value)}")
            return
        if shape[0] not in (-1, len(value)):
            faults.add(row, tensor.name, f"{at}must have {shape[0]} values, not {len(value)}")
            return
        for i, item in enumerate(value):
            walk(item, shape[1:], f"{place}[{i}]")

    walk(value, tensor.shape[1:], "")


def _check_element(dtype: np.dtype, value: Any) -> None:
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


def _parameter(spec: dict[str, Any], value: Any) -> Any:
    kind = _param_type(spec)
    if value is None or kind not in _SCALARS:
        return value
    if spec.get("shape") is None:
        return _value({"type": kind}, value)
    return _value({"type": "array", "items": {"type": kind}}, value)


def _param_type(spec: dict[str, Any]) -> str:
    return spec.get("type") or spec.get("dtype") or "any"


def _column_schema(column: Column) -> dict[str, Any]:
    schema = _type_schema(column.spec | {"type": column.type})
    if column.categories is not None:
        return {"enum": [*column.categories, *([] if column.required else [None])]}
    return schema if column.required else {"anyOf": [schema, {"type": "null"}]}


def _type_schema(spec: dict[str, Any]) -> dict[str, Any]:
    match spec["type"]:
        case "array":
            return {"type": "array", "items": _type_schema(spec["items"])}
        case "map":
            return {"type": "object", "additionalProperties": _type_schema(spec["values"])}
        case "object":
            properties = spec["properties"]
            return {
                "type": "object",
                "required": [n for n, p in properties.items() if p.get("required", True)],
                "properties": {n: _type_schema(p) for n, p in properties.items()},
                "additionalProperties": False,
            }
        case "any":
            return {}
    return dict(_SCALARS[spec["type"]][2])


def _tensor_schema(tensor: Tensor) -> dict[str, Any]:
    kinds = {"b": "boolean", "f": "number", "i": "integer", "u": "integer", "U": "string"}
    schema: dict[str, Any] = (
        {"type": kinds[tensor.dtype.kind]} if tensor.dtype.kind in kinds else {}
    )
    if tensor.dtype.kind in "iu":
        bounds = np.iinfo(tensor.dtype)
        schema |= {"minimum": int(bounds.min), "maximum": int(bounds.max)}
    for length in reversed(tensor.shape):
        bound = {"minItems": 1} if length == -1 else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema} | bound
    return schema


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _clean(name: str) -> str:
    """Return a name that can be written as UTF-8, and is not endless."""
    return name[:200].encode("utf-8", "backslashreplace").decode()


def _short(value: Any) -> str:
    match value:
        case None | True | False:
            return json.dumps(value)
        case str():
            text = ascii(value[:60]) if not value[:60].isprintable() else repr(value[:60])
            return text if len(value) <= 60 else f"{text[:57]}..."
        case list():
            return "a list"
        case dict():
            return "an object"
        case float() if math.isnan(value):
            return "NaN"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
