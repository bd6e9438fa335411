"""Score files: write their rows with predictions, and record the lineage.

The model API's own code prepares the model and computes the answers, so a batch gets the same
answers as a request. Files are streamed, so memory does not grow with their size.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from model_api.common.storage import locate, put, writing
from model_api.downloading.download import DownloadError, download
from model_api.model.version import Version, open_version
from model_api.preparing.errors import PrepareError
from model_api.preparing.prepare import prepare
from pyarrow.fs import FileSelector, FileSystem

from lastro_pipelines import columns, files, tracking
from lastro_pipelines.files import BatchError, Source
from lastro_pipelines.results import Batch, Lineage, ScoredModel

EXPERIMENT = "batch"
ALIAS = "champion"
BASE_VARIABLE = "LASTRO_BATCH_URL"
"""The address that a relative ``source`` or ``target`` is appended to."""

LINEAGE = "_lineage.json"
SUCCESS = "_SUCCESS"


def score(
    pipeline_run_id: str,
    *,
    model: str,
    source: str,
    target: str,
    alias: str = ALIAS,
    version: str | None = None,
    experiment: str = EXPERIMENT,
) -> Batch:
    """Score every CSV and Parquet file below ``source`` with one version of a model.

    The rows, with the columns ``prediction`` and ``model_version`` added, are written as Parquet
    below ``<target>/model=<model>/version=<version>/run=<pipeline_run_id>/``: one file for each
    file read, then ``_lineage.json``, and last ``_SUCCESS``. A folder without ``_SUCCESS`` is
    incomplete. A repeated call replaces the same folder, and nothing else.

    Args:
        pipeline_run_id: unique name of this run of the pipeline.
        model: the registered model.
        source: ``s3://bucket/prefix`` or ``file:///folder``, or a path relative to the variable
            ``LASTRO_BATCH_URL``.
        target: an address like ``source``; neither may contain the other.
        alias: the alias of the version.
        version: the version's number, instead of the alias.
        experiment: the MLflow experiment to write to.

    Returns:
        The content of ``_lineage.json``, and ``output``, the address of the folder.

    Raises:
        BatchError: the model or the data cannot be used; the message says why.
    """
    source, target = resolve(source), resolve(target)
    if f"{source}/".startswith(f"{target}/") or f"{target}/".startswith(f"{source}/"):
        raise BatchError(
            f"the target {target} and the source {source} overlap: use separate prefixes"
        )
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
        scored: ScoredModel = {
            "model": model,
            "version": number,
            "alias": None if version else alias,
        }
        mlflow.log_params({**scored, "source": source, "target": target})
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
        lineage: Lineage = {
            **scored,
            "run_id": opened.run_id,
            "engine": opened.engine,
            "source": source,
            "files": [file.lineage() for file in sources],
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
    """Return the full address; a relative one is appended to ``LASTRO_BATCH_URL``.

    Raises:
        BatchError: the address is invalid, or is relative and the variable is not set.
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
            f"{address!r} is not a valid address: use one such as s3://bucket/batch/in"
            + ("" if base else f", or set {BASE_VARIABLE} to make relative addresses possible")
        )
    return f"{base}/{address.lstrip('/')}"


def _aliased(client: MlflowClient, model: str, alias: str) -> str:
    try:
        return str(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        raise BatchError(f"{model!r} has no version with the alias {alias!r}: {error}") from error


def _plain(name: str) -> str:
    """Return a name as a unique part of an S3 key that no tool has to escape."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def _opened(model: str, number: str) -> Iterator[Version]:
    """Prepare the version in a temporary folder, and load it."""
    with TemporaryDirectory(prefix="batch-") as folder:
        work = Path(folder)
        try:
            downloaded = download(model, number, work)
            prepare(work, name=model, version=number, run_id=downloaded.run_id)
        except (DownloadError, PrepareError, MlflowException) as error:
            raise BatchError(f"version {number} of {model!r} cannot be used: {error}") from error
        yield open_version(work)


def _score_all(version: Version, source: str, folder: str) -> list[Source]:
    system, root = locate(source)
    sources = files.found(system, root, source)
    for file in sources:
        files.check_columns(version, system, file)
    written, output = locate(folder)
    _empty(written, output)
    for file in sources:
        file.rows = _score_file(version, system, file, written, output)
    return sources


def _empty(system: FileSystem, folder: str) -> None:
    """Remove the files of an earlier attempt, ``_SUCCESS`` first."""
    selector = FileSelector(folder, allow_not_found=True)
    names = [info.base_name for info in system.get_file_info(selector) if info.is_file]
    for name in sorted(names, key=lambda name: (name != SUCCESS, name)):
        system.delete_file(f"{folder}/{name}")


def _score_file(
    version: Version, system: FileSystem, file: Source, written: FileSystem, output: str
) -> int:
    """Score one file and return its number of rows."""
    rows = 0
    writer = None
    with ExitStack() as whole:
        try:
            with system.open_input_file(file.path) as content:
                for batch in files.batches(version, content, file):
                    table = _scored(version, file, batch, rows)
                    if writer is None:
                        sink = whole.enter_context(writing(written, f"{output}/{file.output}"))
                        writer = whole.enter_context(pq.ParquetWriter(sink, table.schema))
                    writer.write_table(table.cast(writer.schema))
                    rows += table.num_rows
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise BatchError(f"{file.path}, after row {rows}: {error}") from error
        if files.etag(system, file.path) != file.etag:
            raise BatchError(
                f"{file.path}: the file was replaced while it was read. Score it again"
            )
    return rows


def _scored(version: Version, file: Source, batch: pa.RecordBatch, before: int) -> pa.Table:
    """Return the rows with their predictions; ``before`` counts the file's earlier rows."""
    try:
        frame = pd.DataFrame(
            {
                column.label if version.decoder.named else place: columns.series(
                    column, files.values(column, file, batch)
                )
                for place, column in enumerate(version.decoder.columns)
                if column.name in file.columns
            }
        )
        # Errors name a row by its index: its number in the file, from 0.
        frame.index += before
        predictions = columns.answers(version.predict_frame(frame))
    except ValueError as error:
        raise BatchError(f"{file.path}: {error}") from error
    except Exception as error:
        last = before + batch.num_rows - 1
        raise BatchError(
            f"{file.path}, rows {before} to {last}: the model failed:"
            f" {type(error).__name__}: {error}"
        ) from error
    if len(predictions) != batch.num_rows:
        raise BatchError(f"{file.path}: {len(predictions)} predictions for {batch.num_rows} rows")
    table = pa.Table.from_batches([batch])
    numbers = pa.array([version.number] * batch.num_rows, pa.string())
    return table.append_column(files.PREDICTION, predictions).append_column(files.VERSION, numbers)


def _declare(folder: str, lineage: Lineage) -> None:
    system, path = locate(folder)
    content = msgspec.json.format(msgspec.json.encode(lineage), indent=2)
    for name, text in ((LINEAGE, content), (SUCCESS, b"")):
        put(system, f"{path}/{name}", text)
