"""A real scheduler with a DAG of many tasks. A stand-in runs them, so no API server is needed.

Usage: python scheduler.py FOLDER TASKS

Each task notes its map index and its process in FOLDER/began. It ends once there is FOLDER/release.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.executors.base_executor import BaseExecutor
from airflow.jobs.job import Job, run_job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dag import DagModel
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import update

FOLDER, TASKS = Path(sys.argv[1]), int(sys.argv[2])
# As long as real names: each message to a worker contains it several times.
NAME = "training_" + "with_many_parameters_" * 5


def do_the_work(workload, **_options: object) -> int:
    """Record that a task runs, and its end, as its supervisor and the API server do."""
    set_state(workload.ti.id, state=TaskInstanceState.RUNNING)
    with (FOLDER / "began").open("a") as file:
        file.write(f"{workload.ti.map_index} {os.getpid()}\n")
    while not (FOLDER / "release").exists():
        time.sleep(0.05)
    set_state(workload.ti.id, state=TaskInstanceState.SUCCESS)
    return 0


def set_state(task_instance: object, **values: object) -> None:
    with create_session() as session:
        rows = update(TaskInstance).where(TaskInstance.id == task_instance)
        session.execute(rows.values(**values).execution_options(synchronize_session=False))


def main() -> None:
    # A user's own pool, larger than any limit of the executor.
    Pool.create_or_update_pool("large", slots=1000, description="", include_deferred=False)
    with DAG(NAME, schedule=None, max_active_tasks=1000) as dag:
        train = task(task_id=NAME, pool="large", retries=0)(lambda number: number)
        train.expand(number=list(range(TASKS)))
    store(dag)
    trigger_dag(NAME, triggered_by=DagRunTriggeredByType.TEST)
    BaseExecutor.run_workload = staticmethod(do_the_work)
    runner = SchedulerJobRunner(job=Job())
    run_job(job=runner.job, execute_callable=runner._execute)


def store(dag: DAG) -> None:
    """Store the DAG, as the DAG processor does."""
    DagBundlesManager().sync_bundles_to_db()
    dag.relative_fileloc = "scheduler.py"
    parsed = [LazyDeserializedDAG.from_dag(dag)]
    with create_session() as session:
        update_dag_parsing_results_in_db(
            "dags-folder", None, parsed, {}, None, set(), session=session
        )
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=False))


if __name__ == "__main__":
    main()
