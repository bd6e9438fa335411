"""Requests: every body format of MLflow's scoring server, right ones and such with a defect."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from hypothesis import strategies as st
from servers import Request

FORMATS = (
    "dataframe_split",
    "dataframe_records",
    "inputs",
    "inputs of columns",
    "inputs of lists",
    "instances",
    "instances of columns",
    "instances of lists",
    "csv",
)
OF_LISTS = ("inputs of lists", "instances of lists")


@dataclass(frozen=True)
class Layout:
    """The input of a model: the names of its columns, and their types as MLflow calls them."""

    model: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    named: bool
    params: bool

    @classmethod
    def of(cls, model: str, signature: dict[str, Any]) -> Layout:
        """Return the layout of a signature; a tensor is one of doubles, with three columns."""
        inputs = signature["inputs"]
        if inputs[0]["type"] == "tensor":
            inputs = [{"type": "double"}] * inputs[0]["tensor-spec"]["shape"][1]
        names = tuple(str(entry.get("name", place)) for place, entry in enumerate(inputs))
        types = tuple(entry["type"] for entry in inputs)
        return cls(model, names, types, "name" in inputs[0], bool(signature["params"]))


VALUES: dict[str, list[Any]] = {
    "double": [0.5, -1.25, 2.75, 0.001, -3.0, 1, 0],
    "float": [0.5, -1.25, 2.75, 0.125, 1],
    "long": [0, 1, 7, 42, 98],
    "integer": [0, 1, 3, 8],
    "boolean": [True, False],
    "string": ["good wine", "north", "south", "émigré 2", "", "never seen"],
    "datetime": ["2026-03-01T00:00:00", "2025-12-31", "2024-02-29T23:59:59.5"],
    "binary": ["/wA=", "eA==", ""],
    "array": [[1.0, 2.5], [0.5], []],
    "object": [{"weight": 1.5, "name": "x"}, {"name": "y", "weight": 2}],
}
NUMBERS = ("double", "float", "long", "integer")


@dataclass
class Draft:
    """A request being made: rows and columns, and the members around them."""

    layout: Layout
    format: str
    columns: list[str]
    rows: list[list[Any]]
    content_type: str | None = "application/json"
    around: dict[str, Any] = field(default_factory=dict)
    index: list[Any] | None = None
    change: Callable[[bytes], bytes] = lambda body: body

    def body(self) -> bytes:
        """Return the body."""
        if self.format == "csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows([[_in_csv(value) for value in row] for row in self.rows])
            return self.change(text.getvalue().encode(errors="surrogatepass"))
        return self.change(json.dumps(self._document() | self.around).encode())

    def _document(self) -> dict[str, Any]:
        name, _, shape = self.format.partition(" of ")
        if name == "dataframe_split":
            split: dict[str, Any] = {"columns": self.columns} if self.layout.named else {}
            split |= {"data": self.rows} | ({} if self.index is None else {"index": self.index})
            return {name: split}
        if shape == "lists":
            return {name: self.rows}
        records = [dict(zip(self.columns, row, strict=False)) for row in self.rows]
        if shape == "columns":
            return {name: {c: [r[c] for r in records if c in r] for c in self.columns}}
        return {name: records}


def _in_csv(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


# ---- defects ------------------------------------------------------------------------------------

# The values that a cell may have instead of one of its type.
CELLS: dict[str, Callable[[Any], Any]] = {
    "null": lambda value: None,
    "NaN": lambda value: float("nan"),
    "Infinity": lambda value: float("inf"),
    "NaN as text": lambda value: "NaN",
    "the value as text": lambda value: value if isinstance(value, list | dict) else str(value),
    "a whole number as 30.0": lambda value: 30.0,
    "a whole number as text": lambda value: "30",
    "a fraction": lambda value: 1.5,
    "one": lambda value: 1,
    "true": lambda value: True,
    "true as text": lambda value: "true",
    "text": lambda value: "x",
    "no text": lambda value: "",
    "half a character": lambda value: "\ud800",
    "NUL at the end": lambda value: f"{value}\0" if isinstance(value, str) else value,
    "beyond 32 bits": lambda value: 2**40,
    "beyond 64 bits": lambda value: 2**70,
    "beyond a float": lambda value: 1e300,
    "a list": lambda value: [1.5],
    "an object": lambda value: {"weight": "heavy"},
    "a time with a zone": lambda value: "2026-03-01T00:00:00+02:00",
}


def _each_row(draft: Draft, make: Callable[[list[Any]], list[Any]]) -> None:
    draft.rows = [make(row) for row in draft.rows]


def _extra_column(draft: Draft) -> None:
    draft.columns = [*draft.columns, "extra"]
    _each_row(draft, lambda row: [*row, 1])


def _missing_column(draft: Draft) -> None:
    draft.columns = draft.columns[:-1]
    _each_row(draft, lambda row: row[:-1])


def _reordered(draft: Draft) -> None:
    draft.columns = draft.columns[::-1]
    _each_row(draft, lambda row: row[::-1])


def _twice(draft: Draft) -> None:
    draft.columns = [*draft.columns, *draft.columns[:1]]
    _each_row(draft, lambda row: [*row, *row[:1]])


def _no_rows(draft: Draft) -> None:
    draft.rows = []


def _ragged(draft: Draft) -> None:
    draft.rows = [*draft.rows, *(row[:-1] for row in draft.rows[:1])]


def _around(**members: Any) -> Callable[[Draft], None]:
    return lambda draft: draft.around.update(members)


def _index(*labels: Any) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.index = list(labels or range(len(draft.rows)))

    return change


def _bytes(make: Callable[[bytes], bytes]) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        before = draft.change
        draft.change = lambda body: make(before(body))

    return change


def _content_type(value: str | None) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        kind = "text/csv" if draft.format == "csv" else "application/json"
        draft.content_type = None if value is None else value.replace("*", kind)

    return change


def _bare(body: bytes) -> bytes:
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if not (isinstance(document, dict) and document):
        return body
    return json.dumps(next(iter(document.values()))).encode()


SHAPES: dict[str, Callable[[Draft], None]] = {
    "nothing": lambda draft: None,
    "an extra column": _extra_column,
    "a missing column": _missing_column,
    "columns in another order": _reordered,
    "a column twice": _twice,
    "no rows": _no_rows,
    "a short row": _ragged,
    "an unknown key": _around(client="x"),
    "a key of chat": _around(messages=[]),
    "a second format": _around(inputs=[[1]]),
    "params": _around(params={"factor": 3, "unit": "lb"}),
    "params of another type": _around(params={"factor": "many"}),
    "params null": _around(params=None),
    "params empty": _around(params={}),
    "params that are a list": _around(params=[1]),
    "unknown params": _around(params={"nobody": 1}),
    "an index": _index(),
    "an index of labels": _index("p", "q"),
    "a short index": _index(7),
    "a bare list": _bytes(_bare),
    "a charset": _content_type("*; charset=utf-8"),
    "a charset in capitals": _content_type("*;charset=UTF-8"),
    "another charset": _content_type("*; charset=latin-1"),
    "another parameter": _content_type("*; header=present"),
    "another content type": _content_type("text/plain"),
    "Parquet": _content_type("application/vnd.apache.parquet"),
    "capitals in the content type": _content_type("Application/JSON"),
    "no content type": _content_type(None),
    "an end too soon": _bytes(lambda body: body[:-2]),
    "no body": _bytes(lambda body: b""),
    "bytes that are not UTF-8": _bytes(lambda body: body.replace(b"1", b"\xff", 1)),
    "a byte order mark": _bytes(lambda body: b"\xef\xbb\xbf" + body),
    "a number instead": _bytes(lambda body: b"1"),
    "null instead": _bytes(lambda body: b"null"),
    "deep nesting": _bytes(lambda body: b'{"inputs": ' + b"[" * 200 + b"]" * 200 + b"}"),
}
INDEXED = ("an index", "an index of labels", "a short index")


def fits(format: str, shape: str) -> bool:
    """Tell whether a defect of shape makes a difference in a body format."""
    if shape in INDEXED:
        return format == "dataframe_split"
    if format == "csv":
        return "params" not in shape and "key" not in shape and shape != "a second format"
    return True


def request(
    layout: Layout,
    format: str,
    rows: list[list[Any]],
    shapes: list[str],
    cells: list[tuple[str, int, bool]],
) -> Request:
    """Return a request.

    Args:
        layout: of the model.
        format: one of ``FORMATS``.
        rows: right values.
        shapes: names of defects of ``SHAPES``.
        cells: names of defects of ``CELLS``, each with the place of the column, and whether all
            rows have it.
    """
    draft = Draft(layout, format, list(layout.names), [list(row) for row in rows])
    draft.content_type = "text/csv" if format == "csv" else "application/json"
    marks = {format}
    for name, place, everywhere in cells:
        for row in draft.rows if everywhere else draft.rows[:1]:
            row[place] = CELLS[name](row[place])
        marks |= {name, f"in {layout.types[place]}"}
    for name in shapes:
        SHAPES[name](draft)
        marks.add(name)
    return Request(layout.model, draft.body(), draft.content_type, frozenset(marks))


def right_rows(layout: Layout, count: int) -> list[list[Any]]:
    """Return rows without a defect."""
    return [
        [VALUES[kind][(row + place) % len(VALUES[kind])] for place, kind in enumerate(layout.types)]
        for row in range(count)
    ]


def every(layout: Layout) -> list[Request]:
    """Return every kind of request to a model, one defect each."""
    rows = right_rows(layout, 2)
    requests = [
        request(layout, format, rows, [shape], [])
        for format in FORMATS
        for shape in SHAPES
        if fits(format, shape)
    ]
    first_of = {kind: layout.types.index(kind) for kind in layout.types}
    requests += [
        request(layout, format, rows, [], [(cell, place, False)])
        for format in FORMATS
        for cell in CELLS
        for place in first_of.values()
    ]
    return requests


def beyond_limits(layout: Layout) -> list[Request]:
    """Return requests to a model of numbers that only MLflow's server is to answer."""
    parquet = io.BytesIO()
    rows = right_rows(layout, 2)
    pd.DataFrame(rows, columns=list(layout.names)).to_parquet(parquet)
    many = request(layout, "dataframe_split", rows * 501, [], [])
    # Numbers as text: else the columns that the model lacks are never read.
    texted = {name: "0.5" for name in layout.names}
    sparse = [texted | {f"x{i}": 1} for i in range(1000)]
    sparse = [row | {f"y{n}": 1 for n in range(10)} for row in sparse]
    wide = texted | {f"x{i}": 1 for i in range(10_001)}
    texts = {name: [0.5] * 1000 for name in layout.names} | {"extra": ["x"] * 999 + ["x" * 50_000]}
    return [
        Request(
            layout.model,
            parquet.getvalue(),
            "application/vnd.apache.parquet",
            frozenset({"a file of Parquet"}),
        ),
        Request(layout.model, many.body, marks=frozenset({"more than 1000 rows"})),
        Request(
            layout.model,
            json.dumps({"dataframe_records": sparse}).encode(),
            marks=frozenset({"a table of more than a million cells"}),
        ),
        Request(
            layout.model,
            json.dumps({"inputs": texts}).encode(),
            marks=frozenset({"a text that is long, among many rows"}),
        ),
        Request(
            layout.model,
            json.dumps({"dataframe_records": [wide]}).encode(),
            marks=frozenset({"more than 10000 unknown columns"}),
        ),
        Request(
            layout.model,
            ",".join([*layout.names, *["a"] * 101]).encode() + b"\n" + b"1," * 103 + b"1\n",
            "text/csv",
            frozenset({"more than 100 columns of CSV with the name of another one"}),
        ),
    ]


@st.composite
def drawn(draw: st.DrawFn, layouts: list[Layout]) -> Request:
    """Draw a request to any of the models, with up to three defects."""
    layout = draw(st.sampled_from(layouts))
    format = draw(st.sampled_from(FORMATS))
    row = st.tuples(*(st.sampled_from(VALUES[kind]) for kind in layout.types)).map(list)
    rows = draw(st.lists(row, min_size=1, max_size=4))
    suitable = [shape for shape in SHAPES if fits(format, shape)]
    shapes = draw(st.lists(st.sampled_from(suitable), max_size=2, unique=True))
    places = st.integers(0, len(layout.types) - 1)
    cell = st.tuples(st.sampled_from(list(CELLS)), places, st.booleans())
    return request(layout, format, rows, shapes, draw(st.lists(cell, max_size=2)))
