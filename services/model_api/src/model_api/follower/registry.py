"""A client of MLflow's model registry that reads only aliases.

It sends one GET over a connection that stays open. MLflow's own client would do the same at seven
times the memory, in a process that runs for months.
"""

import os
from typing import Any, Protocol

import msgspec
import urllib3


class RegistryError(RuntimeError):
    """The registry is unreachable or is not MLflow's; the message says what to check."""


class Registered(msgspec.Struct, frozen=True):
    """A registered model: when it was created (ms since 1970), its last version, its aliases."""

    created: int
    latest: int
    aliases: dict[str, str]


class Registry(Protocol):
    """The source of the aliases."""

    def models(self) -> dict[str, Registered]:
        """Return every registered model.

        Raises:
            RegistryError: it is unreachable.
        """


class MlflowRegistry:
    """The registry of an MLflow server.

    Args:
        url: the server's URL.
        timeout: limit for one answer, in seconds.
        login: user and password, if the server requires them.
    """

    def __init__(self, url: str, timeout: float, login: tuple[str, str] | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {"Accept": "application/json", "User-Agent": "lastro-model-api"}
        if login is not None:
            headers |= urllib3.make_headers(basic_auth=":".join(login))
        self._http = urllib3.PoolManager(
            headers=headers, timeout=urllib3.Timeout(total=timeout), retries=False, maxsize=1
        )

    @classmethod
    def from_environment(cls, url: str, timeout: float) -> "MlflowRegistry":
        """Return the registry, with the login from MLflow's own variables."""
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
        return cls(url, timeout, (user, password) if user and password else None)

    def models(self) -> dict[str, Registered]:
        """Return every registered model.

        Raises:
            RegistryError: it is unreachable.
        """
        found: dict[str, Registered] = {}
        fields = {"max_results": "1000"}
        while True:
            page = self._ask("registered-models/search", fields)
            try:
                for model in page.get("registered_models", []):
                    found[model["name"]] = _registered(model)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise RegistryError(f"{self._url} does not answer as MLflow does") from error
            token = page.get("next_page_token")
            if not token:
                return found
            fields = fields | {"page_token": token}

    def _ask(self, path: str, fields: dict[str, str]) -> dict[str, Any]:
        try:
            answer = self._http.request("GET", f"{self._url}/api/2.0/mlflow/{path}", fields=fields)
        except urllib3.exceptions.HTTPError as error:
            raise RegistryError(f"{self._url}: {_cause(error)}") from error
        if answer.status in (401, 403):
            raise RegistryError(
                f"{self._url} refuses the login ({answer.status}):"
                " check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if answer.status != 200:
            raise RegistryError(f"{self._url} answers {answer.status}")
        try:
            return msgspec.json.decode(answer.data, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise RegistryError(f"{self._url} does not answer as MLflow does") from error


def _registered(model: dict[str, Any]) -> Registered:
    # The latest version of each stage; the highest is the latest of all.
    latest = (int(version["version"]) for version in model.get("latest_versions", []))
    return Registered(
        created=int(model["creation_timestamp"]),
        latest=max(latest, default=0),
        aliases={alias["alias"]: alias["version"] for alias in model.get("aliases", [])},
    )


def _cause(error: Exception) -> str:
    match error:
        # The order matters: urllib3 counts the first two as timeouts as well.
        case urllib3.exceptions.NameResolutionError():
            return "its name cannot be resolved"
        case urllib3.exceptions.NewConnectionError() if isinstance(error.__cause__, OSError):
            return error.__cause__.strerror or str(error.__cause__)
        case urllib3.exceptions.TimeoutError():
            return "no answer in time"
        case _:
            return str(error)
