"""Limits the memory of the table of a body in MLflow's contract."""

import csv
import io
import json
import math
from collections.abc import Iterable
from typing import Any

from model_api.model.checking import parse
from model_api.model.decoding import FORMATS, Decoder
from model_api.model.errors import InvalidInput, TableTooLarge, TooManyRows
from model_api.model.untyped import Value

# A table may have more cells than its body has bytes: rows may lack most columns, and numpy
# reserves room for the longest text in every row. More cells than this could exhaust the memory.
_CELLS = 1_000_000
_CHARACTERS = 16_000_000
# Pandas spends some 40 microseconds on each column that the model does not have, and for each
# repeated name in CSV looks at all names before it.
_UNKNOWN_COLUMNS = 10_000
_REPEATED_NAMES = 100
# MLflow copies nested lists by recursion, which fails at a depth of some hundred.
_DEPTH = 64


def bounded(body: bytes, kind: str, max_rows: int, decoder: Decoder) -> Value:
    """Return the body for MLflow, parsed if it is JSON; TableTooLarge if its table is too large."""
    if kind == "text/csv":
        try:
            reader = csv.reader(io.StringIO(body.decode(), newline=""))
            lines = [line for line in reader if line]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InvalidInput(f"no CSV: {error}") from None
        # The first line contains the names.
        if len(lines) - 1 > max_rows:
            raise TooManyRows(len(lines) - 1, max_rows)
        width = max(map(len, lines), default=0)
        _check_cells(len(lines) * width)
        _check_width(width, decoder)
        _check_header(lines)
        return body
    if kind != "application/json":
        return body
    try:
        document = json.loads(body)
    except RecursionError:
        return parse(body)
    except ValueError:
        return body
    if isinstance(document, dict):
        for name in FORMATS:
            if name in document:
                _check_table(document[name], name, max_rows, decoder)
        return document
    return body


def _check_table(content: Any, name: str, max_rows: int, decoder: Decoder) -> None:
    rows = width = 0
    if name == "dataframe_split" and isinstance(content, dict):
        # Pandas fills a frame with these labels, whatever the data.
        rows, width = _length(content.get("index")), _length(content.get("columns"))
        content = content.get("data")
    if isinstance(content, list):
        if name.startswith("dataframe") and len(content) > max_rows:
            raise TooManyRows(len(content), max_rows)
        rows = max(rows, len(content))
        columns = _columns_of(content)
    elif isinstance(content, dict):
        columns = content
        labels = {label for value in content.values() if isinstance(value, dict) for label in value}
        rows = max(rows, len(labels), *map(_length, content.values()), 0)
    else:
        columns = {}
    width = max(width, len(columns))
    _check_cells(rows * width)
    if not decoder.tensors or name.startswith("dataframe"):
        _check_width(width, decoder)
    if not name.startswith("dataframe"):
        # Numpy reserves the size of the longest text for every text of a column.
        extents = [_extent(values) for values in columns.values()]
        if sum(values * longest for values, longest in extents) > _CHARACTERS:
            raise TableTooLarge("texts of very different lengths are in one column")


def _columns_of(rows: list[Any]) -> dict[Any, list[Any]]:
    columns: dict[Any, list[Any]] = {}
    for row in rows:
        items: Iterable[tuple[Any, Any]]
        if isinstance(row, dict):
            items = row.items()
        else:
            items = enumerate(row) if isinstance(row, list) else [(0, row)]
        for name, value in items:
            columns.setdefault(name, []).append(value)
    return columns


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _extent(value: Any, depth: int = 0) -> tuple[int, int]:
    """Return the number of values in nested lists, and the length of the longest text."""
    if depth > _DEPTH:
        raise InvalidInput(f"lists are nested more than {_DEPTH} deep")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        extents = [_extent(item, depth + 1) for item in value]
        return sum(n for n, _ in extents), max((longest for _, longest in extents), default=0)
    return 1, len(value) if isinstance(value, str) else 0


def _check_cells(cells: int) -> None:
    if cells > _CELLS:
        raise TableTooLarge(f"rows and columns make {cells} cells; {_CELLS} are taken at a time")


def _check_width(width: int, decoder: Decoder) -> None:
    known = len(decoder.columns) + sum(abs(math.prod(t.shape[1:])) for t in decoder.tensors)
    if width > known + _UNKNOWN_COLUMNS:
        raise TableTooLarge(
            f"there are {width} columns; the model has {known}, and"
            f" {_UNKNOWN_COLUMNS} others are taken at a time"
        )


def _check_header(lines: list[list[str]]) -> None:
    for line in lines:
        if len(line) - len(set(line)) > _REPEATED_NAMES:
            raise TableTooLarge(f"more than {_REPEATED_NAMES} columns have the name of another one")
        # Pandas ignores blank lines before the line with the names.
        if any(map(str.strip, line)):
            return
