"""MLflow, for all steps: the experiment, and the run that represents one pipeline run."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

PIPELINE_RUN_TAG = "pipeline_run_id"
CANDIDATE_TAG = "candidate"
DATASET_TAG = "dataset_hash"

REFERENCE_ROWS = 1000
HELD_OUT = "_held_out"
# The prediction log renames inputs of these names to input_<name>.
_RESERVED = ("at", "request_id", "row", "alias", "prediction")

# Only characters that are safe between the quotes of MLflow's search filters, which have no escape.
# A value that may be any text, such as a model's name, must not be part of a filter.
_PIPELINE_RUN_ID = re.compile(r"[\w.:+~@ -]{1,250}")


def connect(experiment: str) -> tuple[MlflowClient, str]:
    """Return a client of the tracking server, and the experiment's id; create it if necessary.

    Raises:
        RuntimeError: ``MLFLOW_TRACKING_URI`` is not set. MLflow would write to the local disk,
            where nobody looks.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise RuntimeError(
            "MLFLOW_TRACKING_URI is not set: set it to the MLflow server's URL,"
            " and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD if it requires a login"
        )
    return MlflowClient(), mlflow.set_experiment(experiment).experiment_id


def usable(pipeline_run_id: str) -> str:
    """Return the name of a pipeline run, if MLflow can search for it.

    Raises:
        ValueError: the name has other characters, or is empty or too long.
    """
    if not _PIPELINE_RUN_ID.fullmatch(pipeline_run_id):
        raise ValueError(
            f"pipeline_run_id {pipeline_run_id!r} is not usable: use 1 to 250 letters, digits,"
            " spaces or any of . : + ~ @ _ -"
        )
    return pipeline_run_id


def find_runs(
    client: MlflowClient,
    experiment_id: str,
    pipeline_run_id: str,
    tags: Mapping[str, str] | None = None,
) -> list[Run]:
    """Return the MLflow runs of a pipeline run that have all these tags, newest first."""
    runs = client.search_runs(
        [experiment_id],
        filter_string=f"tags.`{PIPELINE_RUN_TAG}` = '{usable(pipeline_run_id)}'",
        order_by=["attributes.start_time DESC"],
    )
    return [run for run in runs if (tags or {}).items() <= run.data.tags.items()]


def find_pipeline_run(client: MlflowClient, experiment_id: str, pipeline_run_id: str) -> Run | None:
    """Return the parent run of that pipeline run, if `open_pipeline_run` has created it."""
    runs = find_runs(client, experiment_id, pipeline_run_id)
    return next((run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags), None)


def open_pipeline_run(client: MlflowClient, experiment_id: str, pipeline_run_id: str) -> Run:
    """Return the parent run of that pipeline run; create it on the first call."""
    return find_pipeline_run(client, experiment_id, pipeline_run_id) or client.create_run(
        experiment_id, tags={PIPELINE_RUN_TAG: pipeline_run_id, MLFLOW_RUN_NAME: pipeline_run_id}
    )


class Predictor(Protocol):
    """A fitted model, of any library."""

    def predict(self, features: pd.DataFrame, /) -> object:
        """Return one prediction per row."""


def log_reference(
    model: Predictor, features: pd.DataFrame, held_out: pd.DataFrame | None = None
) -> None:
    """Log the data that the model was made for to the active run: ``reference/reference.parquet``.

    The dashboard compares later requests with it. It shows drift for every model whose run has
    such a file.

    The columns are the features, ``prediction``, and ``_held_out``, true for rows that the model
    was not trained on. Later inputs are compared with all rows, later predictions with held-out
    rows only: a model predicts the rows that it was trained on better than new ones.

    Args:
        model: its ``predict`` takes the features.
        features: the rows it was trained on, as ``predict`` takes them.
        held_out: rows with the same columns that it was not trained on. At most `REFERENCE_ROWS`
            rows of each frame are drawn, always the same ones.

    Raises:
        ValueError: a feature has the name ``_held_out``.
    """
    if HELD_OUT in features.columns:
        raise ValueError(f"the feature {HELD_OUT!r} has a reserved name: rename it")
    names = {name: f"input_{name}" for name in _RESERVED}
    parts = [
        rows.rename(columns=names).assign(prediction=model.predict(rows), **{HELD_OUT: held})
        for rows, held in ((_drawn(features), False), (_drawn(held_out), True))
        if rows is not None and len(rows)
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reference.parquet"
        pd.concat(parts, ignore_index=True).to_parquet(path, index=False)
        mlflow.log_artifact(str(path), "reference")


def _drawn(rows: pd.DataFrame | None) -> pd.DataFrame | None:
    if rows is None or len(rows) <= REFERENCE_ROWS:
        return rows
    return rows.sample(REFERENCE_ROWS, random_state=0)


@contextmanager
def step_of(client: MlflowClient, run: Run) -> Iterator[None]:
    """Mark the run as running while a step of it runs, and as failed if that step fails."""
    client.update_run(run.info.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    try:
        yield
    except BaseException:
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
