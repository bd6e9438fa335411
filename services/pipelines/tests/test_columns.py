"""Every type of a Parquet file scores as over HTTP, or is refused with a message."""

import base64
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from model_api.model.answers import plain
from model_api.model.decoding import Decoder
from model_api.model.errors import RequestError

from lastro_pipelines import columns

AT = datetime(2026, 1, 2, 3, 4, 5)
ZONED = datetime(2026, 7, 2, 3, 4, 5, tzinfo=ZoneInfo("Europe/Lisbon"))
DAY = date(2026, 1, 2)
BYTES = b"\xff\x00ab"
B64 = base64.b64encode(BYTES).decode()
NONE = object()  # JSON has no such value

# Each type of Arrow, with a value of it in Python and in a request's JSON.
TYPES: list[tuple[pa.DataType, Any, Any]] = [
    (pa.null(), None, None),
    (pa.bool_(), True, True),
    *((getattr(pa, f"{sign}int{size}")(), 7, 7) for sign in ("", "u") for size in (8, 16, 32, 64)),
    (pa.int64(), 2**63 - 1, 2**63 - 1),
    (pa.uint64(), 2**64 - 1, 2**64 - 1),
    (pa.float16(), np.float16(1.5), 1.5),
    (pa.float32(), 1.5, 1.5),
    (pa.float64(), 1e300, 1e300),
    (pa.float64(), 3.0, 3),
    (pa.decimal32(5, 2), Decimal("1.50"), 1.5),
    (pa.decimal64(5, 2), Decimal("1.50"), 1.5),
    (pa.decimal128(5, 2), Decimal("2.00"), 2),
    (pa.decimal256(50, 2), Decimal("1.50"), 1.5),
    (pa.string(), "é", "é"),
    (pa.large_string(), "é", "é"),
    (pa.string_view(), "é", "é"),
    (pa.string(), B64, B64),
    (pa.string(), "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    (pa.binary(), BYTES, B64),
    (pa.large_binary(), BYTES, B64),
    (pa.binary_view(), BYTES, B64),
    (pa.binary(4), BYTES, B64),
    (pa.date32(), DAY, "2026-01-02"),
    (pa.date64(), DAY, "2026-01-02"),
    *((pa.timestamp(unit), AT, AT.isoformat()) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "UTC"), ZONED, ZONED.astimezone(UTC).isoformat()),
    (pa.timestamp("ns", "Europe/Lisbon"), ZONED, ZONED.isoformat()),
    (pa.timestamp("s"), datetime(3000, 1, 1), "3000-01-01T00:00:00"),
    (pa.date32(), date(9999, 12, 31), "9999-12-31"),
    (pa.time32("s"), time(3), NONE),
    (pa.time64("us"), time(3), NONE),
    (pa.duration("us"), timedelta(1), NONE),
    (pa.month_day_nano_interval(), (1, 2, 3), NONE),
    (pa.list_(pa.float64()), [1.0, 2.0], [1.0, 2.0]),
    (pa.large_list(pa.int32()), [1], [1]),
    (pa.list_(pa.float32(), 2), [1.0, 2.0], [1.0, 2.0]),
    (pa.list_view(pa.float64()), [1.0], [1.0]),
    (pa.list_(pa.duration("s")), [timedelta(1)], NONE),
    (pa.struct({"k": pa.float64()}), {"k": 0.5}, {"k": 0.5}),
    (pa.struct({"k": pa.float64(), "note": pa.string()}), {"k": 0.5}, {"k": 0.5, "note": None}),
    (pa.struct({"odd": pa.float64()}), {"odd": 0.5}, {"odd": 0.5}),
    (pa.struct({"k": pa.time64("us")}), {"k": time(3)}, NONE),
    (pa.map_(pa.string(), pa.float64()), [("k", 0.5)], {"k": 0.5}),
    (pa.map_(pa.int32(), pa.float64()), [(1, 0.5)], NONE),
    (pa.dictionary(pa.int8(), pa.string()), "é", "é"),
    (pa.dictionary(pa.int32(), pa.int64()), 7, 7),
    (pa.dictionary(pa.int32(), pa.duration("s")), timedelta(1), NONE),
    (pa.uuid(), UUID(int=1).bytes, base64.b64encode(UUID(int=1).bytes).decode()),
    (pa.json_(), '"a"', '"a"'),
]
SIGNATURE: dict[str, dict[str, Any]] = {
    **{
        kind: {"type": kind}
        for kind in ("boolean", "integer", "long", "float", "double", "string", "binary")
    },
    "datetime": {"type": "datetime"},
    "array": {"type": "array", "items": {"type": "double"}},
    "object": {
        "type": "object",
        "properties": {
            "k": {"type": "double", "required": True},
            "note": {"type": "string", "required": False},
        },
    },
    "map": {"type": "map", "values": {"type": "double"}},
    "any": {"type": "any"},
}
# Type of a signature -> how many of the types above it takes, at least.
TAKEN = {
    "boolean": 1,
    "integer": 11,
    "double": 18,
    "string": 7,
    "binary": 6,
    "datetime": 9,
    "array": 4,
    "object": 3,
    "map": 3,
    "any": 44,
}


