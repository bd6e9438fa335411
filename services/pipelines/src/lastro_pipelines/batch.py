"""Score many rows at once: files in, the same rows with predictions out, and where they came from.

The model is prepared and answers by the model API's own code, so that a batch gets what a request
would get. Files are streamed: the memory needed does not grow with them.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from model_api.common.storage import locate, put, writing
from model_api.model.signature import Column
from model_api.model.version import Version, open_version
from model_api.preparing.errors import PrepareError
from model_api.preparing.prepare import prepare
from pyarrow.fs import FileSelector, FileSystem, FileType

from lastro_pipelines import columns, tracking

EXPERIMENT = "batch"
ALIAS = "champion"
BASE_VARIABLE = "LASTRO_BATCH_URL"
"""What addresses that are not whole begin with."""

LINEAGE = "_lineage.json"
SUCCESS = "_SUCCESS"
PREDICTION = "prediction"
VERSION = "model_version"

_ROWS = 20_000
# Without a buffer, the column of a row group would be read as a whole.
_BUFFER_BYTES = 1024 * 1024
# Without threads, errors name the row.
_READING = pyarrow.csv.ReadOptions(use_threads=False)
_PARSING = pyarrow.csv.ParseOptions(newlines_in_values=True)
# As a signature's columns are read from a CSV file, which has no types of its own. Others are text,
# times among them: with a zone or without one.
_CSV_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
}


class BatchError(RuntimeError):
    """The batch cannot be scored; the message names the file, and column or row, at fault."""


@dataclass
class Source:
    """One file to score.

    Attributes:
        path: in its file system.
        size: in bytes.
        etag: of its content, where the file system tells one.
        output: the name of the file that its rows were written to.
        rows: how many that were.
    """

    path: str
    size: int
    etag: str | None
    output: str
    rows: int = 0
    columns: list[str] = field(default_factory=list)


def score(
    pipeline_run_id: str,
    *,
    model: str,
    source: str,
    target: str,
    alias: str = ALIAS,
    version: str | None = None,
    experiment: str = EXPERIMENT,
) -> dict[str, Any]:
    """Score every CSV and Parquet file below ``source`` with one version of a model.

    The rows, with the columns ``prediction`` and ``model_version`` added, are written as Parquet
    below ``<target>/model=<model>/version=<version>/run=<pipeline_run_id>/``: one file for each
    that was read, then ``_lineage.json``, and last ``_SUCCESS``. A folder without it is not whole.
    The same call again writes the same folder anew, and nothing else.

    Args:
        pipeline_run_id: unique name of this run of the pipeline.
        model: the registered model.
        source: ``s3://bucket/prefix`` or ``file:///folder``; or what is to be appended to the
            variable ``LASTRO_BATCH_URL``.
        target: likewise; not below ``source``, nor above.
        alias: names the version.
        version: its number, which goes before the alias.
        experiment: the MLflow experiment to write to.

    Returns:
        what ``_lineage.json`` holds, and ``output``, the address of the folder.

    Raises:
        BatchError: the model or the data is not usable; the message says why.
    """
    source, target = resolve(source), resolve(target)
    if f"{source}/".startswith(f"{target}/") or f"{target}/".startswith(f"{source}/"):
        raise BatchError(f"the target {target} and the source {source} lie in one another")
    client, experiment_id = tracking.connect(experiment)
    number = version or _aliased(client, model, alias)
    tags = {tracking.PIPELINE_RUN_TAG: pipeline_run_id, "model": model, "version": number}
    for run in tracking.find_runs(client, experiment_id, pipeline_run_id, tags):
        if run.info.status == RunStatus.to_string(RunStatus.RUNNING):
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))
    with mlflow.start_run(
        experiment_id=experiment_id, run_name=pipeline_run_id, tags=tags
    ) as active:
        started = datetime.now(UTC)
        asked = {"model": model, "version": number, "alias": None if version else alias}
        mlflow.log_params(asked | {"source": source, "target": target})
        with _opened(model, number) as opened:
            folder = "/".join(
                (
                    target,
                    f"model={_plain(model)}",
                    f"version={number}",
                    f"run={_plain(pipeline_run_id)}",
                )
            )
            sources = _score_all(opened, source, folder)
        finished = datetime.now(UTC)
        lineage = {
            **asked,
            "run_id": opened.run_id,
            "engine": opened.engine,
            "source": source,
            "files": [
                {name: getattr(file, name) for name in ("path", "size", "etag", "rows", "output")}
                for file in sources
            ],
            "rows": sum(file.rows for file in sources),
            "started": started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "pipeline_run_id": pipeline_run_id,
            "mlflow_run_id": active.info.run_id,
        }
        _declare(folder, lineage)
        mlflow.log_dict(lineage, "lineage.json")
        mlflow.log_metrics(
            {
                "rows": lineage["rows"],
                "files": len(sources),
                "seconds": (finished - started).total_seconds(),
            }
        )
    return {**lineage, "output": folder}


def resolve(address: str) -> str:
    """Return the whole address of one that may be meant within ``LASTRO_BATCH_URL``.

    Raises:
        BatchError: it has no scheme, and the variable is not set.
    """
    address = address.rstrip("/")
    if "://" in address:
        try:
            locate(address)
        except ValueError as error:
            raise BatchError(str(error)) from None
        return address
    base = os.environ.get(BASE_VARIABLE, "").rstrip("/")
    if not base or not address or ".." in address.split("/"):
        raise BatchError(
            f"{address!r} is no address: give one such as s3://bucket/batch/in"
            + ("" if base else f", or set {BASE_VARIABLE} to what it is to be appended to")
        )
    return f"{base}/{address.lstrip('/')}"


def _aliased(client: MlflowClient, model: str, alias: str) -> str:
    try:
        return str(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        raise BatchError(f"no version of {model!r} is {alias!r}: {error}") from error


def _plain(name: str) -> str:
    """Return a name as part of a key in S3 that no tool has to escape, and that is no other's."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def _opened(model: str, number: str) -> Iterator[Version]:
    """Prepare the version in a folder of its own, and load it."""
    with TemporaryDirectory(prefix="batch-") as folder:
        try:
            prepare(model, number, Path(folder) / "version")
        except (PrepareError, MlflowException) as error:
            raise BatchError(f"version {number} of {model!r} cannot be used: {error}") from error
        yield open_version(Path(folder) / "version")


