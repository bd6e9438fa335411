"""Train the wine candidates and let the better model serve."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, task

# The tasks run in the pipelines' own environment: Airflow's has no MLflow and no scikit-learn.
# Airflow hands over a task as the text of its function: what it uses, it imports itself.
PIPELINES_PYTHON = os.environ.get(
    "LASTRO_PIPELINES_PYTHON", "/opt/lastro/pipelines/current/venv/bin/python"
)


@dag(
    dag_id="wine",
    # The example's data never changes: it runs when somebody triggers it. Yours may say "@daily".
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # A host of 2 GiB has the memory for one training at a time.
    max_active_tasks=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": timedelta(minutes=15),
    },
    params={
        "margin": Param(
            0.01,
            type="number",
            minimum=0,
            description="How much lower than the champion's the log loss must be, in nats per row",
        )
    },
    tags=["example", "training"],
)
def wine() -> None:
    """
    ### Wine classifier

    1. **validate** checks the data and opens the MLflow run that represents this DAG run
       (experiment `wine`).
    2. **train_...** fits one candidate in an MLflow run of its own below that.
    3. **register_and_promote** registers the best candidate as `wine-classifier` and moves the
       alias `champion` to it if it beats the serving champion on the same held-out wines by more
       than `margin`, which a test confirms. The log and the tag `decision` say why.
       The model API follows the alias within seconds.

    All steps may be retried or cleared: a step finds its finished work in MLflow and does not
    repeat it.
    The logic is in the package `lastro_pipelines`.
    """

    @task.external_python(python=PIPELINES_PYTHON, expect_airflow=False, expect_pendulum=False)
    def validate(run_id: str | None = None) -> dict:
        from lastro_pipelines import steps

        return steps.validate(run_id)

    @task.external_python(python=PIPELINES_PYTHON, expect_airflow=False, expect_pendulum=False)
    def train(candidate: str, validated: dict, run_id: str | None = None) -> dict:
        from lastro_pipelines import steps

        return steps.train(candidate, run_id, dataset_hash=validated["dataset_hash"])

    @task.external_python(python=PIPELINES_PYTHON, expect_airflow=False, expect_pendulum=False)
    def register_and_promote(
        trained: list[dict], validated: dict, margin: str, run_id: str | None = None
    ) -> dict:
        from lastro_pipelines import steps

        return steps.register_and_promote(
            trained, run_id, dataset_hash=validated["dataset_hash"], margin=float(margin)
        )

    validated = validate()
    trained = [
        train.override(task_id="train_logistic_regression")("logistic-regression", validated),
        train.override(task_id="train_random_forest")("random-forest", validated),
    ]
    register_and_promote(trained, validated, margin="{{ params.margin }}")


dag = wine()
