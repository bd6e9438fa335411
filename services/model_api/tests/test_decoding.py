"""Request bodies checked against a signature: every format, type and fault."""

import base64
import json
import math
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lastro_pytest import examples

from model_api.http.problems import Problem, from_request_error
from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.decoding.explaining import Explainer
from model_api.model.errors import RequestError
from model_api.model.schema import body_schema
from model_api.model.signature import SignatureError

MOST = 1000

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "binary": st.binary().map(lambda raw: base64.b64encode(raw).decode()),
    "datetime": st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(datetime.isoformat),
}
NUMERIC = ("boolean", "integer", "long", "float", "double")
DTYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "binary": "object",
    "datetime": "datetime64[ns]",
}


def column(kind: str, name: str | None = "x", required: bool = True, **more: Any) -> dict[str, Any]:
    entry = {"type": kind, "required": required} | more
    return entry if name is None else entry | {"name": name}


def tensor(dtype: str, shape: list[int], name: str | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}
    return entry if name is None else entry | {"name": name}


def decode(decoder: Decoder, body: Any, most: int = MOST) -> Batch:
    return decoder.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), most)


def refusal(decoder: Decoder, body: Any, most: int = MOST) -> Problem:
    with pytest.raises(RequestError) as refused:
        decode(decoder, body, most)
    # A problem is an answer, so its quotes must be writable.
    json.dumps(refused.value.members, allow_nan=False).encode()
    refused.value.detail.encode()
    return from_request_error(refused.value)


def only_error(decoder: Decoder, body: Any) -> dict[str, Any]:
    problem = refusal(decoder, body)
    assert (problem.status, problem.kind) == (422, "invalid-rows")
    assert problem.members["count"] == 1
    [error] = problem.members["errors"]
    return error


# ---- valid bodies -------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(VALUES)) -> tuple[Any, Any]:
    """Return a signature and rows that fit it."""
    names = draw(st.lists(VALUES["string"], min_size=1, max_size=5, unique=True))
    columns = [column(draw(st.sampled_from(kinds)), name, draw(st.booleans())) for name in names]
    row = st.fixed_dictionaries(
        {
            c["name"]: VALUES[c["type"]] if c["required"] else VALUES[c["type"]] | st.none()
            for c in columns
        }
    )
    return columns, draw(st.lists(row, min_size=1, max_size=4))


