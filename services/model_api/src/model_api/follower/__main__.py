"""The one process of a host that follows the registry: ``python -m model_api.follower``."""

import fcntl
import logging.config
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_api.common.logs import CONFIG
from model_api.common.settings import read_or_exit
from model_api.common.state import StateFolder
from model_api.follower.child import Priority
from model_api.follower.follower import Follower
from model_api.follower.registry import MlflowRegistry
from model_api.model.compatibility import check_compatible
from model_api.model.manifest import read_manifest


class FollowerSettings(BaseSettings):
    """What the follower needs to know; each field is the variable ``MODEL_API_<FIELD>``.

    MLflow's own variables say where the registry is: ``MLFLOW_TRACKING_URI`` (required),
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``.
    """

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    tracking_uri: Annotated[
        str, Field(pattern="^https?://", validation_alias="MLFLOW_TRACKING_URI")
    ]
    state_directory: Path = Path("/var/lib/model_api")
    """Where it writes what is to serve."""
    aliases: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = ("champion", "challenger")
    """Those that are followed, separated by commas; the first is the most urgent."""
    poll_seconds: PositiveFloat = 2.0
    """Between two looks at the registry."""
    registry_timeout_seconds: PositiveFloat = 5.0
    """For one answer of the registry."""
    prepare_seconds: PositiveFloat = 300.0
    """For preparing a version: to download, load and try it."""
    prepare_priority: Priority = "idle"
    """What it gets of the processor: idle: what nothing else wants; low: little; normal."""
    on_demand_versions: Annotated[int, Field(ge=0, le=1000)] = 4
    """Versions that are kept because they are asked for by number."""

    compile: bool = True
    """Whether versions are compiled where that agrees with the original."""

    @field_validator("aliases", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(alias.strip() for alias in value.split(",") if alias.strip())
        return value


def main() -> None:
    """Follow until SIGTERM; exit with 2 when the settings are not acceptable.

    With `--check`, end once they are checked.
    """
    logging.config.dictConfig(CONFIG)
    settings = read_or_exit(FollowerSettings, "model-api-follower")
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
            poll_seconds=settings.poll_seconds,
            prepare_seconds=settings.prepare_seconds,
            priority=settings.prepare_priority,
            on_demand=settings.on_demand_versions,
            compiled=settings.compile,
        ).run(stop)


def _incompatible(new: Path, serving: Path) -> str | None:
    return check_compatible(read_manifest(new), read_manifest(serving))


if __name__ == "__main__":
    main()
