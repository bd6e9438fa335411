"""The executor on the scheduler's host: it takes no more tasks than it can run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TASKS = 60
PARALLELISM = 2
# Only ends what hangs.
LIMIT = 300
EXECUTOR = "LocalExecutor:lastro_airflow.executor.BoundedLocalExecutor"


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition is true; return its value."""
    deadline = time.monotonic() + LIMIT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {LIMIT} s for {what}"
        time.sleep(0.2)
    return value


class Scheduler:
    """A scheduler with its database, seen from the outside."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, none while another holds the database."""
        self._assert_runs()
        with contextlib.suppress(sqlite3.OperationalError):
            file = f"file:{self._folder}/airflow.db?mode=ro"
            with contextlib.closing(sqlite3.connect(file, uri=True)) as database:
                return database.execute(query).fetchall()
        return []

    def states(self) -> Counter[str]:
        """State -> number of tasks."""
        return Counter(dict(self.ask("SELECT state, count(*) FROM task_instance GROUP BY state")))

    def heartbeat(self) -> str:
        """The time of the last heartbeat that the scheduler has written."""
        [[at]] = self.ask("SELECT latest_heartbeat FROM job") or [[""]]
        return at

    def began(self) -> list[tuple[int, int]]:
        """The map index and the process of each task that has begun."""
        self._assert_runs()
        file = self._folder / "began"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(index), int(process)) for index, process in map(str.split, lines)]

    def _assert_runs(self) -> None:
        log = (self._folder / "log").read_text()
        assert self.process.poll() is None, f"the scheduler has ended:\n{log[-4000:]}"

    def release(self) -> None:
        """Let every task end, also those that have not begun."""
        (self._folder / "release").touch()


def settings(folder: Path) -> dict[str, str]:
    """The environment of an Airflow with its files in its own folder."""
    return os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__EXECUTOR": os.environ.get("LASTRO_TEST_EXECUTOR", EXECUTOR),
        "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    }


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of Airflow's, to be copied."""
    folder = tmp_path_factory.mktemp("database")
    make = [sys.executable, "-c", "from airflow.utils.db import initdb; initdb()"]
    subprocess.run(make, env=settings(folder), check=True, stdout=subprocess.DEVNULL)
    return folder / "airflow.db"


@pytest.fixture
def scheduler(database: Path, tmp_path: Path) -> Iterator[Scheduler]:
    shutil.copy(database, tmp_path)
    script = Path(__file__).with_name("scheduler.py")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, script, tmp_path, str(TASKS)],
            env=settings(tmp_path),
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its workers end with it.
            start_new_session=True,
        )
    yield Scheduler(process, tmp_path)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_scheduler_with_many_queued_tasks_lives_and_runs_each_once(scheduler: Scheduler) -> None:
    wait_until(lambda: len(scheduler.began()) == PARALLELISM, "the first tasks to begin")
    for _ in range(5):
        before = scheduler.heartbeat()
        wait_until(lambda before=before: scheduler.heartbeat() != before, "the next heartbeat")
    states = scheduler.states()
    assert states["running"] == PARALLELISM, states
    assert states["scheduled"] == TASKS - PARALLELISM, states

    scheduler.release()
    wait_until(lambda: scheduler.states() == {"success": TASKS}, "all tasks to succeed")
    assert sorted(index for index, _ in scheduler.began()) == list(range(TASKS))
    assert scheduler.ask("SELECT DISTINCT try_number FROM task_instance") == [(1,)]


def test_the_slot_of_a_worker_that_died_is_given_to_the_next_task(scheduler: Scheduler) -> None:
    wait_until(lambda: len(scheduler.began()) == PARALLELISM, "the first tasks to begin")
    os.kill(scheduler.began()[0][1], signal.SIGKILL)
    wait_until(lambda: len(scheduler.began()) == PARALLELISM + 1, "the next task to begin")


def assert_ends(script: str, *arguments: str | Path, status: int = 0) -> None:
    """A script of this folder exits with the status."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name(script), *arguments],
        env=settings(Path(arguments[0])),
        start_new_session=True,
    )
    try:
        assert process.wait(timeout=LIMIT) == status
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_it_ends_when_a_busy_worker_is_done_though_an_idle_one_ended_first(tmp_path: Path) -> None:
    assert_ends("workers.py", tmp_path, "idle_worker_ends_first")


def test_a_killed_idle_worker_does_not_keep_the_others_from_their_work(tmp_path: Path) -> None:
    assert_ends("workers.py", tmp_path, "idle_workers_are_killed")


@pytest.mark.parametrize("scenario", ["busy_worker_is_killed", "worker_is_killed_as_it_forks"])
def test_a_task_ends_with_its_worker(scenario: str, tmp_path: Path) -> None:
    assert_ends("workers.py", tmp_path, scenario)


def test_a_deferred_task_keeps_its_slot_when_its_earlier_worker_dies(tmp_path: Path) -> None:
    assert_ends("workers.py", tmp_path, "earlier_worker_of_a_deferred_task_is_killed")


def test_a_task_that_crashes_in_native_code_ends(tmp_path: Path) -> None:
    assert_ends("crash.py", tmp_path, status=-signal.SIGSEGV)


def test_a_scheduler_ends_though_the_garbage_collector_took_its_signal(
    database: Path, tmp_path: Path
) -> None:
    shutil.copy(database, tmp_path)
    assert_ends("swallowed.py", tmp_path)
