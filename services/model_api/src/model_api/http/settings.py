"""Settings of the HTTP side."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=600)]


class Settings(BaseSettings):
    """What the HTTP side needs to know; each field is the variable ``MODEL_API_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    keys_file: Path
    """The bearer keys, see `model_api.http.keys`."""
    state_directory: Path = Path("/var/lib/model_api")
    """Where the follower keeps the prepared versions and ``state.json``."""
    runtime_directory: Annotated[
        Path | None,
        Field(validation_alias=AliasChoices("MODEL_API_RUNTIME_DIRECTORY", "RUNTIME_DIRECTORY")),
    ] = None
    """Of the worker processes' shared counters, emptied at start; best in memory.

    By default a temporary one; systemd sets ``RUNTIME_DIRECTORY``.
    """
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that answer."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Of one request."""
    max_body_bytes: Annotated[int, Field(ge=1, le=1024**3)] = 2 * 1024**2
    """Of one request."""
    body_seconds: Seconds = 10
    """For a request's body to arrive."""
    prediction_seconds: Seconds = 10
    """For a prediction, waiting for a thread included."""
    inline_seconds: Annotated[float, Field(ge=0, le=0.1)] = 0.001
    """Expected time below which a prediction needs no thread of its own."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Of each process, for predictions that take longer."""
    queue: Annotated[int, Field(ge=0, le=10_000)] = 32
    """Predictions of each process that may wait for a thread."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Prediction requests that each process takes at a time, those being read included."""
    log_requests: Literal["all", "failed"] = "failed"
    """Which requests leave a line: all, or those that failed or took `slow_seconds`."""
    slow_seconds: Seconds = 1

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises:
            pydantic.ValidationError: a variable is missing or not acceptable.
        """
        return cls()  # type: ignore[call-arg]
