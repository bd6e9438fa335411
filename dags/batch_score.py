"""Score the files below a prefix of S3 with a registered model."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, task

# The task runs in the pipelines' own environment, which has the model API's code.
PIPELINES_PYTHON = os.environ.get(
    "LASTRO_PIPELINES_PYTHON", "/opt/lastro/pipelines/current/venv/bin/python"
)
# In S3, or below the platform's prefix for batches: never a file of the host.
ADDRESS = r"^(s3://[^/]+/.+|[^:]+)$"


@dag(
    dag_id="batch_score",
    # Yours may have a schedule, and with it parameters of their own.
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": timedelta(hours=6),
    },
    params={
        "model": Param("wine-classifier", type="string", minLength=1, title="Registered model"),
        "alias": Param("champion", type="string", minLength=1, title="Alias of the version"),
        "version": Param(
            "", type="string", pattern="^[0-9]*$", title="Number of the version, not the alias"
        ),
        "source": Param("in", type="string", pattern=ADDRESS, title="Prefix to read"),
        "target": Param("out", type="string", pattern=ADDRESS, title="Prefix to write below"),
    },
    tags=["example", "batch"],
)
def batch_score() -> None:
    """
    ### Batch scoring

    Reads every `.csv` and `.parquet` file below `source`, and writes the rows with the columns
    `prediction` and `model_version` below `target`, in a folder of this version and this run:
    one Parquet file per file read, `_lineage.json`, and last `_SUCCESS`.

    A relative prefix, such as `in/today`, is below `batch/` in the artifacts bucket. The answers
    come from the model API's own code. A repeated task replaces the same folder. The logic is in
    `lastro_pipelines.batch`.
    """

    @task.external_python(python=PIPELINES_PYTHON, expect_airflow=False, expect_pendulum=False)
    def score(
        model: str, alias: str, version: str, source: str, target: str, run_id: str | None = None
    ) -> dict:
        from lastro_pipelines import batch

        scored = batch.score(
            run_id,
            model=model,
            alias=alias,
            version=version or None,
            source=source,
            target=target,
        )
        # Thousands of files belong in the lineage, not in Airflow's database.
        return {name: scored[name] for name in ("output", "model", "version", "rows")}

    score(
        *(f"{{{{ params.{name} }}}}" for name in ("model", "alias", "version", "source", "target"))
    )


dag = batch_score()
