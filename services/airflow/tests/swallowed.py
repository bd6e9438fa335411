"""A real scheduler that gets SIGTERM in a callback of the garbage collector.

Usage: python swallowed.py FOLDER
"""

from __future__ import annotations

import os
import signal
import weakref

from airflow.jobs.job import Job, run_job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

from lastro_airflow.executor import BoundedLocalExecutor


class Thing:
    """Something to collect."""


def tell_to_end(_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    # The scheduler calls this in each of its rounds.
    sync, told = BoundedLocalExecutor.sync, []

    def sync_and_collect(executor: BoundedLocalExecutor) -> None:
        sync(executor)
        if not told:
            thing = Thing()
            told.append(weakref.ref(thing, tell_to_end))

    BoundedLocalExecutor.sync = sync_and_collect
    runner = SchedulerJobRunner(job=Job())
    run_job(job=runner.job, execute_callable=runner._execute)


if __name__ == "__main__":
    main()
