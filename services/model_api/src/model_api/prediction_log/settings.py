"""Settings of both sides, read from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is the variable ``MODEL_API_PREDICTION_LOG_<FIELD>``, except the state's."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_PREDICTION_LOG_",
        frozen=True,
        env_ignore_empty=True,
        populate_by_name=True,
    )

    url: Annotated[str | None, Field(pattern=r"^(s3|file)://[^/]*/.*[^/]$")] = None
    """Where to write files, such as ``s3://bucket/predictions``; unset, nothing is logged."""
    state_directory: Annotated[Path, Field(validation_alias="MODEL_API_STATE_DIRECTORY")] = Path(
        "/var/lib/model_api"
    )
    """The folder of the follower's ``state.json``, and of the socket between the two sides."""
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of requests in the sample."""
    per_second: PositiveInt = 100
    """The most requests that one worker sends per second; the rest is dropped."""
    flush_seconds: PositiveFloat = 30.0
    """The longest time that a record waits for others."""
    flush_records: PositiveInt = 5000
    """The most records (requests) of one flush; this many records wait no longer."""
    max_bytes: PositiveInt = 32 * 1024 * 1024
    """Limit for records in memory, such as during an outage of S3; the oldest are dropped."""

    @property
    def socket(self) -> Path:
        """The unix datagram socket between the two sides."""
        return self.state_directory / "prediction-log.socket"
