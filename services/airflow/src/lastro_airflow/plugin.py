"""A plugin of Airflow's: a task that crashes in native code ends.

To read a DAG file, Airflow installs a handler for SIGSEGV, which its processes keep. Python only
notes a signal, and calls the handler later. So the faulting instruction is repeated forever: the
task uses a processor and a slot until someone marks it as failed, whatever its
``execution_timeout`` (apache/airflow issue 57174).
"""

from __future__ import annotations

import signal
import sys

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin


@hookimpl
def on_task_instance_running() -> None:
    """Let a fault end the process of a task, which has read its DAG file by now."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)


class LastroPlugin(AirflowPlugin):
    """What each process that runs a task loads."""

    name = "lastro"
    listeners = [sys.modules[__name__]]  # noqa: RUF012 - as Airflow declares it
