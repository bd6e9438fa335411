"""The one process of a host that follows the registry: ``python -m model_api.follower``."""

import fcntl
import logging.config
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator
from pydantic_settings import NoDecode

from model_api.common.logs import CONFIG
from model_api.common.state import StateFolder
from model_api.follower.child import Priority
from model_api.follower.follower import Follower
from model_api.follower.registry import MlflowRegistry
from model_api.model.compatibility import check_compatible
from model_api.model.manifest import read_manifest
from model_api.sandbox.settings import SandboxSettings, read_with_sandbox_or_exit


class FollowerSettings(SandboxSettings):
    """Settings of the follower; each field is the variable ``MODEL_API_<FIELD>``.

    MLflow's own variables say where the registry is: ``MLFLOW_TRACKING_URI`` (required),
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``.
    """

    tracking_uri: Annotated[
        str, Field(pattern="^https?://", validation_alias="MLFLOW_TRACKING_URI")
    ]
    aliases: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = ("champion", "challenger")
    """The aliases to follow, separated by commas; the first is the most urgent."""
    poll_seconds: PositiveFloat = 2.0
    """Seconds between two polls of the registry."""
    registry_timeout_seconds: PositiveFloat = 5.0
    """Limit for one answer of the registry."""
    prepare_seconds: PositiveFloat = 300.0
    """Limit for downloading, loading and trying a version."""
    prepare_priority: Priority = "idle"
    """Its share of the processor: idle (only time that nothing else wants), low or normal."""
    on_demand_versions: Annotated[int, Field(ge=0, le=1000)] = 4
    """The most versions to keep because requests ask for them by number."""

    compile: bool = True
    """Whether to compile a version if the compiled one agrees with the original."""

    @field_validator("aliases", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(alias.strip() for alias in value.split(",") if alias.strip())
        return value


def main() -> None:
    """Follow until SIGTERM; exit with 2 without bubblewrap, or if the settings are invalid.

    With `--check`, only check the settings.
    """
    logging.config.dictConfig(CONFIG)
    settings = read_with_sandbox_or_exit(FollowerSettings, "model-api-follower")
    if sys.argv[1:] == ["--check"]:
        return
    folder = StateFolder(settings.state_directory)
    folder.make()
    with (folder.path / "follower.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"model-api-follower: another one follows for {folder.path};"
                " MODEL_API_STATE_DIRECTORY says where",
                file=sys.stderr,
            )
            sys.exit(1)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Follower(
            MlflowRegistry.from_environment(
                settings.tracking_uri, settings.registry_timeout_seconds
            ),
            folder,
            settings.aliases,
            _incompatible,
            settings.memory,
            poll_seconds=settings.poll_seconds,
            prepare_seconds=settings.prepare_seconds,
            priority=settings.prepare_priority,
            on_demand=settings.on_demand_versions,
            compiled=settings.compile,
            networked=settings.network_models,
            runners=settings.runners_directory,
        ).run(stop)


def _incompatible(new: Path, serving: Path) -> str | None:
    return check_compatible(read_manifest(new), read_manifest(serving))


if __name__ == "__main__":
    main()
