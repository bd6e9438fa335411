"""MLflow's contract: a request is read and answered as `mlflow models serve` does.

A body that both contracts read alike goes the fast way, past MLflow. Any other goes through the
functions of MLflow's own scoring server: they parse it, coerce it to the signature and refuse it.
If the result is what the strict contract takes as well, the version's engine answers; if not, such
as null in a column of text, the original model does, for nothing else was compared with it.
"""

import csv
import io
import json
import logging
import math
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
import numpy as np

from model_api.batch import Batch
from model_api.checking import parse, too_many_rows
from model_api.decoding import FORMATS, Decoder
from model_api.engines import PyfuncEngine
from model_api.problems import Problem
from model_api.signature import column_type, struct_of
from model_api.version import Version, encode, first_line

# Types whose values MLflow reads in JSON as the strict decoder does.
_PLAIN = frozenset(("boolean", "integer", "long", "float", "double", "string"))
# The only way to write this character in JSON. Numpy's arrays of text lose it at the end of one.
_NUL = rb"\u0000"
# A table may have more cells than its body has bytes: rows that lack most columns, or a long text
# for whose length numpy reserves room in every row. Beyond this many, memory is at stake.
_CELLS = 1_000_000
_CHARACTERS = 16_000_000
# Pandas spends some 40 microseconds on each column that the model does not have, and on each
# repeated name in CSV a look at all names before it.
_UNKNOWN_COLUMNS = 10_000
_REPEATED_NAMES = 100
# A decoder is made for each order of columns, those that the model does not have included.
_UNKNOWN_FAST = 200
# MLflow copies nested lists by recursion, which fails at some hundred.
_DEPTH = 64


class Answered(NamedTuple):
    """The answer to a request by MLflow's contract.

    Attributes:
        content: members of a JSON object, without its braces; or the whole answer.
        whole: whether it is that: to a body of chat, completions or embeddings.
        body: the same rows as the strict contract takes them, for the prediction log; None where
            it does not take them.
    """

    content: bytes
    whole: bool
    body: bytes | None


class Rows(NamedTuple):
    """Rows that were read without MLflow; ``body`` has them as the strict contract takes them."""

    batch: Batch
    body: bytes


class Invocations:
    """Answers requests for one version by MLflow's contract; any number of threads may use it.

    It does not hold the version, which is to be freed once the store drops it.

    Args:
        version: that answers.
    """

    def __init__(self, version: Version) -> None:
        self._metadata: Any = None
        decoder = version.decoder
        alike = all(column.type in _PLAIN for column in decoder.columns)
        # Of parameters, their defaults included, only the original is sure to know.
        alike = alike and not (decoder.params and version.engine != PyfuncEngine.name)
        # Where Python's type hints are the signature, MLflow passes on what came, as it came.
        alike = alike and not version.manifest["type_hints"]
        self._common = _CommonDecoder(decoder, version.manifest) if alike else None

    def decode(self, body: bytes, max_rows: int) -> Rows | None:
        """Return the rows of a JSON body; None if only MLflow's own parsing may read it."""
        if self._common is None or _NUL in body:
            return None
        try:
            rows = self._common.common(body)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
            return None
        if rows is None or not rows.batch.rows:
            return None
        if rows.batch.rows > max_rows:
            raise too_many_rows(rows.batch.rows, max_rows)
        return rows

    def answer(self, version: Version, body: bytes, content_type: str, max_rows: int) -> Answered:
        """Return the answer to a body by MLflow's own code; too slow for an event loop.

        Raises:
            Problem: 400 ``invalid-input``, MLflow refuses the body; 400 ``model-refuses``, the
                model does; 413 ``too-many-rows`` or ``table-too-large``; 415, another content type.
        """
        from mlflow.pyfunc import scoring_server

        if self._metadata is None:
            self._metadata = version.metadata()
        schema = self._metadata.get_input_schema()
        kind = content_type.partition(";")[0].strip()
        if kind == scoring_server.CONTENT_TYPE_PARQUET:
            raise unsupported("Parquet is not taken: a small file may unpack to gigabytes")
        model = _Model(version, self._metadata, max_rows)
        try:
            response = scoring_server.invocations(
                _bounded(body, kind, max_rows, version.decoder), content_type, model, schema
            )
        except Exception as error:
            raise model.problem(error) from error
        if response.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            raise unsupported(response.response.split(". ")[0])
        # The model's stand-in has answered with an empty list: has MLflow put anything around it?
        whole = response.response == "[]"
        content = model.predictions if whole else b'"predictions":' + model.predictions
        return Answered(content, whole, model.body)


def load_mlflow() -> None:
    """Import MLflow: three seconds and 115 MiB, which a worker spends when it is first needed."""
    import mlflow.models.utils
    import mlflow.pyfunc.scoring_server  # noqa: F401

    # A text in CSV may be as long as a body.
    csv.field_size_limit(2**31 - 1)
    # It warns of each unknown column and parameter, by the names that clients choose.
    logging.getLogger("mlflow").setLevel(logging.ERROR)


