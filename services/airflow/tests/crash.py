"""Do as the process of a task does: read its DAG file, tell the listeners, and then crash.

Usage: python crash.py FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.listener import get_listener_manager
from airflow.utils.state import TaskInstanceState

FOLDER = Path(sys.argv[1])


def main() -> None:
    file = FOLDER / "train.py"
    file.write_text("from airflow.sdk import DAG\ndag = DAG('train', schedule=None)\n")
    assert DagBag(file).dag_ids == ["train"]
    get_listener_manager().hook.on_task_instance_running(
        previous_state=TaskInstanceState.QUEUED, task_instance=None
    )
    os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    main()
