"""An Airflow plugin: tasks that crash in native code end, and so do processes at SIGTERM.

To read a DAG file, Airflow installs a handler for SIGSEGV, which its processes keep. Python only
notes the signal and calls the handler later. So the faulting instruction is repeated forever: the
task uses a processor and a slot until someone marks it as failed, whatever its
``execution_timeout`` (apache/airflow issue 57174).

To end at SIGTERM, Airflow's scheduler raises SystemExit in its signal handler, which Python calls
between any two instructions. In a callback of the garbage collector, the exception is ignored: the
scheduler, and the tasks that it still starts, run until they are killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

_SECONDS_TO_REPEAT = 0.1


@hookimpl
def on_task_instance_running() -> None:
    """Let a fault end the process of a task; by now it has read its DAG file."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)


@hookimpl
def on_starting(component: object) -> None:
    """Repeat SIGTERM for a scheduler, triggerer or DAG processor that ignored it."""
    # Tasks have their own handlers.
    if not hasattr(component, "job_type"):
        return
    process, previous = os.getpid(), sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        previous(ignored)
        # Not in processes that the component forked.
        if issubclass(ignored.exc_type, SystemExit) and os.getpid() == process:
            # Not at once: the signal would arrive in the same callback.
            threading.Timer(_SECONDS_TO_REPEAT, os.kill, (process, signal.SIGTERM)).start()

    sys.unraisablehook = hook


class LastroPlugin(AirflowPlugin):
    """Loaded by each of Airflow's processes that runs a job or a task."""

    name = "lastro"
    listeners = [sys.modules[__name__]]  # noqa: RUF012 - as Airflow declares it
