"""The DAG in Airflow's own environment; its tasks run in this one."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from lastro_pipelines import data, steps

DAGS = Path(__file__).parents[3] / "dags"

# Importing Airflow takes many seconds, so each of these does several steps in one process.
# Airflow's `dag.test()` prints a log; the outcome is the exit code.
RUN = """
import sys
from airflow.utils.db import initdb
initdb()
from wine import dag
sys.exit(0 if dag.test().state == "success" else 1)
"""

INSPECT = """
from batch_score import dag as batch_score
from wine import dag as wine
for dag in (wine, batch_score):
    print(dag.dag_id, dag.max_active_runs, dag.catchup, sorted(dag.task_ids))
"""

SCORE = """
import sys
from batch_score import dag
if dag.test(run_conf={"source": "in/today", "target": "out"}).state != "success":
    sys.exit("the batch was not scored")
for source in ("file:///etc", "http://example.com/in", ""):
    try:
        dag.test(run_conf={"source": source})
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> "Airflow":
    return Airflow(tmp_path_factory.mktemp("airflow"))


class Airflow:
    """An Airflow environment with its own empty database."""

    def __init__(self, home: Path) -> None:
        python = os.environ.get("LASTRO_AIRFLOW_PYTHON")
        if not python:
            pytest.fail(
                "LASTRO_AIRFLOW_PYTHON is not set: install locks/airflow/<version>.txt into an"
                " environment of its own and set it to that environment's bin/python"
            )
        self.python = python
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("LASTRO_PIPELINES_PYTHON", "PYTHONPATH")
        } | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "PYTHONPATH": str(DAGS),
        }

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Airflow's Python; return its output, or fail with it."""
        result = subprocess.run(
            [self.python, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


def test_it_imports_without_the_pipelines_package(airflow: Airflow) -> None:
    printed = airflow.run("-c", INSPECT)
    assert "wine 1 False" in printed
    assert "['register_and_promote', 'train_logistic_regression'" in printed
    assert "batch_score 1 False ['score']" in printed


def test_it_trains_and_promotes(airflow: Airflow, tracking: str) -> None:
    airflow.run("-c", RUN, LASTRO_PIPELINES_PYTHON=sys.executable, MLFLOW_TRACKING_URI=tracking)
    registered = MlflowClient(tracking, tracking).get_registered_model(steps.MODEL_NAME)
    assert registered.aliases == {steps.ALIAS: "1"}


def test_it_scores_the_files_below_a_prefix(
    airflow: Airflow, tracking: str, tmp_path: Path
) -> None:
    # The version that the test before trained and promoted.
    wines = data.load().head(5)
    (tmp_path / "in" / "today").mkdir(parents=True)
    wines.to_csv(tmp_path / "in" / "today" / "wines.csv", index=False)
    environment = {
        "LASTRO_PIPELINES_PYTHON": sys.executable,
        "MLFLOW_TRACKING_URI": tracking,
        "LASTRO_BATCH_URL": f"file://{tmp_path}",
    }
    printed = airflow.run("-c", SCORE, **environment)
    [done] = tmp_path.glob("out/model=wine-classifier/version=1/run=*/_SUCCESS")
    scored = pd.read_parquet(done.parent / "part-00000.parquet")
    assert list(scored["prediction"]) == list(wines[data.TARGET])
    assert printed.splitlines().count("ParamValidationError") == 3