def bodies(columns: list[dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows in every format."""
    names = [c["name"] for c in columns]
    lists = [[row[name] for name in names] for row in rows]
    sparse = [{n: v for n, v in row.items() if v is not None} for row in rows]
    return {
        "records": rows,
        "nulls left out": sparse,
        "inputs": {"inputs": rows},
        "lists": {"inputs": lists},
        "columns": {"inputs": {n: [row[n] for row in rows] for n in names}},
        "instances": {"instances": rows},
        "dataframe_records": {"dataframe_records": sparse},
        "dataframe_split": {"dataframe_split": {"columns": names, "data": lists}},
        "another order": {
            "dataframe_split": {
                "index": list(range(len(rows))),
                "columns": names[::-1],
                "data": [row[::-1] for row in lists],
            }
        },
    }


def expected(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind in ("float", "double"):
        return float(value)
    if kind == "binary":
        return base64.b64decode(value)
    return datetime.fromisoformat(value) if kind == "datetime" else value


@settings(max_examples=examples(80), deadline=None)
@given(tables())
def test_every_format_holds_the_same_rows(table: tuple[Any, Any]) -> None:
    columns, rows = table
    decoder = Decoder(columns)
    known = [tuple(expected(c["type"], row[c["name"]]) for c in columns) for row in rows]
    for name, body in bodies(columns, rows).items():
        for written in (json.dumps(body), json.dumps(body, ensure_ascii=False, indent=1)):
            batch = decoder.decode(written.encode(), MOST)
            found = [tuple(row) for row in batch.tuples()]
            assert found == known, name
            assert [list(map(type, row)) for row in found] == [
                list(map(type, row)) for row in known
            ]
            # The slow way accepts everything that the fast one accepts.
            assert [
                tuple(r) for r in Explainer(decoder, MOST).whole(written.encode()).tuples()
            ] == known


@settings(max_examples=examples(60), deadline=None)
@given(tables())
def test_a_frame_has_the_signatures_names_order_and_types(table: tuple[Any, Any]) -> None:
    columns, rows = table
    frame = decode(Decoder(columns), rows).frame()
    assert list(frame.columns) == [c["name"] for c in columns]
    for c in columns:
        values = frame[c["name"]]
        missing = [row[c["name"]] is None for row in rows]
        assert values.isna().tolist() == missing
        kind = DTYPES[c["type"]]
        if any(missing):
            kind = {"boolean": "object", "integer": "float64", "long": "float64"}.get(
                c["type"], kind
            )
        assert str(values.dtype) == kind


@settings(max_examples=examples(60), deadline=None)
@given(tables(NUMERIC))
def test_an_array_holds_the_numbers_of_the_frame(table: tuple[Any, Any]) -> None:
    columns, rows = table
    batch = decode(Decoder(columns), rows)
    array = batch.array()
    assert array.shape == (len(rows), len(columns))
    np.testing.assert_array_equal(array, batch.frame().to_numpy(array.dtype))
    kinds = {c["type"] for c in columns}
    if kinds == {"float"}:
        assert array.dtype == np.float32
    elif "double" in kinds:
        assert array.dtype == np.float64


@settings(max_examples=examples(40), deadline=None)
@given(tables())
def test_the_prediction_log_gets_json(table: tuple[Any, Any]) -> None:
    columns, rows = table
    logged = decode(Decoder(columns), rows).columns()
    assert list(logged) == [c["name"] for c in columns]
    assert json.loads(json.dumps(logged)) == logged
    again = [dict(zip(logged, row, strict=True)) for row in zip(*logged.values(), strict=True)]
    assert decode(Decoder(columns), again).columns() == logged


@settings(max_examples=examples(150), deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from("ab"), inner),
    )
)
def test_any_json_is_read_or_refused(document: Any) -> None:
    decoder = Decoder([column("double", "a"), column("string", "b", required=False)])
    shapes = (document, [document], {"inputs": document}, {"dataframe_split": document})
    for body in shapes:
        try:
            decode(decoder, body)
        except RequestError as problem:
            assert from_request_error(problem).status in (400, 413, 422)
            json.dumps(problem.members, allow_nan=False).encode()


WORDS = st.text('NaN",:[]{}\\ é', max_size=12)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"NaN": st.none() | st.floats(allow_infinity=False), "text": WORDS}),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["records", "lists", "split", "columns"]),
    st.booleans(),
)
def test_nan_means_null_and_text_stays_as_it_is(
    rows: list[dict[str, Any]], form: str, required: bool
) -> None:
    decoder = Decoder([column("double", "NaN", required), column("string", "text")])

    def outcome(missing: float | None) -> Any:
        numbers = [row["NaN"] for row in rows]
        numbers = [missing if n is None or math.isnan(n) else n for n in numbers]
        lists = [[n, row["text"]] for n, row in zip(numbers, rows, strict=True)]
        body: Any = lists
        if form == "records":
            body = [dict(zip(rows[0], values, strict=True)) for values in lists]
        elif form == "split":
            body = {"dataframe_split": {"columns": [*rows[0]], "data": lists}}
        elif form == "columns":
            body = {"inputs": {"NaN": numbers, "text": [row["text"] for row in rows]}}
        try:
            return decode(decoder, body).columns()
        except RequestError as problem:
            return problem.members["errors"]

    assert outcome(math.nan) == outcome(None)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "n": st.sampled_from([1.5, 2, None, math.nan, "1", True, 10**400]),
                "t": st.sampled_from(["a", "NaN", None, 1, []]),
                "at": st.sampled_from(["2026-11-24", "x", None, 5]),
            }
        ),
        min_size=1,
        max_size=40,
    )
)
def test_columns_are_refused_as_rows_are(rows: list[dict[str, Any]]) -> None:
    decoder = Decoder(
        [column("double", "n"), column("string", "t", required=False), column("datetime", "at")]
    )

    def outcome(body: Any) -> Any:
        try:
            return decode(decoder, body).columns()
        except RequestError as problem:
            # Further faults are counted by row.
            shown = problem.members["errors"]
            return shown, len(shown) < 20 and problem.members["count"]

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert outcome({"inputs": columns}) == outcome({"inputs": rows})


@settings(max_examples=examples(100), deadline=None)
@given(st.binary())
def test_any_other_bytes_are_refused(body: bytes) -> None:
    decoder = Decoder([column("double", "a")])
    for written in (body, b'[{"a":' + body + b"}]", b'{"inputs":' + body + b"}"):
        try:
            decoder.decode(written, MOST)
        except RequestError as problem:
            assert from_request_error(problem).status in (400, 413, 422)


# ---- invalid bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "detail"),
    [
        ("double", True, "must be a number, not true"),
        ("double", "1.5", "must be a number, not '1.5'"),
        ("double", None, "must not be null or NaN: the model takes no missing values here"),
        ("double", math.nan, "must not be null or NaN: the model takes no missing values here"),
        ("double", math.inf, "is beyond the range of a double: inf"),
        ("double", [1], "must be a number, not a list"),
        ("double", {}, "must be a number, not an object"),
        ("double", 10**400, "is beyond the range of a double: inf"),
        ("double", 10**320, "is beyond the range of a double: 1" + "0" * 56 + "..."),
        ("float", 1e39, "is beyond the range of a number of 32 bits: 1e+39"),
        ("long", 1.5, "must be a whole number, not 1.5"),
        ("long", 1.0, "must be a whole number, not 1.0"),
        ("long", "7", "must be a whole number, not '7'"),
        ("long", True, "must be a whole number, not true"),
        ("long", 2**63, f"must be between {-(2**63)} and {2**63 - 1}, not {2**63}"),
        ("integer", 2**31, f"must be between {-(2**31)} and {2**31 - 1}, not {2**31}"),
        ("boolean", 1, "must be true or false, not 1"),
        ("boolean", "true", "must be true or false, not 'true'"),
        ("string", 1, "must be text, not 1"),
        ("string", math.nan, "must not be null or NaN: the model takes no missing values here"),
        ("datetime", 0, "must be text, not 0"),
        ("datetime", "yesterday", "must be a time such as 2026-11-24T06:00:00, not 'yesterday'"),
        ("datetime", "9999-01-01", "must be between the years 1678 and 2261, not '9999-01-01'"),
        ("binary", "é", "must be text in base64, not 'é'"),
    ],
)
@pytest.mark.parametrize("form", ["records", "split", "columns"])
def test_a_wrong_value_is_named_with_row_and_field(
    kind: str, value: Any, detail: str, form: str
) -> None:
    decoder = Decoder([column("double", "ok"), column(kind, "wrong value")])
    good = {"double": 1, "float": 1, "long": 1, "integer": 1, "boolean": True, "string": ""}
    fine = good.get(kind, {"datetime": "2026-11-24", "binary": ""}.get(kind))
    values = [fine, value]
    body: Any = [{"ok": 1, "wrong value": v} for v in values]
    if form == "split":
        data = [[1, v] for v in values]
        body = {"dataframe_split": {"columns": ["ok", "wrong value"], "data": data}}
    elif form == "columns":
        body = {"inputs": {"ok": [1, 1], "wrong value": values}}
    assert only_error(decoder, body) == {"row": 1, "field": "wrong value", "detail": detail}


def test_missing_and_unknown_columns_are_named() -> None:
    decoder = Decoder([column("double", "alcohol"), column("double", "hue")])
    problem = refusal(decoder, [{"alcohol": 1, "hue": 2}, {"alcohol": 1, "hu": 3}, 4])
    assert problem.members["errors"] == [
        {"row": 1, "field": "hue", "detail": "is missing"},
        {
            "row": 1,
            "field": "hu",
            "detail": "is not an input of this model. Did you mean 'hue'?",
        },
        {
            "row": 2,
            "field": None,
            "detail": "must be an object with one value for each field, or a list of the values,"
            " not 4",
        },
    ]
    assert problem.detail == (
        "the rows do not fit the model: row 1, field 'hue': is missing (and 2 more)"
    )
    by_column = refusal(decoder, {"inputs": {"alcohol": [1], "colour": [1]}})
    assert [e["field"] for e in by_column.members["errors"]] == ["hue", "colour"]


def test_a_long_list_of_faults_is_cut_but_counted() -> None:
    problem = refusal(Decoder([column("double")]), [{"x": "y" * 100_000}] * 500)
    assert problem.members["count"] == 500
    assert len(problem.members["errors"]) == 20
    assert len(problem.members["errors"][0]["detail"]) < 120


def test_a_similar_name_is_suggested() -> None:
    decoder = Decoder([column("double", name) for name in ("malic_acid", "hue", "Ash content")])
    row = {"malic_acid": 1, "hue": 1, "Ash content": 1}
    for wrong, meant in (
        ("malicacid", "malic_acid"),
        ("Malic-Acid", "malic_acid"),
        ("malic_acids", "malic_acid"),
        ("mallic_acid", "malic_acid"),
        ("mailc_acid", "malic_acid"),
        ("ash_content", "Ash content"),
        ("colour", None),
        ("h", None),
        ("x" * 100_000, None),
    ):
        error = only_error(decoder, [row | {wrong: 1}])
        assert error["detail"] == "is not an input of this model" + (
            f". Did you mean {meant!r}?" if meant else ""
        )


WIDE = [f"customer_feature_{i:03}_mean" for i in range(200)]
NUMBERS = [column("double", name) for name in WIDE]


def cpu(decoder: Decoder, body: bytes) -> float:
    """Return the lowest CPU time of several tries to read a body."""
    times = []
    for _ in range(15):
        start = time.process_time()
        with suppress(RequestError):
            decoder.decode(body, MOST)
        times.append(time.process_time() - start)
    return min(times)


def rows_of(width: int, rows: int, **changes: Any) -> list[dict[str, Any]]:
    return [dict.fromkeys(WIDE[:width], 1.5) | changes] * rows


def columns_of(width: int, rows: int, last: Any) -> dict[str, Any]:
    """Return columns; the last value of the last one is ``last``."""
    columns = {name: [1.5] * rows for name in WIDE[:width]}
    columns[WIDE[width - 1]][-1] = last
    return {"inputs": columns}


def split_of(width: int, rows: int, last: Any) -> dict[str, Any]:
    """Return a frame as pandas splits it; its last value is ``last``."""
    data = [[1.5] * width] * (rows - 1) + [[1.5] * (width - 1) + [last]]
    return {"dataframe_split": {"columns": WIDE[:width], "data": data}}


@pytest.mark.parametrize(
    ("width", "good", "bad"),
    [
        (50, rows_of(50, 30), [{f"client{n[8:]}": 1.5 for n in WIDE[:50]}] * 30),
        (200, rows_of(200, 200), [{f"client{n[8:]}": 1.5 for n in WIDE}] * 200),
        (50, rows_of(50, 1000), [{f"k{i}": 1.5 for i in range(150_000)}]),
        (50, rows_of(50, 500), rows_of(50, 499) + rows_of(50, 1, **{WIDE[49]: "x"})),
        (50, rows_of(50, 500), rows_of(50, 499) + rows_of(50, 1, **{WIDE[49]: math.nan})),
        (50, split_of(50, 500, 1.5), split_of(50, 500, "x")),
        (50, split_of(50, 500, 1.5), split_of(50, 500, math.nan)),
        (50, columns_of(50, 500, 1.5), columns_of(50, 500, "x")),
        (50, columns_of(50, 500, 1.5), columns_of(50, 500, math.nan)),
        (50, columns_of(50, 500, 1.5), {"inputs": {n: ["x"] * 500 for n in WIDE[:50]}}),
        (50, rows_of(50, 500), [dict.fromkeys(WIDE[:50], "x")] * 500),
        (50, rows_of(50, 500), [dict.fromkeys(WIDE[:50], "x" * 1000)] * 20),
        (50, rows_of(50, 500), [{"k" * 1000 + str(i): 1 for i in range(100)}] * 10),
        (50, [[1.5] * 50] * 500, [[1.5] * 49] * 500),
    ],
    ids=[
        "misnamed",
        "misnamed-wide",
        "unknown",
        "last",
        "last-nan",
        "split-last",
        "split-nan",
        "columns-last",
        "columns-last-nan",
        "columns-text",
        "text",
        "long",
        "names",
        "short",
    ],
)
def test_a_bad_body_costs_little_more_than_a_good_one_of_its_size(
    width: int, good: Any, bad: Any
) -> None:
    decoder = Decoder(NUMBERS[:width])
    refusal(decoder, bad)
    right, wrong = (json.dumps(rows).encode() for rows in (good, bad))
    assert cpu(decoder, wrong) / len(wrong) <= 5 * cpu(decoder, right) / len(right)


@pytest.mark.parametrize(
    ("rows", "bad"),
    [
        (1000, [[1.5] * 100] * 999 + [[1.5] * 99 + ["x"]]),
        (1000, [["x"] * 100] * 1000),
    ],
    ids=["last", "all"],
)
def test_a_bad_tensor_costs_little_more_than_a_good_one(rows: int, bad: Any) -> None:
    decoder = Decoder([tensor("float64", [-1, 100])])
    refusal(decoder, bad)
    right = json.dumps([[1.5] * 100] * rows).encode()
    wrong = json.dumps(bad).encode()
    assert cpu(decoder, wrong) / len(wrong) <= 8 * cpu(decoder, right) / len(right)


@pytest.mark.parametrize(
    "body",
    [
        {f"k{i}": 1 for i in range(30_000)},
        {"inputs": [[1.5] * 50], **{f"k{i}": 1 for i in range(30_000)}},
        {"inputs": [[1.5] * 50], "params": {f"k{i}": 1 for i in range(30_000)}},
        {"inputs": {f"k{i}": [1] for i in range(30_000)}},
        {
            "dataframe_split": {
                "columns": [f"k{i}" for i in range(30_000)],
                "data": [[1] * 30_000],
            }
        },
        [dict.fromkeys(WIDE[:50], 1) | {WIDE[0]: "x"} | {f"k{i}": 1 for i in range(30_000)}],
        [{WIDE[0]: math.nan, **{f"k{i}": 1 for i in range(30_000)}}],
    ],
    ids=["top", "envelope", "params", "columns", "split", "row", "nan"],
)
def test_a_message_about_many_names_costs_no_more_than_parsing_them(body: Any) -> None:
    decoder = Decoder(NUMBERS[:50])
    problem = refusal(decoder, body)
    assert len(problem.document("", "")) < 10_000
    content = json.dumps(body).encode()
    start = time.process_time()
    json.loads(content)
    assert cpu(decoder, content) <= 5 * (time.process_time() - start)


def test_an_unseen_category_is_named() -> None:
    decoder = Decoder([column("string", "colour")], categories={"colour": ["red", "rosé"]})
    assert decode(decoder, [{"colour": "rosé"}]).rows == 1
    error = only_error(decoder, [{"colour": "red"}, {"colour": "blue"}])
    assert error == {
        "row": 1,
        "field": "colour",
        "detail": "must be one that the model has seen: 'red', 'rosé'; not 'blue'",
    }


@pytest.mark.parametrize(
    ("body", "status", "kind", "detail"),
    [
        (b"", 400, "invalid-json", "not JSON"),
        (b"garbage" * 1000, 400, "invalid-json", "not JSON"),
        (b'[{"x": 1}', 400, "invalid-json", "not JSON"),
        (b'[{"x": "\xff"}]', 400, "invalid-json", "byte 8 is not UTF-8"),
        (b"\xff\xfe[\x00]\x00", 400, "invalid-json", "byte 0 is not UTF-8"),
        (b"[" * 1_000_000, 400, "invalid-json", "nested too deeply"),
        (b'{"inputs":' * 100_000, 400, "invalid-json", "nested too deeply"),
        (b'[{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", 400, "invalid-json", "too deeply"),
        (b"5", 422, "invalid-body", "must be a list of rows"),
        (b"null", 422, "invalid-body", "must be a list of rows"),
        (b"[]", 422, "invalid-body", "no rows"),
        (b'{"inputs": []}', 422, "invalid-body", "no rows"),
        (b'{"inputs": {"x": []}}', 422, "invalid-body", "no rows"),
        (b'{"dataframe_split": {"columns": ["x"], "data": []}}', 422, "invalid-body", "no rows"),
        (b"{}", 422, "invalid-body", "exactly one of inputs"),
        (b'{"rows": []}', 422, "invalid-body", "it has rows"),
        (b'{"inputs": [], "instances": []}', 422, "invalid-body", "it has inputs, instances"),
        (b'{"inputs": {"x": [1]}, "instances": [[2]]}', 422, "invalid-body", "inputs, instances"),
        (b'{"inputs": [{"x": 1}], "more": 1}', 422, "invalid-body", "unknown field 'more'"),
        (b'{"inputs": [{"x": 1}], "params": 5}', 422, "invalid-body", "params must be an object"),
        (b'{"inputs": [{"x": 1}], "params": {"k": 1}}', 422, "invalid-body", "it takes none"),
        (b'{"dataframe_records": {"x": 1}}', 422, "invalid-body", "must be a list"),
        (b'{"dataframe_split": {"columns": ["x"]}}', 422, "invalid-body", "columns and data"),
        (b'{"dataframe_split": {"data": [[1]]}}', 422, "invalid-body", "must have columns"),
        (b'{"dataframe_split": {"columns": [1], "data": [[1]]}}', 422, "invalid-body", "names"),
        (
            b'{"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}',
            422,
            "invalid-body",
            "'x' twice",
        ),
        (
            b'{"dataframe_split": {"columns": ["x"], "data": [[1], [1, 2]]}}',
            422,
            "invalid-body",
            "row 1: must be a list of 1 values",
        ),
        (
            b'[{"x": 1}, {"x": 1}, {"x": 1}, {"x": 1}]',
            413,
            "too-many-rows",
            "4 rows, but at most 3",
        ),
        (b'[{"x": "a"}, 1, 2, 3]', 413, "too-many-rows", "4 rows, but at most 3"),
    ],
)
def test_a_wrong_body_is_refused(body: bytes, status: int, kind: str, detail: str) -> None:
    problem = refusal(Decoder([column("double")]), body, most=3)
    assert (problem.status, problem.kind) == (status, kind)
    assert detail in problem.detail


def test_text_that_is_not_unicode_is_refused() -> None:
    decoder = Decoder([column("string")])
    assert "not Unicode" in only_error(decoder, b'[{"x": "\\ud800"}]')["detail"]
    problem = refusal(decoder, b'[{"x": "", "\\ud800": 1}]')
    assert problem.members["errors"][0]["field"] == "\\ud800"


def test_numbers_of_many_digits_take_no_time() -> None:
    body = b'[{"x": ' + b"9" * 1_000_000 + b"}]"
    for kind in ("double", "long", "string"):
        assert only_error(Decoder([column(kind)]), body)["field"] == "x"


# ---- null, names, order -------------------------------------------------------------------------


def test_an_optional_column_may_be_null_absent_or_nan() -> None:
    decoder = Decoder([column("double", "d", False), column("long", "n", False)])
    batch = decode(decoder, [{"d": None, "n": 1}, {"d": 1.5}, {"d": math.nan, "n": math.nan}])
    assert list(batch.tuples()) == [(None, 1), (1.5, None), (None, None)]
    np.testing.assert_array_equal(batch.array(), [[np.nan, 1], [1.5, np.nan], [np.nan, np.nan]])


@pytest.mark.parametrize("null", ["null", "NaN"])
def test_a_gap_is_accepted_where_the_model_answers_it(null: str) -> None:
    inputs = [column("double", "d"), column("long", "n")]
    decoder = Decoder(inputs, gaps=["d"])
    batch = decoder.decode(b'[{"d": %s, "n": 1}]' % null.encode(), 10)
    assert batch.gaps()
    np.testing.assert_array_equal(batch.array(), [[np.nan, 1]])
    assert batch.frame()["d"].isna().all()
    assert not decode(decoder, [{"d": 1, "n": 1}]).gaps()
    assert only_error(decoder, [{"n": 1}])["detail"] == "is missing"
    assert only_error(decoder, [{"d": 1, "n": None}])["field"] == "n"
    assert only_error(Decoder(inputs), [{"d": None, "n": 1}])["field"] == "d"
    properties = body_schema(decoder)["anyOf"][-1]["items"]["properties"]
    assert {"type": "null"} in properties["d"]["anyOf"]
    assert "anyOf" not in properties["n"]


def test_required_columns_may_follow_optional_ones() -> None:
    decoder = Decoder([column("double", "a", False), column("double", "b/c d")])
    assert list(decode(decoder, [{"b/c d": 2, "a": 1}]).tuples()) == [(1.0, 2.0)]
    assert list(decode(decoder, {"inputs": [[None, 2]]}).tuples()) == [(None, 2.0)]


def test_columns_without_names_go_by_place() -> None:
    decoder = Decoder([column("double", None), column("string", None)])
    for body in (
        [[1, "a"]],
        {"instances": [[1, "a"]]},
        {"dataframe_split": {"data": [[1, "a"]]}},
        {"dataframe_split": {"columns": [0, 1], "data": [[1, "a"]]}},
    ):
        assert list(decode(decoder, body).tuples()) == [(1.0, "a")]
    assert list(decode(decoder, [[1, "a"]]).frame().columns) == [0, 1]
    assert only_error(decoder, [[1, 2]])["field"] == "1"


def test_a_single_column_takes_bare_values() -> None:
    decoder = Decoder([column("string", "text")])
    for body in (
        {"inputs": ["a", "b"]},
        {"instances": ["a", "b"]},
        {"inputs": {"text": ["a", "b"]}},
    ):
        assert list(decode(decoder, body).tuples()) == [("a",), ("b",)]
    assert decode(decoder, {"inputs": {"text": "a"}}).rows == 1


def test_times_are_utc() -> None:
    batch = decode(Decoder([column("datetime")]), [{"x": "2026-11-24T06:00:00+02:00"}])
    assert batch.frame()["x"].iloc[0] == pd.Timestamp("2026-11-24T04:00:00")


# ---- nested columns -----------------------------------------------------------------------------

NESTED = [
    column("array", "list", items={"type": "array", "items": {"type": "long"}}),
    column(
        "object",
        "thing",
        properties={
            "name": {"type": "string", "required": True},
            "size": {"type": "double", "required": False},
        },
    ),
    column("map", "map", required=False, values={"type": "boolean"}),
    column("any", "any", required=False),
]


def test_nested_columns_are_checked_throughout() -> None:
    decoder = Decoder(NESTED)
    row = {"list": [[1], []], "thing": {"name": "n"}, "map": {"k": True}, "any": [None, "x"]}
    for body in ([row], {"inputs": row}, {"dataframe_records": [row]}):
        frame = decode(decoder, body).frame()
        assert frame.to_dict("records") == [row]
    for change, detail in (
        ({"list": [[1], [1.5]]}, "[1][0]: must be a whole number, not 1.5"),
        ({"list": 5}, "must be a list, not 5"),
        ({"thing": {}}, "must have 'name'"),
        ({"thing": {"name": "n", "size": "big"}}, ".size: must be a number, not 'big'"),
        ({"thing": {"name": "n", "more": 1}}, "must not have 'more'"),
        ({"map": {"k": 1}}, ".k: must be true or false, not 1"),
    ):
        error = only_error(decoder, [row, row | change])
        assert error == {"row": 1, "field": next(iter(change)), "detail": detail}


# ---- tensors ------------------------------------------------------------------------------------


def test_tensors_have_their_type_and_shape() -> None:
    decoder = Decoder([tensor("float32", [-1, 2, 2])])
    values = [[[1, 2], [3, 4.5]]]
    for body in (values, {"inputs": values}, {"instances": values}):
        array = decode(decoder, body).native()
        assert array.dtype == np.float32
        assert array.tolist() == values
    for wrong, row, detail in (
        ([[[1, 2], [3]]], 0, "[1]: must have 2 values, not 1"),
        ([[[1, 2], [3, "4"]]], 0, "[1][1]: must be a number, not '4'"),
        ([[[1, 2], [3, 1e39]]], 0, "[1][1]: is beyond the range of float32: 1e+39"),
        ([*values, 5], 1, "must be a list, not 5"),
    ):
        assert only_error(decoder, wrong) == {"row": row, "field": None, "detail": detail}
    assert refusal(decoder, []).kind == "invalid-body"


def test_several_tensors_have_names() -> None:
    decoder = Decoder([tensor("int8", [-1], "n"), tensor("float64", [-1, 2], "xy")])
    for body in (
        {"inputs": {"n": [1, 2], "xy": [[1, 2], [3, 4]]}},
        {"instances": [{"n": 1, "xy": [1, 2]}, {"n": 2, "xy": [3, 4]}]},
    ):
        batch = decode(decoder, body)
        assert batch.rows == 2
        assert batch.native()["n"].dtype == np.int8
        assert batch.columns() == {"n": [1, 2], "xy": [[1, 2], [3, 4]]}
    assert only_error(decoder, {"inputs": {"n": [200], "xy": [[1, 2]]}})["field"] == "n"
    assert only_error(decoder, {"inputs": {"n": [1]}})["field"] == "xy"
    assert "different numbers" in refusal(decoder, {"inputs": {"n": [1, 2], "xy": [[1, 2]]}}).detail


def test_a_tensor_that_is_a_table_may_be_sent_as_a_frame() -> None:
    decoder = Decoder([tensor("float64", [-1, 2])])
    batch = decode(decoder, {"dataframe_split": {"columns": [0, 1], "data": [[1, 2]]}})
    assert batch.array().tolist() == [[1, 2]]
    assert batch.columns() == {"0": [1], "1": [2]}


# ---- parameters ---------------------------------------------------------------------------------

PARAMS = [
    {"name": "k", "type": "double", "default": 0.5, "shape": None},
    {"name": "stop", "type": "string", "default": ["x"], "shape": [-1]},
]


def test_parameters_are_checked_and_have_defaults() -> None:
    decoder = Decoder([column("double")], PARAMS)
    rows = [{"x": 1}]
    assert decode(decoder, rows).params == {"k": 0.5, "stop": ["x"]}
    given = decode(decoder, {"inputs": rows, "params": {"k": 2, "stop": ["a", "b"]}})
    assert given.params == {"k": 2.0, "stop": ["a", "b"]}
    for params, detail in (
        ({"k": "2"}, "k must be a number"),
        ({"stop": "a"}, "stop must be a list"),
        ({"q": 1}, "q is not one of this model; it takes k, stop"),
    ):
        assert detail in refusal(decoder, {"inputs": rows, "params": params}).detail


# ---- documentation ------------------------------------------------------------------------------


@settings(max_examples=examples(40), deadline=None)
@given(tables())
def test_the_schema_takes_what_the_decoder_takes(table: tuple[Any, Any]) -> None:
    import jsonschema_rs

    columns, rows = table
    schema = jsonschema_rs.validator_for(body_schema(Decoder(columns)))
    taken = bodies(columns, rows)
    for name in ("records", "inputs", "dataframe_records", "dataframe_split"):
        schema.validate(taken[name])
    broken = [dict(rows[0]) | {columns[0]["name"]: [[]]}]
    assert not schema.is_valid(broken)
    assert not schema.is_valid({"inputs": []})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no inputs"),
        ([column("complex")], "'x' is of the unknown type 'complex'"),
        ([tensor("complex128", [-1])], "complex128 cannot be written as JSON"),
    ],
)
def test_signatures_that_no_request_can_fit_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        Decoder(inputs)


def test_columns_named_by_numbers_accept_names_as_text_and_as_numbers() -> None:
    inputs = [{"name": n, "type": "double", "required": True} for n in (0, 1)]
    decoder = Decoder(inputs)
    for body in (
        b'{"dataframe_split": {"columns": [1, 0], "data": [[2.5, 1.5]]}}',
        b'{"dataframe_split": {"columns": ["0", "1"], "data": [[1.5, 2.5]]}}',
        b'{"dataframe_split": {"columns": [0, 1], "data": [[1.5, 2.5]]}}',
        b'{"dataframe_split": {"data": [[1.5, 2.5]]}}',
        b'{"inputs": [{"0": 1.5, "1": 2.5}]}',
        b'{"instances": [[1.5, 2.5]]}',
    ):
        batch = decoder.decode(body, 9)
        assert list(map(list, batch.tuples())) == [[1.5, 2.5]], body
        # As in training.
        assert list(batch.frame().columns) == [0, 1]
    with pytest.raises(RequestError, match="row 0, field '1'"):
        decoder.decode(b'{"dataframe_split": {"data": [[1, "x"]]}}', 9)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((0, "0"), "two columns have the same name"),
        ((1.5,), "give the columns names that are text"),
    ],
)
def test_columns_whose_names_are_not_text_are_refused_with_a_sentence(
    names: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(SignatureError, match=message):
        Decoder([{"name": name, "type": "double"} for name in names])
