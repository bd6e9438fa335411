"""An executor with two workers, one of which ends or is killed. Fails or hangs if work is lost.

Usage: python workers.py FOLDER SCENARIO

FOLDER/began appears when a worker is busy; it works until there is FOLDER/release.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from airflow.executors.base_executor import BaseExecutor
from airflow.executors.executor_loader import ExecutorLoader

FOLDER, SCENARIO = Path(sys.argv[1]), sys.argv[2]
BEGAN, RELEASE, TASK = FOLDER / "began", FOLDER / "release", FOLDER / "task"
WORKLOAD = SimpleNamespace(
    key="train",
    display_name="train",
    running_state="running",
    success_state="success",
    failure_state="failed",
)

holding = False


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.05)


def outlive_the_worker() -> None:
    """Hold up a task, as a busy machine may, from its fork until its worker is dead."""
    if holding:
        worker = int(os.environ["WORKER"])
        until(lambda: os.getppid() != worker)


def work(workload, **_options: object) -> int:
    """Run the task in a separate process and wait for it, as a supervisor does."""
    global holding
    os.environ["WORKER"] = str(os.getpid())
    holding = SCENARIO == "worker_is_killed_as_it_forks"
    task = os.fork()
    if task == 0:
        until(RELEASE.exists)
        os._exit(0)
    TASK.write_text(str(task))
    BEGAN.touch()
    os.waitpid(task, 0)
    return 0


def run(executor) -> int:
    """Queue the workload; return the process of the worker that has begun it."""
    executor.queued_tasks[WORKLOAD.key] = WORKLOAD
    executor._process_workloads([WORKLOAD])
    until(BEGAN.exists)
    until(lambda: executor.sync() or WORKLOAD.key in executor._taken.values())
    [busy] = (pid for pid, key in executor._taken.items() if key == WORKLOAD.key)
    return busy


def finish(executor) -> None:
    """Let the workload end, and wait for its result."""
    RELEASE.touch()
    until(lambda: executor.sync() or WORKLOAD.key not in executor.running)
    assert executor.event_buffer[WORKLOAD.key][0] == "success"
    RELEASE.unlink()
    BEGAN.unlink()


def kill(worker) -> None:
    worker.kill()
    until(lambda: not worker.is_alive())


def is_idle(worker) -> bool:
    return b"<idle>" in Path(f"/proc/{worker.pid}/cmdline").read_bytes()


def idle_worker_ends_first(executor) -> None:
    busy = run(executor)
    idle = next(worker for pid, worker in executor.workers.items() if pid != busy)
    # The worst order: LocalExecutor counts the busy worker first.
    executor.workers = {busy: executor.workers[busy], idle.pid: idle}
    put = executor.activity_queue.put

    def put_and_wait(message: object) -> None:
        put(message)
        until(lambda: not idle.is_alive())
        RELEASE.touch()

    executor.activity_queue.put = put_and_wait


def idle_workers_are_killed(executor) -> None:
    workers = list(executor.workers.values())
    until(lambda: all(map(is_idle, workers)))
    # One of the two waits for a message; the other one for its turn, if there are turns.
    for worker in workers:
        kill(worker)
    executor.sync()
    run(executor)
    finish(executor)


def busy_worker_is_killed(executor) -> None:
    kill(executor.workers[run(executor)])
    process = Path("/proc", TASK.read_text(), "stat")
    # Ended, even if its parent has not collected it yet (Z).
    until(lambda: not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z")


worker_is_killed_as_it_forks = busy_worker_is_killed


def earlier_worker_of_a_deferred_task_is_killed(executor) -> None:
    earlier = executor.workers[run(executor)]
    finish(executor)
    os.kill(earlier.pid, signal.SIGSTOP)
    # The task comes back by the same key.
    assert run(executor) != earlier.pid
    kill(earlier)
    executor.sync()
    assert WORKLOAD.key in executor.running
    finish(executor)


def main() -> None:
    # Before the hooks of the workers.
    os.register_at_fork(after_in_child=outlive_the_worker)
    BaseExecutor.run_workload = staticmethod(work)
    executor = ExecutorLoader.get_default_executor()
    executor.start()
    globals()[SCENARIO](executor)
    executor.end()


if __name__ == "__main__":
    main()
