"""Settings of the HTTP side."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_api.common.runners import DIRECTORY

Seconds = Annotated[float, Field(gt=0, le=600)]


class Settings(BaseSettings):
    """Settings of the HTTP side; each field is the variable ``MODEL_API_<FIELD>``."""

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
    """The folder of the worker processes' shared counters, emptied at start; best in memory.

    The default is a temporary folder; systemd sets ``RUNTIME_DIRECTORY``.
    """
    runners_directory: Path | None = DIRECTORY
    """The directory of the runners' sockets; None (not possible in a variable) for no runners."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """The number of worker processes."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The most rows of one request."""
    max_body_bytes: Annotated[int, Field(ge=1, le=1024**3)] = 2 * 1024**2
    """The largest body of one request, in bytes."""
    body_seconds: Seconds = 10
    """Limit for the arrival of a request's body."""
    prediction_seconds: Seconds = 10
    """Limit for a prediction, including the wait for a thread."""
    inline_seconds: Annotated[float, Field(ge=0, le=0.1)] = 0.001
    """A prediction that is expected to take less time needs no thread."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads of each process for longer predictions; each version with a runner has as many."""
    queue: Annotated[int, Field(ge=0, le=10_000)] = 32
    """Predictions of each process that may wait for a thread."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Prediction requests that each process handles at a time, including those being read."""
    log_requests: Literal["all", "failed"] = "failed"
    """The requests that get a log line: all, or those that failed or took `slow_seconds`."""
    slow_seconds: Seconds = 1

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises:
            pydantic.ValidationError: a variable is missing or invalid.
        """
        return cls()  # type: ignore[call-arg]
