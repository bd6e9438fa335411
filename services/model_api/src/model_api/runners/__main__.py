"""The process that manages a host's runners: ``python -m model_api.runners``."""

import logging.config
import signal
import sys
import threading

from pydantic import PositiveFloat

from model_api.common.logs import CONFIG
from model_api.common.state import StateFolder
from model_api.runners.supervisor import Supervisor, command
from model_api.sandbox.settings import SandboxSettings, read_with_sandbox_or_exit


class RunnersSettings(SandboxSettings):
    """Settings of this process; each field is the variable ``MODEL_API_<FIELD>``."""

    runner_start_seconds: PositiveFloat = 120.0
    """Limit for a runner to become ready."""


def main() -> None:
    """Manage the runners until SIGTERM; exit with 2 without bubblewrap or with invalid settings.

    With `--check`, only check the settings.
    """
    logging.config.dictConfig(CONFIG)
    settings = read_with_sandbox_or_exit(RunnersSettings, "model-api-runners")
    if sys.argv[1:] == ["--check"]:
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings.runners_directory.mkdir(parents=True, exist_ok=True)
    Supervisor(
        StateFolder(settings.state_directory),
        settings.runners_directory,
        command(settings.memory),
        settings.runner_start_seconds,
        frozenset(settings.network_models),
    ).run(stop)


if __name__ == "__main__":
    main()
