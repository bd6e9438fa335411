"""Settings of both sides, read from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is the variable ``MODEL_API_PREDICTION_LOG_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_PREDICTION_LOG_", frozen=True, env_ignore_empty=True
    )

    url: Annotated[str | None, Field(pattern=r"^(s3|file)://[^/]*/.*[^/]$")] = None
    """Where the Parquet files go, such as ``s3://bucket/predictions``; unset, nothing is logged."""
    socket: Path = Path("/var/lib/model_api/prediction-log.socket")
    """The unix datagram socket between the two sides."""
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of requests that is offered."""
    per_second: PositiveInt = 100
    """Requests that one worker sends in a second at most; the rest is dropped."""
    flush_seconds: PositiveFloat = 20.0
    """How long a record waits for others at most."""
    flush_records: PositiveInt = 5000
    """How many records (requests) one flush takes at most; that many waiting are not waited for."""
    max_bytes: PositiveInt = 32 * 1024 * 1024
    """Records waiting in memory, such as while S3 is away; the oldest are dropped beyond."""
