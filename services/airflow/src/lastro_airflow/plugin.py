"""A plugin of Airflow's: a task that crashes in native code ends, and so does what is told to end.

To read a DAG file, Airflow installs a handler for SIGSEGV, which its processes keep. Python only
notes a signal, and calls the handler later. So the faulting instruction is repeated forever: the
task uses a processor and a slot until someone marks it as failed, whatever its
``execution_timeout`` (apache/airflow issue 57174).

To end at SIGTERM, Airflow's scheduler raises SystemExit in its handler, which Python calls wherever
it is. Where that is a callback of the garbage collector, the exception is ignored: the scheduler
runs on until it is killed, and with it the tasks that it still starts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

_SECONDS_TO_REPEAT = 0.1


@hookimpl
def on_task_instance_running() -> None:
    """Let a fault end the process of a task, which has read its DAG file by now."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)


@hookimpl
def on_starting(component: object) -> None:
    """Let the scheduler, the triggerer or the DAG processor be told again where it did not hear."""
    # Tasks have handlers of their own.
    if not hasattr(component, "job_type"):
        return
    process, previous = os.getpid(), sys.unraisablehook

    def hook(ignored: Any) -> None:
        previous(ignored)
        # Not in the processes that it forks.
        if issubclass(ignored.exc_type, SystemExit) and os.getpid() == process:
            # Not at once: the callback would be told again.
            threading.Timer(_SECONDS_TO_REPEAT, os.kill, (process, signal.SIGTERM)).start()

    sys.unraisablehook = hook


class LastroPlugin(AirflowPlugin):
    """What each process of Airflow loads that runs a job or a task."""

    name = "lastro"
    listeners = [sys.modules[__name__]]  # noqa: RUF012 - as Airflow declares it