def array_of(kind: pa.DataType, value: Any) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array([value], kind.storage_type))
    return pa.array([value], kind)


@pytest.mark.parametrize("name", SIGNATURE)
def test_each_type_of_arrow_scores_as_over_http_or_is_refused_by_name(name: str) -> None:
    for required in (True, False):
        decoder = Decoder([{"name": "c", "required": required} | SIGNATURE[name]])
        column = decoder.columns[0]
        taken = 0
        for kind, value, sent in TYPES:
            if reason := columns.fault(column, kind):
                assert reason == f"column 'c' has the type {kind}, but the model takes {name}"
                continue
            try:
                frame = pd.DataFrame({"c": columns.series(column, array_of(kind, value))})
                [ours] = map(list, decoder.batch(frame).tuples())
            except ValueError as error:
                assert str(error).startswith("column 'c', row 0: "), error
                ours = None
            assert sent is not NONE, f"{kind} is taken for {name}"
            try:
                body = json.dumps([{"c": sent}]).encode()
                [theirs] = map(list, decoder.decode(body, 1).tuples())
            except RequestError:
                theirs = None
            assert ours == theirs, f"{kind} as {name}"
            taken += ours is not None
        assert taken >= TAKEN.get(name, 1), f"{name}: {taken}"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("double", pa.array([1.5, None])),
        ("long", pa.array([2**63 - 1, None], pa.int64())),
        ("string", pa.array(["a", None])),
        ("datetime", pa.array([AT, None], pa.timestamp("us", "UTC"))),
        ("binary", pa.array([b"a", None])),
        ("array", pa.array([[1.0], None])),
        ("object", pa.array([{"k": 1.0}, None])),
    ],
)
def test_a_gap_is_null_where_a_column_is_optional_and_named_elsewhere(
    kind: str, values: pa.Array
) -> None:
    given = {"name": "c"} | SIGNATURE[kind]
    optional, required = (Decoder([given | {"required": r}]) for r in (False, True))
    frame = pd.DataFrame({"c": columns.series(optional.columns[0], values)})
    assert [row[0] is None for row in optional.batch(frame).tuples()] == [False, True]
    with pytest.raises(ValueError, match="column 'c', row 1: must not be missing"):
        required.batch(frame)


MISSING_TEXT = pd.DataFrame(
    {"label": ["a", None], "score": [0.25, np.nan], "n": pd.array([1, None], "Int64")}
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (np.array([1.5, np.nan]), [1.5, None]),
        ([np.float32(0.5), np.int64(7)], [0.5, 7]),
        (np.array(["sim", "não"]), ["sim", "não"]),
        (np.array([2**64 - 1, 1], np.uint64), [2**64 - 1, 1]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        ([[1.0], [2.0, 3.0]], [[1.0], [2.0, 3.0]]),
        (
            {"label": ["a", "b"], "score": np.array([0.25, np.nan])},
            [{"label": "a", "score": 0.25}, {"label": "b", "score": None}],
        ),
        (
            MISSING_TEXT,
            [{"label": "a", "score": 0.25, "n": 1}, {"label": None, "score": None, "n": None}],
        ),
        (MISSING_TEXT.iloc[1:], [{"label": None, "score": None, "n": None}]),
        (pd.DataFrame([[0.1], [0.8]]), [{"0": 0.1}, {"0": 0.8}]),
        (
            [{"label": np.str_("a"), "top": (1, 2)}, {"label": "b", "top": []}],
            [{"label": "a", "top": [1, 2]}, {"label": "b", "top": []}],
        ),
        ([1, "a"], ["1", '"a"']),
        ([None, None], [None, None]),
    ],
)
def test_an_answer_becomes_one_value_for_each_row(answer: Any, right: list[Any]) -> None:
    assert columns.answers(answer).to_pylist() == right


def test_a_column_of_answers_has_one_type_whatever_is_missing() -> None:
    whole, empty = columns.answers(MISSING_TEXT), columns.answers(MISSING_TEXT.iloc[1:])
    assert whole.type.field("label").type in (pa.string(), pa.large_string())
    assert pa.types.is_floating(empty.type.field("score").type)
    table = pa.table({"prediction": empty})
    assert table.cast(pa.schema([("prediction", whole.type)])).num_rows == 1


def test_a_missing_time_of_an_answer_is_null() -> None:
    times = pd.to_datetime(["2026-01-02", None])
    assert plain(pd.Series(times)) == [{"0": "2026-01-02T00:00:00"}, {"0": None}]
    assert plain(times.to_numpy())[1] is None
    assert plain({"at": times.to_numpy()})["at"][1] is None
    assert plain(times.to_numpy())[0].startswith("2026-01-02T00:00:00")
