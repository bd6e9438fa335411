"""The executor that runs tasks on the scheduler's host, with a limit that holds."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing import connection
from typing import TYPE_CHECKING, Protocol

from airflow.executors import local_executor

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Lock

    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey, WorkloadState
    from airflow.models.taskinstance import TaskInstance

# The state in a worker's message that it has taken a workload; other messages have a result.
_TAKEN = "taken by a worker"
# Option of prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1
# Looked up early: a fork of a process with threads may copy a held lock of the dynamic loader.
_prctl = ctypes.CDLL(None).prctl


class _Workloads(Protocol):
    """multiprocessing's SimpleQueue, with the end of its pipe that can be waited for."""

    _reader: Connection

    def empty(self) -> bool: ...

    def get(self) -> ExecutorWorkload | None: ...


class _AnnouncedQueue:
    """The queue that a worker reads from; it reports each workload that a worker has taken.

    A killed worker never releases a lock that it holds. SimpleQueue's ``get()`` holds one while it
    waits, so after one idle worker was killed, no other would ever get a workload. Here a worker
    waits without a lock, and takes it only to read a workload that has arrived.
    """

    def __init__(
        self,
        workloads: _Workloads,
        results: SimpleQueue[tuple[WorkloadKey, str, object]],
        reading: Lock,
    ) -> None:
        self._workloads = workloads
        self._results = results
        self._reading = reading

    def get(self) -> ExecutorWorkload | None:
        while True:
            connection.wait([self._workloads._reader])
            with self._reading:
                # Unless another worker was faster.
                if not self._workloads.empty():
                    workload = self._workloads.get()
                    break
        if workload is not None:
            self._results.put((workload.key, _TAKEN, os.getpid()))
        return workload


class _Tether:
    """Ends the processes that a worker forks, which run tasks, when the worker dies.

    Without its worker, nobody records a task's result, and the scheduler would start the next try
    while it still runs. Create it in the worker. Processes that a task forks inherit its hooks,
    which leave them alone.
    """

    def __init__(self) -> None:
        self._worker = self._forking = os.getpid()
        os.register_at_fork(before=self._before, after_in_child=self._in_child)

    def _before(self) -> None:
        self._forking = os.getpid()

    def _in_child(self) -> None:
        if self._forking != self._worker:
            return
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The kernel sends no signal for a worker that died before that call.
        if os.getppid() != self._worker:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_worker(**arguments: object) -> None:
    _Tether()
    local_executor._run_worker(**arguments)


class BoundedLocalExecutor(local_executor.LocalExecutor):
    """Airflow's LocalExecutor, which accepts no more workloads than it has workers.

    The scheduler gives an executor as many tasks as its ``slots_available``. Airflow's
    LocalExecutor forgets a workload once it has written it to its workers' pipe. So it always has
    slots, and every queued task goes into that pipe. Some 34 tasks fill its 64 KiB, and the next
    write blocks the scheduler until a task ends. A scheduler without heartbeats loses its job, and
    with it the running tasks (apache/airflow issue 70526). Here a workload takes a slot until its
    worker has reported the result: ``[core] parallelism`` holds, whatever the pools allow.

    A worker that dies reports nothing. Its slot is free as soon as its process is gone, and its
    task ends with it. The scheduler does the rest: it fails a task without heartbeats, and queues a
    task again that never started.
    """

    def start(self) -> None:
        """Start the workers."""
        # Process id of a worker -> the workload that it runs.
        self._taken: dict[int, WorkloadKey] = {}
        self._reading = multiprocessing.Lock()
        super().start()

    def end(self) -> None:
        """Wait for the workers to finish their tasks.

        LocalExecutor sends one message to end for each living worker. An idle worker may end before
        it is counted, with the message for a busy one: the scheduler then waits for the busy worker
        until systemd kills both. A surplus message does no harm.
        """
        for _ in self.workers:
            self.activity_queue.put(None)
        super().end()

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self.running.update(workload.key for workload in workload_list)
        super()._process_workloads(workload_list)

    def _spawn_worker(self) -> None:
        worker = multiprocessing.Process(
            target=_run_worker,
            kwargs={
                "logger_name": self.log.name,
                "input": _AnnouncedQueue(self.activity_queue, self.result_queue, self._reading),
                "output": self.result_queue,
                "unread_messages": self._unread_messages,
                "team_conf": self.conf,
            },
        )
        worker.start()
        assert worker.pid is not None
        self.workers[worker.pid] = worker

    def _read_results(self) -> None:
        while not self.result_queue.empty():
            key, state, detail = self.result_queue.get()
            if state == _TAKEN:
                self._taken[detail] = key
            else:
                self.change_state(key, state)
                if key not in self.running:
                    # A deferred task comes back with the same key, to any worker.
                    self._taken = {pid: its for pid, its in self._taken.items() if its != key}

    def _check_workers(self) -> None:
        dead = [pid for pid, worker in self.workers.items() if not worker.is_alive()]
        if dead:
            # Read the results that they wrote before they died.
            self._read_results()
        for pid in dead:
            key = self._taken.pop(pid, None)
            if key in self.running:
                self.log.error("Worker %d died while it ran %s", pid, key)
                self.running.discard(key)
        super()._check_workers()

    def change_state(
        self,
        key: WorkloadKey,
        state: WorkloadState,
        info: object = None,
        remove_running: bool = True,
    ) -> None:
        """Note the state of a workload, which keeps its slot while it runs."""
        begun = state == "running"
        super().change_state(key, state, info, remove_running=remove_running and not begun)

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget a task, which the scheduler will queue again: its worker died before it began."""
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
