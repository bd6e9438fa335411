"""DAGs of a test: published, run, and taken back at its end."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from lastro_platform import PROJECT, Platform, wait_for
from testinfra.host import Host


@dataclass
class Dags:
    """A copy of dags/ to change and publish.

    Attributes:
        platform: where they are published.
        folder: the copy.
        published: whether the bucket may hold something else than the project's dags/.
    """

    platform: Platform
    folder: Path
    published: bool = False

    def write(self, name: str, source: str) -> None:
        """Write the file of a DAG."""
        (self.folder / f"{name}.py").write_text(source)

    def publish(self, check: bool = True) -> str:
        """Run `make publish-dags` of the copy and return its output."""
        self.published = True
        return self._publish(self.folder, check)

    def restore(self) -> str:
        """The same of the project's own."""
        output = self._publish(PROJECT / "dags", True)
        self.published = False
        return output

    def _publish(self, folder: Path, check: bool) -> str:
        playbook = "ansible/playbooks/publish_dags.yml"
        return self.platform.playbook(playbook, "-e", f"dags_dir={folder}", check=check)

    def known(self, name: str) -> bool:
        """Whether Airflow has read a DAG's file, as it is now."""
        answer = self.platform.airflow("GET", f"dags/{name}")
        return answer.status_code == 200 and answer.json()["is_stale"] is False


def dag_source(name: str, body: str = "pass", schedule: str = "None") -> str:
    """A DAG file with one task."""
    return textwrap.dedent(f'''
        from datetime import datetime
        from airflow.sdk import dag, task

        @dag(dag_id="{name}", schedule={schedule}, start_date=datetime(2026, 1, 1), catchup=False)
        def build():
            @task
            def work():
                {body}
            work()

        build()
    ''')


def until(file: str) -> str:
    """The code of a task that runs until a file is on its host; its log says when."""
    wait = f"[time.sleep(0.5) for _ in iter(lambda: os.path.exists('{file}'), True)]"
    return f"import os, time; print('it begins'); {wait}; print('it ends')"


@contextlib.contextmanager
def stopping(host: Host, unit: str, platform: Platform, settings: str) -> Iterator[None]:
    """`site.yml` with other settings, at the moment when it waits for a unit to stop.

    At the end the playbook has succeeded.
    """
    with ThreadPoolExecutor() as pool:
        site = pool.submit(platform.playbook, "site.yml", "-e", settings)
        state = f"systemctl is-active {unit}"
        wait_for(
            f"{unit} to stop",
            lambda: site.done() or host.run(state).stdout.strip() == "deactivating",
        )
        assert not site.done(), f"{unit} was not told to stop: {site.result()[-1000:]}"
        try:
            yield
        finally:
            site.result()


def run_path(dag: str, run: str) -> str:
    """Where Airflow's API has a run of a DAG."""
    return f"dags/{dag}/dagRuns/{requests.utils.quote(run, safe='')}"


def task_of(platform: Platform, dag: str, run: str) -> dict[str, Any]:
    """The only task of a run."""
    answer = platform.airflow("GET", f"{run_path(dag, run)}/taskInstances")
    (instance,) = answer.json()["task_instances"]
    return instance


def ended(platform: Platform, dag: str, run: str) -> str:
    """How a run ended."""
    wait_for(
        f"the end of a run of {dag}", lambda: platform.run_state(dag, run) in ("success", "failed")
    )
    return platform.run_state(dag, run)


def ran_on(platform: Platform, dag: str) -> str:
    """Run a DAG of one task; the host that ran it."""
    run = platform.trigger(dag)
    assert ended(platform, dag, run) == "success"
    return task_of(platform, dag, run)["hostname"]
