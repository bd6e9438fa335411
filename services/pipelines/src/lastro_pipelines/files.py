"""The files of a batch: found, checked against the model's inputs, and read in bounded pieces."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from model_api.model.signature import Column
from model_api.model.version import Version
from pyarrow.fs import FileSelector, FileSystem, FileType

from lastro_pipelines import columns
from lastro_pipelines.results import ScoredFile

PREDICTION = "prediction"
"""The column that a batch adds for the predictions."""
VERSION = "model_version"
"""The column that a batch adds for the number of the model's version."""

_ROWS = 20_000
# Without a buffer, each column of a row group is read into memory as a whole.
_BUFFER_BYTES = 1024 * 1024
# Without threads, errors name the row.
_READING = pyarrow.csv.ReadOptions(use_threads=False)
_PARSING = pyarrow.csv.ParseOptions(newlines_in_values=True)
# Type of a signature -> type that a CSV file's column is read as. All other types are read as text:
# also times, which may have a zone or not.
_CSV_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
}


class BatchError(RuntimeError):
    """The batch cannot be scored; the message names the file, and the column or row."""


@dataclass
class Source:
    """One file to score.

    Attributes:
        path: its path in its file system.
        size: its size in bytes.
        etag: the ETag of its content, if the file system has one.
        output: the name of the file that its rows are written to.
        rows: how many rows were written.
        columns: the names of its columns.
    """

    path: str
    size: int
    etag: str | None
    output: str
    rows: int = 0
    columns: list[str] = field(default_factory=list)

    def lineage(self) -> ScoredFile:
        """Return the file's entry in ``_lineage.json``."""
        return {
            "path": self.path,
            "size": self.size,
            "etag": self.etag,
            "rows": self.rows,
            "output": self.output,
        }


def found(system: FileSystem, root: str, source: str) -> list[Source]:
    """Return the files below a prefix in the order of their names, without those named _* or .*.

    Raises:
        BatchError: there are none.
    """
    selector = FileSelector(root, recursive=True, allow_not_found=True)
    infos = sorted(
        (
            info
            for info in system.get_file_info(selector)
            if info.type == FileType.File
            and info.extension.lower() in ("csv", "parquet")
            and not any(
                part.startswith(("_", "."))
                for part in info.path.removeprefix(root).strip("/").split("/")
            )
        ),
        key=lambda info: info.path,
    )
    if not infos:
        raise BatchError(f"there is no .csv or .parquet file below {source}")
    return [
        Source(info.path, info.size, etag(system, info.path), f"part-{number:05}.parquet")
        for number, info in enumerate(infos)
    ]


def etag(system: FileSystem, path: str) -> str | None:
    """Return the ETag of a file's content, None if the file system has none."""
    with system.open_input_file(path) as content:
        tag = (content.metadata() or {}).get("ETag")
    return tag.decode().strip('"') if tag else None


def check_columns(version: Version, system: FileSystem, file: Source) -> None:
    """Check a file's columns against the model's inputs, and note their names.

    Raises:
        BatchError: a column is missing, repeated, of another type or reserved.
    """
    with system.open_input_file(file.path) as content:
        try:
            schema = _schema(content, file)
        except pa.ArrowException as error:
            raise BatchError(f"{file.path} cannot be read: {error}") from error
    file.columns = schema.names
    if twice := {name for name in file.columns if file.columns.count(name) > 1}:
        raise BatchError(f"{file.path}: column {min(twice)!r} appears more than once")
    for name in (PREDICTION, VERSION):
        if name in file.columns:
            raise BatchError(
                f"{file.path}: column {name!r} has the name of an output column. Rename it"
            )
    for column in version.decoder.columns:
        if column.required and column.name not in file.columns:
            raise BatchError(
                f"{file.path}: column {column.name!r} is missing, which version {version.number} of"
                f" {version.name!r} needs. The file has {', '.join(map(repr, file.columns))}"
            )
        if column.name in file.columns:
            kind = _csv_type(column) if _is_csv(file) else schema.field(column.name).type
            if reason := columns.fault(column, kind):
                raise BatchError(f"{file.path}: {reason}")


def _is_csv(file: Source) -> bool:
    return file.path.lower().endswith(".csv")


def _csv_type(column: Column) -> pa.DataType:
    return _CSV_TYPES.get(column.type, pa.string())


def _schema(content: pa.NativeFile, file: Source) -> pa.Schema:
    if not _is_csv(file):
        return pq.read_schema(content)
    with pyarrow.csv.open_csv(content, _READING, _PARSING) as reader:
        return reader.schema


def batches(version: Version, content: pa.NativeFile, file: Source) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows in batches of bounded size."""
    if not _is_csv(file):
        parquet = pq.ParquetFile(content, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        yield from parquet.iter_batches(batch_size=_ROWS, use_threads=False)
        return
    taken = {column.name: _csv_type(column) for column in version.decoder.columns}
    # Columns that the model does not take are copied as text.
    types = {name: taken.get(name, pa.string()) for name in file.columns}
    converting = pyarrow.csv.ConvertOptions(column_types=types)
    with pyarrow.csv.open_csv(content, _READING, _PARSING, converting) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)


def values(column: Column, file: Source, batch: pa.RecordBatch) -> pa.Array:
    """Return a column of the model's inputs from a file's rows, empty cells of text as missing."""
    array = batch.column(column.name)
    if _is_csv(file) and column.type == "string" and not column.required:
        # An empty cell is the only way to write a missing value in a CSV file.
        array = pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)
    return array