class _CommonDecoder(Decoder):
    """Takes only bodies that MLflow's server takes as well, and reads as the strict contract does.

    MLflow leaves out a column that a row lacks, and makes of null what the column's type has for
    it: only for floats that is NaN. So every column must be there, and null only in floats. Of a
    frame it takes the columns that the model has, and passes over others.
    """

    def __init__(self, decoder: Decoder, manifest: dict[str, Any]) -> None:
        inputs = manifest["signature"]["inputs"]
        gaps = [c.name for c in decoder.columns if c.nullable and c.type in ("float", "double")]
        super().__init__(
            [entry | {"required": True} for entry in inputs],
            decoder.params,
            manifest["categories"],
            gaps,
        )
        # What the engines were compared with: columns that may lack a value are floats in an array.
        self.layout = decoder.layout
        self._frame = None
        if self._records is not None and self.named:
            names = [column.name for column in self.columns]
            row = struct_of(names, list(map(column_type, self.columns)), closed=False)
            self._frame = msgspec.json.Decoder(list[row])
        # MLflow takes for all columns without names the type of the first.
        self._lists_alike = bool(self.tensors) or (
            not self.named and len({column.type for column in self.columns}) == 1
        )

    def common(self, body: bytes) -> Rows | None:
        """Return the rows; None, or any error of decoding, if the body is not read alike."""
        if body.lstrip()[:1] != b"{":
            return None
        name, content, given = self._opened(body)
        if given:
            return None
        params = self._parameters(None)
        if name == "dataframe_split":
            split = self._split.decode(content)
            if self.tensors or not self._split_alike(split):
                return None
            batch = self._decode_split(content, params)
            more = len(split.columns or ()) > len(self.columns)
            return Rows(batch, _strict_body(batch, None) if more else body)
        if content[:1] == b"{":
            by_column = name == "inputs" and self.named and self._by_column is not None
            return Rows(self._decode_columns(content, params), body) if by_column else None
        records = content[1:].lstrip()[:1] == b"{"
        if records and (self.tensors or not self.named):
            return None
        if not records and (name == "dataframe_records" or not self._lists_alike):
            return None
        try:
            return Rows(self._list(content, params), body)
        except msgspec.ValidationError:
            if name != "dataframe_records" or self._frame is None:
                raise
        values = self._frame.decode(content)
        batch = Batch(self.layout, len(values), self._times(values), params=params)
        return Rows(batch, _strict_body(batch, None))

    def _types_in_order(self, names: tuple[str, ...]) -> list[Any]:
        if len(names) > len(self._names) + _UNKNOWN_FAST:
            raise ValueError("more columns than a decoder is made for")
        types = {column.name: column_type(column) for column in self.columns}
        return [types.get(name, Any) for name in names]

    def _split_alike(self, split: Any) -> bool:
        if (split.columns is not None) != self.named:
            return False
        # A model that is Python code may look at the index.
        return split.index is None or split.index == list(range(len(split.index)))


class _Model:
    """Stands for the pyfunc in MLflow's scoring server: checks its input, has it answered.

    Attributes:
        metadata: MLflow's ``Model``.
        predictions: as JSON.
        body: see ``Answered``.
    """

    def __init__(self, version: Version, metadata: Any, max_rows: int) -> None:
        self.metadata = metadata
        self.predictions = b""
        self.body: bytes | None = None
        self._version = version
        self._max_rows = max_rows
        self._refusal: Exception | None = None
        self._asked = False

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> list[Any]:
        """Compute the answer, and return an empty one for MLflow to wrap."""
        try:
            self._predict(data, params)
        except Exception as error:
            # MLflow wraps it into a message with the whole input.
            self._refusal = error
            raise
        return []

    def _predict(self, data: Any, params: dict[str, Any] | None) -> None:
        from mlflow.models.utils import _enforce_params_schema, _enforce_schema

        batch = None
        if self.metadata._is_signature_from_type_hint():
            if isinstance(data, list) and len(data) > self._max_rows:
                raise too_many_rows(len(data), self._max_rows)
        else:
            enforced = _enforce_schema(data, self.metadata.get_input_schema())
            checked = _enforce_params_schema(params, self.metadata.get_params_schema())
            batch = _batch_of(self._version.decoder, enforced, self._max_rows)
        self._asked = True
        if batch is None or checked or self._version.engine == PyfuncEngine.name:
            answer = self._version.original().predict(data, params=params)
        else:
            try:
                answer = self._version.answer(batch)
            except Exception:
                # It may be a limit of the engine, such as 32 bits: the original decides.
                answer = self._version.original().predict(data, params=params)
        self.predictions = encode(answer)
        if batch is not None:
            self.body = _strict_body(batch, checked)

    def problem(self, error: Exception) -> Problem:
        """Return the problem of whatever MLflow's scoring server has raised."""
        if isinstance(self._refusal, Problem):
            return self._refusal
        if isinstance(error, Problem):
            return error
        reason = first_line(self._refusal or error)
        if self._asked:
            detail = f"the model refuses the rows: {reason}"
            return Problem(HTTPStatus.BAD_REQUEST, "model-refuses", detail)
        return Problem(HTTPStatus.BAD_REQUEST, "invalid-input", reason)