def _score_all(version: Version, source: str, folder: str) -> list[Source]:
    system, root = locate(source)
    sources = _found(system, root, source)
    for file in sources:
        _check_columns(version, system, file)
    written, output = locate(folder)
    _empty(written, output)
    for file in sources:
        file.rows = _score_file(version, system, file, written, output)
    return sources


def _found(system: FileSystem, root: str, source: str) -> list[Source]:
    """List the files, in the order of their names; those that begin with _ or . are none."""
    selector = FileSelector(root, recursive=True, allow_not_found=True)
    found = sorted(
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
    if not found:
        raise BatchError(f"there is no .csv and no .parquet file below {source}")
    return [
        Source(info.path, info.size, _etag(system, info.path), f"part-{number:05}.parquet")
        for number, info in enumerate(found)
    ]


def _etag(system: FileSystem, path: str) -> str | None:
    with system.open_input_file(path) as content:
        etag = (content.metadata() or {}).get("ETag")
    return etag.decode().strip('"') if etag else None


def _check_columns(version: Version, system: FileSystem, file: Source) -> None:
    with system.open_input_file(file.path) as content:
        try:
            schema = _schema(content, file)
        except pa.ArrowException as error:
            raise BatchError(f"{file.path} cannot be read: {error}") from error
    file.columns = schema.names
    if twice := {name for name in file.columns if file.columns.count(name) > 1}:
        raise BatchError(f"{file.path}: has the column {min(twice)!r} twice")
    for name in (PREDICTION, VERSION):
        if name in file.columns:
            raise BatchError(f"{file.path}: has a column {name!r}, which is added here: rename it")
    for column in version.decoder.columns:
        if column.required and column.name not in file.columns:
            raise BatchError(
                f"{file.path}: has no column {column.name!r}, which version {version.number} of"
                f" {version.name!r} needs; it has {', '.join(map(repr, file.columns))}"
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


def _batches(version: Version, content: pa.NativeFile, file: Source) -> Iterator[pa.RecordBatch]:
    """Yield the rows, a bounded number at a time."""
    if not _is_csv(file):
        parquet = pq.ParquetFile(content, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        yield from parquet.iter_batches(batch_size=_ROWS, use_threads=False)
        return
    taken = {column.name: _csv_type(column) for column in version.decoder.columns}
    # Columns that the model does not take are copied as they are.
    types = {name: taken.get(name, pa.string()) for name in file.columns}
    converting = pyarrow.csv.ConvertOptions(column_types=types)
    with pyarrow.csv.open_csv(content, _READING, _PARSING, converting) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)


def _empty(system: FileSystem, folder: str) -> None:
    """Remove what an earlier attempt left, first what declares it whole."""
    selector = FileSelector(folder, allow_not_found=True)
    names = [info.base_name for info in system.get_file_info(selector) if info.is_file]
    for name in sorted(names, key=lambda name: (name != SUCCESS, name)):
        system.delete_file(f"{folder}/{name}")


def _score_file(
    version: Version, system: FileSystem, file: Source, written: FileSystem, output: str
) -> int:
    """Score one file; return its number of rows."""
    rows = 0
    writer = None
    with ExitStack() as whole:
        try:
            with system.open_input_file(file.path) as content:
                for batch in _batches(version, content, file):
                    table = _scored(version, file, batch, rows)
                    if writer is None:
                        sink = whole.enter_context(writing(written, f"{output}/{file.output}"))
                        writer = whole.enter_context(pq.ParquetWriter(sink, table.schema))
                    writer.write_table(table.cast(writer.schema))
                    rows += table.num_rows
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise BatchError(f"{file.path}, after row {rows}: {error}") from error
        if _etag(system, file.path) != file.etag:
            raise BatchError(f"{file.path}: was replaced while it was read; score it again")
    return rows


def _scored(version: Version, file: Source, batch: pa.RecordBatch, before: int) -> pa.Table:
    """Return the rows with their predictions; ``before`` of the file's rows came before them."""
    try:
        frame = pd.DataFrame(
            {
                column.label if version.decoder.named else place: columns.series(
                    column, _values(column, file, batch)
                )
                for place, column in enumerate(version.decoder.columns)
                if column.name in file.columns
            }
        )
        # As the file counts them, from 0: an error names a row by its place in the index.
        frame.index += before
        predictions = columns.answers(version.predict_frame(frame))
    except ValueError as error:
        raise BatchError(f"{file.path}: {error}") from error
    except Exception as error:
        last = before + batch.num_rows - 1
        raise BatchError(
            f"{file.path}, rows {before} to {last}: the model fails on them:"
            f" {type(error).__name__}: {error}"
        ) from error
    if len(predictions) != batch.num_rows:
        raise BatchError(f"{file.path}: {len(predictions)} predictions for {batch.num_rows} rows")
    table = pa.Table.from_batches([batch])
    numbers = pa.array([version.number] * batch.num_rows, pa.string())
    return table.append_column(PREDICTION, predictions).append_column(VERSION, numbers)


def _values(column: Column, file: Source, batch: pa.RecordBatch) -> pa.Array:
    values = batch.column(column.name)
    if _is_csv(file) and column.type == "string" and not column.required:
        # A CSV file has no other way to say that there is none.
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
    return values


def _declare(folder: str, lineage: dict[str, Any]) -> None:
    system, path = locate(folder)
    content = msgspec.json.format(msgspec.json.encode(lineage), indent=2)
    for name, text in ((LINEAGE, content), (SUCCESS, b"")):
        put(system, f"{path}/{name}", text)
