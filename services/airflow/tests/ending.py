"""An executor that ends while one of its two workers is busy, and the other one ends at once.

Usage: python ending.py FOLDER

FOLDER/began appears when the worker is busy; it works until the other one has ended.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from airflow.executors.base_executor import BaseExecutor
from airflow.executors.executor_loader import ExecutorLoader

FOLDER = Path(sys.argv[1])


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.05)


def work(workload, **_options: object) -> int:
    (FOLDER / "began").touch()
    until((FOLDER / "release").exists)
    return 0


def main() -> None:
    BaseExecutor.run_workload = staticmethod(work)
    executor = ExecutorLoader.get_default_executor()
    executor.start()
    workload = SimpleNamespace(
        key="train",
        display_name="train",
        running_state="running",
        success_state="success",
        failure_state="failed",
    )
    executor.queued_tasks[workload.key] = workload
    executor._process_workloads([workload])
    until((FOLDER / "began").exists)
    until(lambda: executor.sync() or executor._taken)
    [busy] = executor._taken
    idle = next(worker for pid, worker in executor.workers.items() if pid != busy)
    # The worst order of all: LocalExecutor counts the busy worker first.
    executor.workers = {busy: executor.workers[busy], idle.pid: idle}
    put = executor.activity_queue.put

    def put_and_wait(message: object) -> None:
        put(message)
        until(lambda: not idle.is_alive())
        (FOLDER / "release").touch()

    executor.activity_queue.put = put_and_wait
    executor.end()


if __name__ == "__main__":
    main()
