"""The dashboard's settings, read from environment variables and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class SettingsError(ValueError):
    """A variable is missing or invalid; the message names it and the fix."""


@dataclass(frozen=True)
class Settings:
    """The addresses of the platform's services and of the dashboard.

    URLs have no trailing slash. `mlflow_public_url`, `model_api_public_url` and `airflow_url`
    are links for the visitor's browser; the dashboard never calls them. Without `airflow_api_url`
    or `prediction_log_url`, the pages that need them say which variable to set.
    """

    mlflow_url: str
    model_api_url: str
    model_api_key: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8501
    cookie_secret: str | None = field(default=None, repr=False)
    login_idle_hours: float = 8.0
    """Hours after which an unused login ends."""
    mlflow_public_url: str | None = None
    airflow_url: str | None = None
    model_api_public_url: str | None = None
    model_api_hosts: tuple[str, ...] = ()
    """The model API's URL on each host, the one at `model_api_url` first."""
    airflow_api_url: str | None = None
    airflow_username: str | None = None
    airflow_password: str | None = field(default=None, repr=False)
    prediction_log_url: str | None = None
    aws_endpoint_url: str | None = None
    aws_region: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from environment variables.

        Raises:
            SettingsError: a variable is missing or invalid.
        """
        cookie_secret = env.get("DASHBOARD_COOKIE_SECRET") or None
        if cookie_secret is not None and len(cookie_secret) < 32:
            raise SettingsError(
                "DASHBOARD_COOKIE_SECRET is too short: set it to at least 32 random characters."
            )
        key = _required(env, "MODEL_API_KEY", "the model API's bearer key")
        if not key.isascii() or any(character.isspace() for character in key):
            raise SettingsError(
                "MODEL_API_KEY must be ASCII without blanks, because it is sent in an HTTP header."
            )
        model_api_url = _url(env, "MODEL_API_URL")
        airflow_api_url = _optional_url(env, "AIRFLOW_API_URL")
        airflow_username = env.get("AIRFLOW_API_USERNAME") or None
        airflow_password = env.get("AIRFLOW_API_PASSWORD") or None
        if airflow_username and not airflow_password:
            raise SettingsError(
                "AIRFLOW_API_PASSWORD is not set: set it to the password of "
                f"{airflow_username!r} in Airflow, or unset AIRFLOW_API_USERNAME."
            )
        return cls(
            mlflow_url=_url(env, "MLFLOW_TRACKING_URI"),
            model_api_url=model_api_url,
            model_api_key=key,
            host=env.get("DASHBOARD_HOST") or cls.host,
            port=_port(env, "DASHBOARD_PORT", cls.port),
            cookie_secret=cookie_secret,
            login_idle_hours=_hours(env, "DASHBOARD_LOGIN_IDLE_HOURS", cls.login_idle_hours),
            mlflow_public_url=_optional_url(env, "MLFLOW_PUBLIC_URL"),
            airflow_url=_optional_url(env, "AIRFLOW_URL"),
            model_api_public_url=_optional_url(env, "MODEL_API_PUBLIC_URL"),
            model_api_hosts=tuple(dict.fromkeys((model_api_url, *_urls(env, "MODEL_API_HOSTS")))),
            airflow_api_url=airflow_api_url,
            airflow_username=airflow_username,
            airflow_password=airflow_password,
            prediction_log_url=_log_url(env, "DASHBOARD_PREDICTION_LOG_URL"),
            aws_endpoint_url=_optional_url(env, "AWS_ENDPOINT_URL_S3")
            or _optional_url(env, "AWS_ENDPOINT_URL"),
            aws_region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None,
        )


def _required(env: Mapping[str, str], name: str, what: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set: set it to {what}.")
    return value


def _url(env: Mapping[str, str], name: str) -> str:
    return _checked_url(_required(env, name, "an address such as http://10.0.1.10:5000"), name)


def _urls(env: Mapping[str, str], name: str) -> list[str]:
    """Addresses separated by blanks."""
    return [_checked_url(item, name) for item in env.get(name, "").split()]


def _log_url(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name, "").strip().rstrip("/")
    if not value:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("s3", "file") or (parts.scheme == "s3" and not parts.netloc):
        raise SettingsError(
            f"{name} is {value!r}: set it to an address such as s3://bucket/predictions "
            "or file:///folder."
        )
    return value


def _checked_url(value: str, name: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"{name} is {value!r}: set it to an address that begins with http:// or https://."
        )
    if parts.username or parts.password:
        raise SettingsError(
            f"{name} contains credentials: remove them. Visitors sign in with their own."
        )
    return value.rstrip("/")


def _optional_url(env: Mapping[str, str], name: str) -> str | None:
    return _url(env, name) if env.get(name, "").strip() else None


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name) or str(default)
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise SettingsError(f"{name} is {value!r}: set it to a port between 1 and 65535.")
    return int(value)


def _hours(env: Mapping[str, str], name: str, default: float) -> float:
    value = env.get(name) or str(default)
    try:
        hours = float(value)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= 168:
        raise SettingsError(
            f"{name} is {value!r}: set it to a number of hours above 0 and up to 168."
        )
    return hours
