"""Settings of both sides, read from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is the variable ``MODEL_API_PREDICTION_LOG_<FIELD>``, but for the state's."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_PREDICTION_LOG_",
        frozen=True,
        env_ignore_empty=True,
        populate_by_name=True,
    )

    url: Annotated[str | None, Field(pattern=r"^(s3|file)://[^/]*/.*[^/]$")] = None
    """Where the Parquet files go, such as ``s3://bucket/predictions``; unset, nothing is logged."""
    state_directory: Annotated[Path, Field(validation_alias="MODEL_API_STATE_DIRECTORY")] = Path(
        "/var/lib/model_api"
    )
    """Where the follower keeps ``state.json``, and the two sides their socket."""
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of requests that is offered."""
    per_second: PositiveInt = 100
    """Requests that one worker sends in a second at most; the rest is dropped."""
    flush_seconds: PositiveFloat = 30.0
    """How long a record waits for others at most."""
    flush_records: PositiveInt = 5000
    """How many records (requests) one flush takes at most; so many wait no longer."""
    max_bytes: PositiveInt = 32 * 1024 * 1024
    """Of records in memory, such as while S3 is away; the oldest are dropped beyond."""

    @property
    def socket(self) -> Path:
        """The unix datagram socket between the two sides."""
        return self.state_directory / "prediction-log.socket"
