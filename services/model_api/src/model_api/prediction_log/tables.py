"""Records as Arrow tables: one for each model, version and day."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import pyarrow as pa

from model_api.model.decoding import Decoder
from model_api.model.errors import RequestError
from model_api.model.manifest import decoder_in
from model_api.model.untyped import Value
from model_api.prediction_log.sender import Record

# MLflow's types of columns; others, such as arrays, are written as JSON.
_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.string(),
    "datetime": pa.timestamp("us"),
}
_OWN = (
    ("at", pa.timestamp("ms", "UTC")),
    ("request_id", pa.string()),
    ("row", pa.int32()),
    ("alias", pa.string()),
)
# Readers of Parquet refuse a schema with some 50 levels, and each leaf is a column.
_DEEPEST = 8
_MOST_LEAVES = 200
_RESERVED = {name for name, _ in _OWN} | {"prediction"}


class _Answer(msgspec.Struct):
    predictions: list[Value]


class Group(NamedTuple):
    """The key of the records of one file."""

    name: str
    version: str
    date: str

    @property
    def folder(self) -> str:
        """The partition, as Hive writes it and pyarrow's and pandas' readers decode it."""
        return f"model={quote(self.name, safe='')}/version={self.version}/date={self.date}"


class Undecodable(Exception):
    """The record cannot be written; the message says why, without the request's content."""


class Tables:
    """Makes tables from records.

    Args:
        state_directory: the folder of ``state.json``, which has the folders of the prepared
            versions.
    """

    def __init__(self, state_directory: Path) -> None:
        self._state_directory = state_directory
        self._record = msgspec.msgpack.Decoder(Record).decode
        self._answer = msgspec.json.Decoder(_Answer).decode

    def group(self, raw: dict[int, bytes]) -> tuple[dict[Group, dict[int, Record]], list[int]]:
        """Sort records by their files; also return the keys of undecodable records."""
        groups: dict[Group, dict[int, Record]] = {}
        strange = []
        for key, content in raw.items():
            try:
                record = self._record(content)
                date = datetime.fromtimestamp(record.at, UTC).date().isoformat()
            # The last three mean that the time is not a valid date.
            except (msgspec.MsgspecError, ValueError, OverflowError, OSError):
                strange.append(key)
                continue
            groups.setdefault(Group(record.name, record.version, date), {})[key] = record
        return groups, strange

    def table(self, group: Group, records: list[Record]) -> tuple[pa.Table | None, list[str]]:
        """Return the rows of these records, and a reason for each one that could not be decoded.

        Columns: ``at``, ``request_id``, ``row`` (from 0, in its request), ``alias``, one per input
        of the model, ``prediction``. An input with one of these names becomes ``input_<name>``. The
        table is None if it would be empty.
        """
        # A fault in one model's folder or records must not affect other models.
        try:
            decoder = self._decoder(group)
        except (OSError, KeyError) as error:
            return None, [f"the version is no longer on this host ({error!r})"] * len(records)
        except Exception as error:
            return None, [f"its prepared files cannot be read ({error!r})"] * len(records)
        try:
            return self._made(decoder, records)
        except Exception as error:
            return None, [f"no table can be made of them ({type(error).__name__})"] * len(records)

    def _made(self, decoder: Decoder, records: list[Record]) -> tuple[pa.Table | None, list[str]]:
        own: dict[str, list[Any]] = {name: [] for name, _ in _OWN}
        inputs: dict[str, list[Any]] = {}
        predictions: list[Any] = []
        reasons = []
        for record in records:
            try:
                columns, predicted = self._rows(decoder, record)
            except Undecodable as error:
                reasons.append(str(error))
                continue
            count = len(predicted)
            own["at"] += [int(record.at * 1000)] * count
            own["request_id"] += [record.request_id] * count
            own["row"] += range(count)
            own["alias"] += [record.alias] * count
            for name, values in columns.items():
                inputs.setdefault(name, []).extend(values)
            predictions += predicted
        if not predictions:
            return None, reasons
        types = {column.name: column.type for column in decoder.columns}
        arrays = {name: pa.array(own[name], type_) for name, type_ in _OWN}
        for name, values in inputs.items():
            # Tensors have no columns.
            array = _array(values, types[name]) if name in types else _inferred(values)
            arrays[f"input_{name}" if name in _RESERVED else name] = array
        arrays["prediction"] = _inferred(predictions)
        return pa.table(arrays), reasons

    def _rows(self, decoder: Decoder, record: Record) -> tuple[dict[str, list[Any]], list[Any]]:
        try:
            batch = decoder.decode(record.body, max_rows=1_000_000)
            predictions = self._answer(record.answer).predictions
        except RequestError as problem:
            raise Undecodable(f"the body: {problem.kind}") from None
        except msgspec.MsgspecError:
            raise Undecodable("the answer has no predictions") from None
        if batch.rows != len(predictions):
            raise Undecodable(f"{len(predictions)} predictions for {batch.rows} rows")
        return batch.columns(), predictions

    def _decoder(self, group: Group) -> Decoder:
        # Read again for each file: after a model is deleted, a new one may have the same name and
        # version.
        state = msgspec.json.decode((self._state_directory / "state.json").read_bytes())
        folder = state["models"][group.name]["versions"][group.version]["folder"]
        return decoder_in(self._state_directory / folder)


def _array(values: list[Any], mlflow_type: str) -> pa.Array:
    if mlflow_type not in _TYPES:
        return pa.array([None if v is None else _json(v) for v in values], pa.string())
    type_ = _TYPES[mlflow_type]
    if pa.types.is_timestamp(type_):
        return pa.array(values, pa.string()).cast(type_)
    return pa.array(values, type_)


def _inferred(values: list[Any]) -> pa.Array:
    """Return the values in their common type; as a last resort, as JSON."""
    try:
        # First only the type: for objects with many different keys, such as ids, the array has a
        # place for each key in each row.
        type_ = pa.infer_type(values)
        if _shape(type_).readable:
            array = pa.array(values, type_)
            # JSON has no NaN, so if all values are null, they were NaN.
            return array.cast(pa.float64()) if pa.types.is_null(array.type) else array
    except (pa.ArrowException, OverflowError):
        pass
    if {type(value) for value in values} <= {int, float, type(None)} and any(
        isinstance(value, float) for value in values
    ):
        with suppress(OverflowError):
            # Arrow refuses to mix floats with whole numbers that a float would round.
            return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([_json(value) for value in values], pa.string())


class _Shape(NamedTuple):
    """The nesting of a type: whether Parquet and its readers take it, and its number of leaves."""

    readable: bool
    leaves: int


def _shape(type_: pa.DataType, depth: int = 0) -> _Shape:
    children = [type_.field(i).type for i in range(type_.num_fields)]
    if depth > _DEEPEST or len(children) > _MOST_LEAVES:
        return _Shape(False, 0)
    if not children:
        # Parquet does not support objects without members.
        return _Shape(not pa.types.is_struct(type_), 1)
    shapes = [_shape(child, depth + 1) for child in children]
    leaves = sum(shape.leaves for shape in shapes)
    return _Shape(all(shape.readable for shape in shapes) and leaves <= _MOST_LEAVES, leaves)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
