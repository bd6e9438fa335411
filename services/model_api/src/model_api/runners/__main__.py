"""The process that manages a host's runners: ``python -m model_api.runners``."""

import logging.config
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_api.common.logs import CONFIG
from model_api.common.memory import half_of_memory
from model_api.common.runners import DIRECTORY
from model_api.common.settings import read_or_exit
from model_api.common.state import StateFolder
from model_api.runners.supervisor import Supervisor, command
from model_api.sandbox.bubblewrap import PROGRAM
from model_api.sandbox.limits import MIB


class RunnersSettings(BaseSettings):
    """Settings of this process; each field is the variable ``MODEL_API_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    state_directory: Path = Path("/var/lib/model_api")
    """The folder of the follower's state and prepared versions."""
    runners_directory: Path = DIRECTORY
    """The directory of the runners' sockets."""
    runner_start_seconds: PositiveFloat = 120.0
    """Limit for a runner to become ready."""
    sandbox_memory_mib: PositiveInt | None = None
    """The most memory of a runner; by default half of the machine's."""
    network_models: Annotated[tuple[str, ...], Field()] = ()
    """Models whose code may use the network: a list in JSON."""


def main() -> None:
    """Manage the runners until SIGTERM; exit with 2 without bubblewrap or with invalid settings.

    With `--check`, only check the settings.
    """
    logging.config.dictConfig(CONFIG)
    settings = read_or_exit(RunnersSettings, "model-api-runners")
    if shutil.which(PROGRAM) is None:
        print(
            f"model-api-runners: {PROGRAM} is not on PATH: no model runs without its sandbox;"
            " install the package bubblewrap",
            file=sys.stderr,
        )
        sys.exit(2)
    if sys.argv[1:] == ["--check"]:
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings.runners_directory.mkdir(parents=True, exist_ok=True)
    memory = settings.sandbox_memory_mib
    Supervisor(
        StateFolder(settings.state_directory),
        settings.runners_directory,
        command(memory * MIB if memory else half_of_memory()),
        settings.runner_start_seconds,
        frozenset(settings.network_models),
    ).run(stop)


if __name__ == "__main__":
    main()
