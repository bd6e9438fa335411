"""Requests for a model: its MLflow signature, compiled once into a decoder of request bodies.

A body that is right is decoded by msgspec straight into the signature's types. Any other goes
through a second, slower reading whose only purpose is to say what is wrong, and where; it also
takes what msgspec does not know, such as the ``NaN`` of pandas' JSON.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from model_api.batch import Batch, as_tensor, series_from, series_of
from model_api.checking import (
    ERRORS_SHOWN,
    MISSING,
    Faults,
    Names,
    check_tensor,
    checked_parameter,
    checked_value,
    clean,
    invalid_rows,
    malformed,
    parse,
    parse_datetime,
    short,
    too_many_rows,
)
from model_api.layout import Layout
from model_api.problems import Problem
from model_api.signature import (
    NESTED,
    SCALARS,
    Column,
    SignatureError,
    Tensor,
    column_of,
    column_schema,
    column_type,
    fits_struct,
    param_type,
    struct_of,
    tensor_of,
    tensor_schema,
    tensor_type,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "Batch", "Column", "Decoder", "SignatureError", "invalid_rows"]

FORMATS = ("inputs", "instances", "dataframe_records", "dataframe_split")


_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)` - at", re.DOTALL)
# All wrong names of a longer row are not worth reading it for.
_LONG_ROW = 64 * 1024

_FIRST_OF_LIST = re.compile(rb"\s*\[\s*(.)", re.DOTALL)


class Decoder:
    """Checks requests against a signature, and makes them what the model takes.

    Args:
        inputs: ``signature.inputs`` as MLflow writes it, parsed.
        params: ``signature.params``, likewise.
        categories: by column, the only values that the model takes.
        gaps: names of required columns in which the model answers null all the same.

    Attributes:
        layout: what the rows hold.
        columns: those of the layout; empty for tensors.
        tensors: those of the layout; empty for columns.

    Raises:
        SignatureError: the signature holds no inputs, or one of an unknown type.
    """

    def __init__(
        self,
        inputs: list[dict[str, Any]],
        params: list[dict[str, Any]] | None = None,
        categories: dict[str, list[Any]] | None = None,
        gaps: Collection[str] = (),
    ) -> None:
        if not inputs:
            raise SignatureError("the signature has no inputs")
        known = categories or {}
        self.params = params or []
        self.named = inputs[0].get("name") is not None
        if inputs[0]["type"] == "tensor":
            self.layout = Layout((), tuple(map(tensor_of, inputs)), self.named)
        else:
            columns = [column_of(i, entry, known, gaps) for i, entry in enumerate(inputs)]
            self.layout = Layout(tuple(columns), (), self.named)
        self.columns, self.tensors = self.layout.columns, self.layout.tensors
        # The names that MLflow leaves out of a frame's columns: those that pandas gives it.
        self._unsent = list(range(len(self.columns)))
        self._texts: list[int] = []
        self._nullable = any(column.nullable for column in self.columns)
        self._nested = any(column.type in NESTED for column in self.columns)
        self._names = Names(column.name for column in self.columns)
        if len(self._names) != len(self.columns):
            raise SignatureError("two columns have the same name as text: rename one")
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._split = msgspec.json.Decoder(_Split)
        self._compile()

    # ---- what it is -----------------------------------------------------------------------------

    def _compile(self) -> None:
        if self.tensors:
            types = [tensor_type(tensor) for tensor in self.tensors]
            self._records = None
            self._lists = msgspec.json.Decoder(types[0]) if len(types) == 1 else None
            names = [tensor.name for tensor in self.tensors]
            fits = self.named and all(map(fits_struct, names))
            self._by_column = msgspec.json.Decoder(struct_of(names, types)) if fits else None
            return
        if self._nested:
            self._records = self._lists = self._by_column = None
            return
        values = [column_type(column) for column in self.columns]
        self._row_type = tuple[tuple(values)]
        self._lists = msgspec.json.Decoder(list[self._row_type])
        self._records = self._by_column = None
        names = [column.name for column in self.columns]
        if all(map(fits_struct, names)):
            required = [column.required for column in self.columns]
            row, by_column = struct_of(names, values, required), [list[value] for value in values]
            self._records = msgspec.json.Decoder(list[row])
            self._by_column = msgspec.json.Decoder(struct_of(names, by_column))
        self._texts = [i for i, c in enumerate(self.columns) if c.type == "datetime"]
        # Clients write columns in one order or another, not in a thousand.
        self._lists_of = lru_cache(maxsize=16)(self._compile_order)

    def _compile_order(
        self, names: tuple[str, ...]
    ) -> tuple[msgspec.json.Decoder, Callable[[Any], tuple[Any, ...]]]:
        """Return a decoder of rows in this order of columns, and what puts them into ours."""
        places = {name: place for place, name in enumerate(names)}
        if len(places) != len(names):
            raise ValueError("a column is there twice")
        if any(c.required and c.name not in places for c in self.columns):
            raise ValueError("a column is missing")
        decoder = msgspec.json.Decoder(list[tuple[tuple(self._types_in_order(names))]])
        order = [places.get(column.name) for column in self.columns]
        return decoder, lambda row: tuple([None if i is None else row[i] for i in order])

    def _types_in_order(self, names: tuple[str, ...]) -> list[Any]:
        """Return what to decode the values of a row as; ValueError if there are unknown columns."""
        if not self._names >= set(names):
            raise ValueError("not the columns of the signature")
        types = {column.name: column_type(column) for column in self.columns}
        return [types[name] for name in names]

    # ---- the fast way ---------------------------------------------------------------------------

    def decode(self, body: bytes, max_rows: int) -> Batch:
        """Return the rows of a request's body.

        Raises:
            Problem: 400 ``invalid-json`` (also not UTF-8, or nested too deeply), 422
                ``invalid-body`` or ``invalid-rows`` (with ``errors``, the first 20 as
                ``{"row", "field", "detail"}``, and their ``count``), 413 ``too-many-rows``.
        """
        batch, plain = self._tried(body), body
        if batch is None and (changed := self._with_null_for_nan(body)) is not None:
            plain = changed
            batch = self._tried(plain) if self._nullable else None
        if batch is None:
            batch = (
                self._explain_columns(plain, max_rows)
                or self._explain_apart(plain, max_rows)
                or self._explain(body, max_rows)
            )
        if batch.rows > max_rows:
            raise too_many_rows(batch.rows, max_rows)
        if batch.rows == 0:
            raise malformed("the body has no rows: send at least one")
        return batch

    def _tried(self, body: bytes) -> Batch | None:
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
            return None

    def _with_null_for_nan(self, body: bytes) -> bytes | None:
        """Return the body with null for each NaN, which means the same in columns.

        Returns None where there is none, or where it could be text.
        """
        if self.tensors or self.params or b"\\" in body:
            return None
        # Arrays find bytes several times as fast as the methods of bytes.
        read = np.frombuffer(body, np.uint8)
        begins = np.flatnonzero(read[:-2] == ord("N"))
        begins = begins[(read[begins + 1] == ord("a")) & (read[begins + 2] == ord("N"))]
        if not begins.size or begins[0] == 0:
            return None
        # Without escapes each quote begins or ends a text.
        quotes = (read[: begins[-1]] == ord('"')).view(np.uint8)
        odd = np.bitwise_xor.reduceat(quotes, [0, *begins[:-1]])
        if np.bitwise_xor.accumulate(odd).any():
            return None
        return b"null".join(body.split(b"NaN"))

    def _decode(self, body: bytes) -> Batch:
        if not self.params and body[:1] == b"[":
            return self._list(body)
        if body.lstrip()[:1] == b"[":
            return self._list(body, self._parameters(None))
        name, content, given = self._opened(body)
        params = self._parameters(given)
        if name == "dataframe_split":
            return self._decode_split(content, params)
        if content[:1] == b"{" and name == "inputs" and self._by_column is not None:
            return self._decode_columns(content, params)
        return self._list(content, params)

    def _opened(self, body: bytes) -> tuple[str, bytes, dict[str, Any] | None]:
        """Return the one format of a body that is an object, its content, and the parameters."""
        envelope = self._envelope.decode(body)
        [name] = [name for name in FORMATS if getattr(envelope, name) is not msgspec.UNSET]
        return name, bytes(getattr(envelope, name)), envelope.params

    def _list(self, content: bytes, params: dict[str, Any] | None = None) -> Batch:
        if self.tensors:
            if self._lists is None:
                raise ValueError("several tensors have names")
            tensor = self.tensors[0]
            array = as_tensor(tensor, self._lists.decode(content))
            return Batch(self.layout, len(array), tensors={tensor.name: array}, params=params)
        first = _FIRST_OF_LIST.match(content)
        decoder = self._lists if first is not None and first[1] == b"[" else self._records
        if decoder is None:
            raise ValueError("nested columns and odd names are read the slow way")
        values = decoder.decode(content)
        return Batch(self.layout, len(values), self._times(values), params=params)

    def _decode_split(self, content: bytes, params: dict[str, Any] | None) -> Batch:
        split = self._split.decode(content)
        names = split.columns
        if self.tensors or not self.named or (names or self._unsent) == self.layout.labels:
            return self._list(bytes(split.data), params)
        if names is None or self._nested:
            raise ValueError("columns are missing, or are read the slow way")
        decoder, reorder = self._lists_of(tuple(self._as_text(names)))
        values = list(map(reorder, decoder.decode(split.data)))
        return Batch(self.layout, len(values), self._times(values), params=params)

    def _as_text(self, names: list[Any]) -> list[Any]:
        """Return the names with those that the model has as numbers, as pandas does, as text."""
        return [str(name) if name in self.layout.labels else name for name in names]

    def _decode_columns(self, content: bytes, params: dict[str, Any] | None) -> Batch:
        found = astuple(self._by_column.decode(content))
        if self.tensors:
            arrays = {
                tensor.name: as_tensor(tensor, value)
                for tensor, value in zip(self.tensors, found, strict=True)
            }
            [rows] = {len(array) for array in arrays.values()}
            return Batch(self.layout, rows, tensors=arrays, params=params)
        values = list(zip(*found, strict=True))
        return Batch(self.layout, len(values), self._times(values), params=params)

    def _times(self, values: Sequence[Any]) -> Sequence[Any]:
        if not self._texts:
            return values
        rows = [list(astuple(v) if isinstance(v, msgspec.Struct) else v) for v in values]
        for place in self._texts:
            for row in rows:
                row[place] = None if row[place] is None else parse_datetime(row[place])
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
        for label, column in zip(self.layout.labels, self.columns, strict=True):
            if label not in frame:
                if column.required:
                    raise ValueError(f"the frame lacks the column {column.name!r}")
                series[label] = series_of(column, [None] * len(frame))
                continue
            series[label] = series_from(column, frame[label])
        return Batch(self.layout, len(frame), frame=pd.DataFrame(series))

    # ---- the slow way ---------------------------------------------------------------------------

    def _explain(self, body: bytes, max_rows: int) -> Batch:
        document = parse(body)
        if isinstance(document, list):
            name, content, params = "the body", document, None
        elif isinstance(document, dict):
            name, content, params = _unwrap(document)
        else:
            raise malformed(
                f"the body must be a list of rows, or an object with one of {', '.join(FORMATS)}"
            )
        checked = self._parameters(params)
        faults = Faults()
        if name == "dataframe_split":
            content, names = _from_split(content)
        else:
            names = None
        if self.tensors:
            batch = self._explain_tensors(name, content, faults, max_rows)
        else:
            batch = self._explain_rows(name, content, names, faults, max_rows)
        faults.raise_any()
        batch.params = checked
        return batch

    def _explain_columns(self, body: bytes, max_rows: int) -> Batch | None:
        """Explain columns one by one: those that are right are decoded as fast as ever.

        Returns None where the body is something else, or a column is not there or not a list.
        """
        if self._by_column is None or self.tensors:
            return None
        try:
            name, content, params = self._opened(body)
            if name != "inputs":
                return None
            given = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            if given.keys() != self._names:
                return None
            wrong, columns = {}, []
            for place, column in enumerate(self.columns):
                values, right = self._column(column, given[column.name])
                columns.append(values)
                if not right:
                    wrong[place] = column
            [rows] = set(map(len, columns))
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, Problem):
            return None
        params = self._parameters(params)
        if not rows:
            return None
        if rows > max_rows:
            raise too_many_rows(rows, max_rows)
        _explain_values(wrong, columns).raise_any()
        values = list(zip(*columns, strict=True))
        return Batch(self.layout, rows, values, params=params)

    def _column(self, column: Column, content: msgspec.Raw) -> tuple[list[Any], bool]:
        """Return a column's values, as they came if one of them is wrong, and whether none is."""
        try:
            values = msgspec.json.decode(content, type=list[column_type(column)])
            if column.type == "datetime":
                values = [None if value is None else parse_datetime(value) for value in values]
            return values, True
        except (msgspec.MsgspecError, ValueError):
            values = parse(bytes(content))
            if not isinstance(values, list):
                raise
            return values, False

    def _explain_apart(self, body: bytes, max_rows: int) -> Batch | None:
        """Explain a list of rows one by one: those that are right are decoded as fast as ever.

        Returns None where the body is something else, or no JSON to msgspec.
        """
        if self.tensors or self._lists is None:
            return None
        try:
            params, names = None, None
            if body.lstrip()[:1] != b"[":
                name, body, params = self._opened(body)
                if name == "dataframe_split":
                    if not self.named:
                        return None
                    split = self._split.decode(body)
                    body, names = bytes(split.data), tuple(self._as_text(split.columns))
                    self._lists_of(names)
            rows = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            return None
        checked = self._parameters(params)
        if len(rows) > max_rows:
            raise too_many_rows(len(rows), max_rows)
        if not rows:
            return None
        faults = Faults()
        values: list[Any] = []
        try:
            for number, row in enumerate(rows):
                values.append(self._explain_one(number, bytes(row), names, faults))
        except Problem:
            # It is not JSON to Python either, or no row: said by the place in the whole body.
            return None
        faults.raise_any()
        return Batch(self.layout, len(values), values, params=checked)

    def _explain_one(
        self, number: int, row: bytes, names: tuple[str, ...] | None, faults: Faults
    ) -> tuple[Any, ...]:
        if names is None:
            decoder, reorder = {b"[": self._lists, b"{": self._records}.get(row[:1]), None
        else:
            decoder, reorder = self._lists_of(names)
        if decoder is not None:
            try:
                found = decoder.decode(b"[%b]" % row)
                [values] = self._times(found if reorder is None else [reorder(found[0])])
                return astuple(values) if isinstance(values, msgspec.Struct) else tuple(values)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                if faults.full:
                    faults.count += 1
                    return ()
                if len(row) > _LONG_ROW and (unknown := _UNKNOWN_FIELD.match(str(error))):
                    # There may be very many: the first is enough.
                    faults.add_unknown(number, {unknown[1]}, self._names)
                    return ()
        elif faults.full and len(self.columns) > 1 and row[:1] not in (b"[", b"{"):
            faults.count += 1
            return ()
        given = parse(row)
        if names is not None:
            if not isinstance(given, list) or len(given) != len(names):
                raise malformed("a row has not a value for each column")
            given = dict(zip(names, given, strict=True))
        return self._explain_row(number, given, faults)

    def _explain_rows(
        self, name: str, content: Any, names: list[Any] | None, faults: Faults, max_rows: int
    ) -> Batch:
        if name == "inputs" and isinstance(content, dict):
            content = self._from_columns(content, faults)
            faults.raise_any()
        elif not isinstance(content, list | dict) and len(self.columns) == 1:
            content = [[content]]
        if not isinstance(content, list):
            raise malformed(f"{name} must be a list with one row each")
        if not content:
            raise malformed(f"{name} has no rows: send at least one")
        if len(content) > max_rows:
            raise too_many_rows(len(content), max_rows)
        if names is not None and self.named:
            names = self._as_text(names)
            if any(not isinstance(column, str) for column in names):
                raise malformed("dataframe_split.columns must be a list of names")
            if twice := [n for n, count in Counter(names).items() if count > 1]:
                raise malformed(f"dataframe_split.columns has {twice[0]!r} twice")
            content = _named(content, names)
        elif name == "dataframe_split" and self.named and self._unsent != self.layout.labels:
            raise malformed("dataframe_split must have columns: the names of the values in data")
        values = [self._explain_row(row, given, faults) for row, given in enumerate(content)]
        return Batch(self.layout, len(values), values)

    def _explain_row(self, row: int, given: Any, faults: Faults) -> tuple[Any, ...]:
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
                    f" not {short(given)}",
                )
                return ()
            given = {self.columns[0].name: given}
        if (plain := self._plainly_right(given)) is not None:
            return plain
        if faults.full:
            faults.count += 1
            return ()
        values = []
        for column in self.columns:
            value = given.get(column.name, MISSING)
            if value is MISSING and faults.full:
                faults.count += column.required
                continue
            try:
                values.append(checked_value(column, value))
            except ValueError as error:
                faults.add(row, column.name, str(error))
        faults.add_unknown(row, given, self._names)
        return tuple(values)

    def _plainly_right(self, given: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the values of a row of numbers if nothing is wrong with it, at little cost."""
        if self.layout.dtype is None or given.keys() != self._names:
            return None
        try:
            values = msgspec.convert([given[c.name] for c in self.columns], self._row_type)
            return values if all(map(math.isfinite, values)) else None
        except (msgspec.ValidationError, TypeError, OverflowError):
            return None

    def _from_columns(self, content: dict[str, Any], faults: Faults) -> list[Any]:
        if self._nested or not any(isinstance(value, list) for value in content.values()):
            return [content]
        for column in self.columns:
            if column.required and column.name not in content:
                faults.add(None, column.name, "is missing")
        faults.add_unknown(None, content, self._names)
        lengths = {}
        for name, values in content.items():
            if isinstance(values, list):
                lengths[name] = len(values)
            else:
                faults.add(None, name, f"must be a list, as other columns are, not {short(values)}")
        if len(set(lengths.values())) > 1:
            raise malformed(
                "the columns of inputs have different lengths: "
                + ", ".join(f"{clean(n)} has {length}" for n, length in list(lengths.items())[:10])
            )
        faults.raise_any()
        return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]

    def _explain_tensors(self, name: str, content: Any, faults: Faults, max_rows: int) -> Batch:
        given: dict[Any, Any]
        known = Names(tensor.name for tensor in self.tensors if tensor.name is not None)
        if name == "dataframe_records":
            raise malformed("the model takes tensors: send them as inputs or instances")
        if isinstance(content, list) and content and isinstance(content[0], dict) and self.named:
            given = {n: [] for n in known}
            for row, record in enumerate(content):
                if not isinstance(record, dict):
                    faults.add(row, None, f"must be an object, not {short(record)}")
                    continue
                faults.add_unknown(row, record, known)
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
            faults.add_unknown(None, content, known)
            faults.raise_any()
        elif len(self.tensors) == 1:
            given = {self.tensors[0].name: content}
        else:
            raise malformed(
                f"{name} must be an object with the tensors {', '.join(map(str, sorted(known)))}"
            )
        arrays = {}
        for tensor in self.tensors:
            if given[tensor.name] == []:
                raise malformed(f"{tensor.name or name} has no rows: send at least one")
            if not isinstance(given[tensor.name], list):
                faults.add(None, tensor.name, f"must be a list, not {short(given[tensor.name])}")
                continue
            if len(given[tensor.name]) > max_rows:
                raise too_many_rows(len(given[tensor.name]), max_rows)
            for row, value in enumerate(given[tensor.name]):
                if not _plainly_right(tensor, value):
                    check_tensor(tensor, row, value, faults)
            lead = tensor.shape[0]
            if lead not in (-1, len(given[tensor.name])):
                faults.add(
                    None, tensor.name, f"must have {lead} rows, not {len(given[tensor.name])}"
                )
            if not faults.count:
                try:
                    arrays[tensor.name] = as_tensor(tensor, given[tensor.name])
                except (ValueError, OverflowError) as error:
                    faults.add(None, tensor.name, str(error))
        faults.raise_any()
        if len({len(array) for array in arrays.values()}) > 1:
            raise malformed("the tensors have different numbers of rows")
        return Batch(self.layout, len(next(iter(arrays.values()))), tensors=arrays)

    def _parameters(self, given: Any) -> dict[str, Any] | None:
        if not self.params and not given:
            return None
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise malformed(f"params must be an object, not {short(given)}")
        specs = {spec["name"]: spec for spec in self.params}
        if unknown := given.keys() - specs.keys():
            known = f"it takes {', '.join(specs)}" if specs else "it takes none"
            raise malformed(f"params: {clean(min(unknown))} is not one of this model; {known}")
        checked = {}
        for name, spec in specs.items():
            if name not in given:
                checked[name] = spec.get("default")
                continue
            try:
                checked[name] = checked_parameter(spec, given[name])
            except ValueError as error:
                raise malformed(f"params: {name} {error}") from None
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
            shapes = {tensor.name: tensor_schema(tensor) for tensor in self.tensors}
            if self.named:
                inputs = {
                    "type": "object",
                    "required": list(shapes),
                    "properties": shapes,
                    "additionalProperties": False,
                }
                return wrapped("inputs", inputs)
            return {"anyOf": [wrapped("inputs", shapes[None]), wrapped("instances", shapes[None])]}
        values = {column.name: column_schema(column) for column in self.columns}
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
            kind = param_type(spec)
            schema = dict(SCALARS[kind][2]) if kind in SCALARS else {}
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


def _explain_values(wrong: dict[int, Column], columns: list[list[Any]]) -> Faults:
    """Return what is wrong in some columns, row by row; put what is right into their places.

    The first faults are named; of the rows after them, those with one are counted.
    """
    notes: list[tuple[int, int, str]] = []
    rows_at_fault: set[int] = set()
    for place, column in wrong.items():
        last = sorted(notes)[ERRORS_SHOWN - 1][0] if len(notes) >= ERRORS_SHOWN else math.inf
        values, found = columns[place], 0
        for row, value in enumerate(values):
            named = row <= last and found < ERRORS_SHOWN
            if not named and row in rows_at_fault:
                continue
            try:
                values[row] = checked_value(column, value)
            except ValueError as error:
                rows_at_fault.add(row)
                found += 1
                if named:
                    notes.append((row, place, str(error)))
    faults = Faults()
    for row, place, detail in sorted(notes)[:ERRORS_SHOWN]:
        faults.add(row, wrong[place].name, detail)
        rows_at_fault.discard(row)
    if faults.full:
        last_shown = faults.shown[-1]["row"]
        faults.count += sum(row > last_shown for row in rows_at_fault)
    return faults


def _plainly_right(tensor: Tensor, value: Any) -> bool:
    """Tell whether nothing is wrong with one row of a tensor, at little cost."""
    row = Tensor(tensor.name, tensor.dtype, tensor.shape[1:])
    try:
        msgspec.convert(value, tensor_type(row))
        array = as_tensor(row, value)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError):
        return False
    return array.dtype.kind in "biu" or (array.dtype.kind == "f" and np.isfinite(array).all())


def _unwrap(document: dict[str, Any]) -> tuple[str, Any, Any]:
    given = [name for name in FORMATS if name in document]
    if len(given) != 1:
        raise malformed(
            f"the body must have exactly one of {', '.join(FORMATS)}; it has "
            + (", ".join(given) or ", ".join(map(clean, list(document)[:10])) or "none")
        )
    if unknown := document.keys() - {*FORMATS, "params"}:
        raise malformed(f"the body has {clean(min(unknown))!r}, which means nothing here")
    return given[0], document[given[0]], document.get("params")


def _from_split(content: Any) -> tuple[list[Any], list[Any] | None]:
    if not isinstance(content, dict) or not {"data"} <= content.keys() <= {
        "columns",
        "data",
        "index",
    }:
        raise malformed("dataframe_split must be an object with columns and data")
    names, data = content.get("columns"), content["data"]
    if names is not None and not isinstance(names, list):
        raise malformed("dataframe_split.columns must be a list of names")
    if not isinstance(data, list):
        raise malformed("dataframe_split.data must be a list of rows")
    for number, row in enumerate(data):
        if not isinstance(row, list) or (names is not None and len(row) != len(names)):
            width = "" if names is None else f" of {len(names)} values, one for each column"
            raise malformed(f"dataframe_split.data, row {number}: must be a list{width}")
    return data, names


def _named(rows: list[list[Any]], names: list[str]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]