def _batch_of(decoder: Decoder, enforced: Any, max_rows: int) -> Batch | None:
    """Return the rows that MLflow has coerced; None if the strict contract would not take them.

    Raises:
        Problem: 413, there are too many.
    """
    rows = max(map(len, enforced.values())) if isinstance(enforced, dict) else len(enforced)
    if rows > max_rows:
        raise too_many_rows(rows, max_rows)
    if not rows:
        return None
    if decoder.tensors:
        given = enforced if decoder.named else {None: enforced}
        tensors = {tensor.name: np.asarray(given[tensor.name]) for tensor in decoder.tensors}
        alike = all(
            tensors[tensor.name].dtype == tensor.dtype
            and tensor.dtype.kind in "biuf"
            and len(tensors[tensor.name]) == rows
            and np.isfinite(tensors[tensor.name]).all()
            for tensor in decoder.tensors
        )
        return Batch(decoder.layout, rows, tensors=tensors) if alike else None
    for label, column in zip(decoder.layout.labels, decoder.columns, strict=True):
        if label not in enforced:
            return None
        # None, NaN and what else pandas has for it are the same to MLflow only among floats.
        if column.type not in ("float", "double") and enforced[label].isna().any():
            return None
    try:
        return decoder.batch(enforced)
    except (ValueError, TypeError, OverflowError):
        return None


def _strict_body(batch: Batch, params: dict[str, Any] | None) -> bytes:
    """Return a body of the strict contract with the rows of a batch."""
    tensors = batch.tensors()
    if tensors is not None:
        nested = {name: tensor.tolist() for name, tensor in tensors.items()}
        rows = nested.get(None, nested)
    else:
        columns = batch.columns()
        table = zip(*columns.values(), strict=True)
        rows = [dict(zip(columns, row, strict=True)) for row in table]
    # MLflow puts numpy's numbers into objects.
    return encode({"inputs": rows} | ({"params": params} if params else {}))


def unsupported(reason: str) -> Problem:
    """Return the problem of a body that is neither JSON nor CSV."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        f"{reason}: send application/json or text/csv, in UTF-8",
        headers={"Accept": "application/json, text/csv"},
    )


# ---- how much memory a table may take -----------------------------------------------------------


def _bounded(body: bytes, kind: str, max_rows: int, decoder: Decoder) -> Any:
    """Return the body for MLflow, parsed if it is JSON; Problem if its table is too large."""
    if kind == "text/csv":
        try:
            reader = csv.reader(io.StringIO(body.decode(), newline=""))
            lines = [line for line in reader if line]
        except (UnicodeDecodeError, csv.Error) as error:
            raise Problem(HTTPStatus.BAD_REQUEST, "invalid-input", f"no CSV: {error}") from None
        # The first line has the names.
        if len(lines) - 1 > max_rows:
            raise too_many_rows(len(lines) - 1, max_rows)
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
        # Pandas fills a frame of these labels, whatever the data.
        rows, width = _length(content.get("index")), _length(content.get("columns"))
        content = content.get("data")
    if isinstance(content, list):
        if name.startswith("dataframe") and len(content) > max_rows:
            raise too_many_rows(len(content), max_rows)
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
        # Numpy gives every text of a column as much room as the longest.
        extents = [_extent(values) for values in columns.values()]
        if sum(values * longest for values, longest in extents) > _CHARACTERS:
            raise _too_large("texts of very different lengths are in one column")


def _columns_of(rows: list[Any]) -> dict[Any, list[Any]]:
    columns: dict[Any, list[Any]] = {}
    for row in rows:
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
    """Return how many values there are in nested lists, and how long the longest text is."""
    if depth > _DEPTH:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "invalid-input", f"lists are nested more than {_DEPTH} deep"
        )
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        extents = [_extent(item, depth + 1) for item in value]
        return sum(n for n, _ in extents), max((longest for _, longest in extents), default=0)
    return 1, len(value) if isinstance(value, str) else 0


def _check_cells(cells: int) -> None:
    if cells > _CELLS:
        raise _too_large(f"rows and columns make {cells} cells; {_CELLS} are taken at a time")


def _check_width(width: int, decoder: Decoder) -> None:
    known = len(decoder.columns) + sum(abs(math.prod(t.shape[1:])) for t in decoder.tensors)
    if width > known + _UNKNOWN_COLUMNS:
        raise _too_large(
            f"there are {width} columns; the model has {known}, and"
            f" {_UNKNOWN_COLUMNS} others are taken at a time"
        )


def _check_header(lines: list[list[str]]) -> None:
    for line in lines:
        if len(line) - len(set(line)) > _REPEATED_NAMES:
            raise _too_large(f"more than {_REPEATED_NAMES} columns have the name of another one")
        # Pandas passes over blank lines before the one that has the names.
        if any(map(str.strip, line)):
            return


def _too_large(reason: str) -> Problem:
    return Problem(
        HTTPStatus.CONTENT_TOO_LARGE, "table-too-large", f"{reason}: send less at a time"
    )
