"""Settings, read from the environment."""

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MINIMUM_KEY_LENGTH = 32
_PLACEHOLDERS = ("change", "example", "placeholder", "secret", "password", "todo", "xxxx", "your")


class Settings(BaseSettings):
    """What the service needs to know; each field is the variable ``MODEL_API_<FIELD>``.

    MLflow's own variables say where the registry is: ``MLFLOW_TRACKING_URI`` (required),
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``.
    """

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_",
        frozen=True,
        # An error message must not repeat the key.
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    tracking_uri: Annotated[str, Field(min_length=1, validation_alias="MLFLOW_TRACKING_URI")]
    key: SecretStr
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    alias: Annotated[str, Field(min_length=1)] = "champion"
    poll_seconds: PositiveFloat = 2.0
    registry_timeout_seconds: PositiveInt = 5
    max_rows: PositiveInt = 1000
    max_body_bytes: PositiveInt = 2 * 1024 * 1024

    @field_validator("key")
    @classmethod
    def _refuse_weak_keys(cls, key: SecretStr) -> SecretStr:
        value = key.get_secret_value()
        if len(value) < MINIMUM_KEY_LENGTH:
            raise ValueError(
                f"must have at least {MINIMUM_KEY_LENGTH} characters:"
                " make one with `openssl rand -hex 32`"
            )
        if len(set(value)) < 8 or any(word in value.lower() for word in _PLACEHOLDERS):
            raise ValueError("looks like a placeholder: make a key with `openssl rand -hex 32`")
        if not value.isascii() or any(character.isspace() for character in value):
            raise ValueError("must be ASCII without blanks, as it travels in an HTTP header")
        return key

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises:
            pydantic.ValidationError: a variable is missing or not acceptable.
        """
        return cls()  # type: ignore[call-arg]
