"""The slow reading of a body: says what is wrong with it, and where."""

import math
import re
from collections import Counter
from typing import Any

import msgspec
from msgspec.structs import astuple

from model_api.model.batch import Batch
from model_api.model.checking import MISSING, checked_value, parse, parse_datetime
from model_api.model.decoding.reading import FORMATS, Reader
from model_api.model.decoding.tensors import explain_tensors
from model_api.model.errors import InvalidBody, RequestError, TooManyRows
from model_api.model.faults import ERRORS_SHOWN, Faults
from model_api.model.signature import Column, column_type, list_of
from model_api.model.untyped import JsonObject, Value
from model_api.model.words import clean, short

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)` - at", re.DOTALL)
# In a longer row, finding all wrong names costs too much.
_LONG_ROW = 64 * 1024


class Explainer:
    """Reads one body that the fast reading refused.

    Args:
        reader: the model's reader.
        max_rows: the most rows of the body.
    """

    def __init__(self, reader: Reader, max_rows: int) -> None:
        self._reader = reader
        self._max_rows = max_rows

    def explain(self, plain: bytes, body: bytes) -> Batch:
        """Return the rows that the fast reading refused, or say what is wrong.

        Args:
            plain: the body with null instead of NaN, if that means the same.
            body: the original body.

        Raises:
            RequestError: see `Decoder.decode`.
        """
        return self._columns(plain) or self._apart(plain) or self.whole(body)

    def whole(self, body: bytes) -> Batch:
        """Return the rows of any body, read value by value."""
        document = parse(body)
        if isinstance(document, list):
            name, content, params = "the body", document, None
        elif isinstance(document, dict):
            name, content, params = _unwrap(document)
        else:
            raise InvalidBody(
                f"the body must be a list of rows, or an object with one of {', '.join(FORMATS)}"
            )
        checked = self._reader.parameters(params)
        faults = Faults()
        if name == "dataframe_split":
            content, names = _from_split(content)
        else:
            names = None
        if self._reader.tensors:
            batch = explain_tensors(self._reader, name, content, faults, self._max_rows)
        else:
            batch = self._rows(name, content, names, faults)
        faults.raise_any()
        batch.params = checked
        return batch

    def _columns(self, body: bytes) -> Batch | None:
        """Explain columns one by one: the valid ones are decoded at full speed.

        Returns None if the body is something else, or a column is missing or not a list.
        """
        if self._reader.by_column is None or self._reader.tensors:
            return None
        try:
            name, content, params = self._reader.opened(body)
            if name != "inputs":
                return None
            given = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            if given.keys() != self._reader.names:
                return None
            wrong, columns = {}, []
            for place, column in enumerate(self._reader.columns):
                values, right = self._column(column, given[column.name])
                columns.append(values)
                if not right:
                    wrong[place] = column
            [rows] = set(map(len, columns))
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, RequestError):
            return None
        params = self._reader.parameters(params)
        if not rows:
            return None
        if rows > self._max_rows:
            raise TooManyRows(rows, self._max_rows)
        _explain_values(wrong, columns).raise_any()
        values = list(zip(*columns, strict=True))
        return Batch(self._reader.layout, rows, values, params=params)

    def _column(self, column: Column, content: msgspec.Raw) -> tuple[list[Any], bool]:
        """Return a column's values, unconverted if one is wrong, and whether all are valid."""
        try:
            values = msgspec.json.decode(content, type=list_of(column_type(column)))
            if column.type == "datetime":
                values = [None if value is None else parse_datetime(value) for value in values]
            return values, True
        except (msgspec.MsgspecError, ValueError):
            values = parse(bytes(content))
            if not isinstance(values, list):
                raise
            return values, False

    def _apart(self, body: bytes) -> Batch | None:
        """Explain a list of rows one by one: the valid ones are decoded at full speed.

        Returns None if the body is something else, or not JSON to msgspec.
        """
        if self._reader.tensors or self._reader.lists is None:
            return None
        try:
            params, names = None, None
            if body.lstrip()[:1] != b"[":
                name, body, params = self._reader.opened(body)
                if name == "dataframe_split":
                    if not self._reader.named:
                        return None
                    split = self._reader.split.decode(body)
                    if split.columns is None:
                        return None
                    body, names = bytes(split.data), tuple(self._reader.as_text(split.columns))
                    self._reader.lists_of(names)
            rows = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            return None
        checked = self._reader.parameters(params)
        if len(rows) > self._max_rows:
            raise TooManyRows(len(rows), self._max_rows)
        if not rows:
            return None
        faults = Faults()
        values: list[Any] = []
        try:
            for number, row in enumerate(rows):
                values.append(self._one(number, bytes(row), names, faults))
        except RequestError:
            # It is not JSON to Python either, or not a row: the message needs the place in the
            # whole body.
            return None
        faults.raise_any()
        return Batch(self._reader.layout, len(values), values, params=checked)

    def _one(
        self, number: int, row: bytes, names: tuple[str, ...] | None, faults: Faults
    ) -> tuple[Any, ...]:
        if names is None:
            decoder, reorder = (
                {b"[": self._reader.lists, b"{": self._reader.records}.get(row[:1]),
                None,
            )
        else:
            decoder, reorder = self._reader.lists_of(names)
        if decoder is not None:
            try:
                found = decoder.decode(b"[%b]" % row)
                [values] = self._reader.times(found if reorder is None else [reorder(found[0])])
                return astuple(values) if isinstance(values, msgspec.Struct) else tuple(values)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                if faults.full:
                    faults.count += 1
                    return ()
                if len(row) > _LONG_ROW and (unknown := _UNKNOWN_FIELD.match(str(error))):
                    # There may be very many, so only the first is named.
                    faults.add_unknown(number, {unknown[1]}, self._reader.names)
                    return ()
        elif faults.full and len(self._reader.columns) > 1 and row[:1] not in (b"[", b"{"):
            faults.count += 1
            return ()
        given = parse(row)
        if names is not None:
            if not isinstance(given, list) or len(given) != len(names):
                raise InvalidBody("a row has not a value for each column")
            given = dict(zip(names, given, strict=True))
        return self._row(number, given, faults)

    def _rows(self, name: str, content: Value, names: list[Any] | None, faults: Faults) -> Batch:
        if name == "inputs" and isinstance(content, dict):
            content = self._from_columns(content, faults)
            faults.raise_any()
        elif not isinstance(content, list | dict) and len(self._reader.columns) == 1:
            content = [[content]]
        if not isinstance(content, list):
            raise InvalidBody(f"{name} must be a list with one row each")
        if not content:
            raise InvalidBody(f"{name} has no rows: send at least one")
        if len(content) > self._max_rows:
            raise TooManyRows(len(content), self._max_rows)
        if names is not None and self._reader.named:
            names = self._reader.as_text(names)
            if any(not isinstance(column, str) for column in names):
                raise InvalidBody("dataframe_split.columns must be a list of names")
            if twice := [n for n, count in Counter(names).items() if count > 1]:
                raise InvalidBody(f"dataframe_split.columns has {twice[0]!r} twice")
            content = _named(content, names)
        elif (
            name == "dataframe_split"
            and self._reader.named
            and self._reader.unsent != self._reader.layout.labels
        ):
            raise InvalidBody("dataframe_split must have columns: the names of the values in data")
        values = [self._row(row, given, faults) for row, given in enumerate(content)]
        return Batch(self._reader.layout, len(values), values)

    def _row(self, row: int, given: Value, faults: Faults) -> tuple[Any, ...]:
        if isinstance(given, list):
            if len(given) != len(self._reader.columns):
                faults.add(
                    row, None, f"must have {len(self._reader.columns)} values, not {len(given)}"
                )
                return ()
            given = {c.name: value for c, value in zip(self._reader.columns, given, strict=True)}
        elif not isinstance(given, dict):
            if len(self._reader.columns) != 1:
                faults.add(
                    row,
                    None,
                    "must be an object with one value for each field, or a list of the values,"
                    f" not {short(given)}",
                )
                return ()
            given = {self._reader.columns[0].name: given}
        if (plain := self._plainly_right(given)) is not None:
            return plain
        if faults.full:
            faults.count += 1
            return ()
        values = []
        for column in self._reader.columns:
            value = given.get(column.name, MISSING)
            if value is MISSING and faults.full:
                faults.count += column.required
                continue
            try:
                values.append(checked_value(column, value))
            except ValueError as error:
                faults.add(row, column.name, str(error))
        faults.add_unknown(row, given, self._reader.names)
        return tuple(values)

    def _plainly_right(self, given: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the values of a row of numbers if it is valid, at little cost."""
        if self._reader.layout.dtype is None or given.keys() != self._reader.names:
            return None
        try:
            values = msgspec.convert(
                [given[c.name] for c in self._reader.columns], self._reader.row_type
            )
            return values if all(map(math.isfinite, values)) else None
        except (msgspec.ValidationError, TypeError, OverflowError):
            return None

    def _from_columns(self, content: dict[str, Any], faults: Faults) -> list[Any]:
        if self._reader.nested or not any(isinstance(value, list) for value in content.values()):
            return [content]
        for column in self._reader.columns:
            if column.required and column.name not in content:
                faults.add(None, column.name, "is missing")
        faults.add_unknown(None, content, self._reader.names)
        lengths = {}
        for name, values in content.items():
            if isinstance(values, list):
                lengths[name] = len(values)
            else:
                faults.add(None, name, f"must be a list, as other columns are, not {short(values)}")
        if len(set(lengths.values())) > 1:
            raise InvalidBody(
                "the columns of inputs have different lengths: "
                + ", ".join(f"{clean(n)} has {length}" for n, length in list(lengths.items())[:10])
            )
        faults.raise_any()
        return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def _explain_values(wrong: dict[int, Column], columns: list[list[Any]]) -> Faults:
    """Return the faults in some columns, row by row; put the valid values into their places.

    The first faults are named; after them, each row with a fault counts as one.
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


def _unwrap(document: dict[str, Any]) -> tuple[str, Any, Any]:
    given = [name for name in FORMATS if name in document]
    if len(given) != 1:
        raise InvalidBody(
            f"the body must have exactly one of {', '.join(FORMATS)}; it has "
            + (", ".join(given) or ", ".join(map(clean, list(document)[:10])) or "none")
        )
    if unknown := document.keys() - {*FORMATS, "params"}:
        raise InvalidBody(f"the body has the unknown field {clean(min(unknown))!r}")
    return given[0], document[given[0]], document.get("params")


def _from_split(content: Value) -> tuple[list[Any], list[Any] | None]:
    if not isinstance(content, dict) or not {"data"} <= content.keys() <= {
        "columns",
        "data",
        "index",
    }:
        raise InvalidBody("dataframe_split must be an object with columns and data")
    names, data = content.get("columns"), content["data"]
    if names is not None and not isinstance(names, list):
        raise InvalidBody("dataframe_split.columns must be a list of names")
    if not isinstance(data, list):
        raise InvalidBody("dataframe_split.data must be a list of rows")
    for number, row in enumerate(data):
        if not isinstance(row, list) or (names is not None and len(row) != len(names)):
            width = "" if names is None else f" of {len(names)} values, one for each column"
            raise InvalidBody(f"dataframe_split.data, row {number}: must be a list{width}")
    return data, names


def _named(rows: list[list[Any]], names: list[str]) -> list[JsonObject]:
    return [dict(zip(names, row, strict=True)) for row in rows]
