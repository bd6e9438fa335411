"""A small client for MLflow's REST API, bound to one visitor's login.

MLflow's own client does not fit: it shares one HTTP session among all callers of a process, takes
credentials and timeouts from process-wide variables, and needs 170 MB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import httpx

from dashboard.services import (
    LIMIT_SECONDS,
    PATIENCE_SECONDS,
    Options,
    Refused,
    ask,
    fetch,
    open_client,
)
from dashboard.untyped import JsonObject

SERVICE = "MLflow"

PAGE_RUNS = 100
"""Runs per page: MLflow needs 0.1 s for 100 runs, and a second for 1000."""

NEWEST = "attributes.start_time DESC"
"""MLflow's expression for the default order of runs."""

HISTORY_POINTS = 300
"""Most points per metric and run; MLflow samples longer histories."""

_PAGE = 1000


@dataclass(frozen=True)
class Experiment:
    """An experiment that the visitor may read."""

    id: str
    name: str
    updated: datetime | None


@dataclass(frozen=True)
class Run:
    """A run with the last value of each metric."""

    id: str
    name: str
    experiment_id: str
    status: str
    started: datetime | None
    ended: datetime | None
    user: str
    metrics: dict[str, float]
    params: dict[str, str]
    curves: frozenset[str]
    """Names of metrics that were logged at more than one step."""
    tags: dict[str, str]
    """Without MLflow's internal tags."""
    datasets: tuple[str, ...]
    """Logged inputs, as `name (digest)`."""
    artifact_uri: str

    @property
    def seconds(self) -> float | None:
        """Duration in seconds; None while it runs."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


@dataclass(frozen=True)
class RunPage:
    """A page of runs, and the token of the next page; None on the last page."""

    runs: tuple[Run, ...]
    next_token: str | None


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model; `aliases` maps an alias to a version."""

    name: str
    description: str
    updated: datetime | None
    aliases: dict[str, str]
    latest_version: str | None
    tags: dict[str, str]

    def aliases_of(self, version: str) -> list[str]:
        """The aliases that point to this version, in alphabetical order."""
        return sorted(alias for alias, target in self.aliases.items() if target == version)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version; `source` is the address of its files in MLflow's notation."""

    name: str
    version: str
    created: datetime | None
    status: str
    description: str
    run_id: str | None
    source: str
    tags: dict[str, str]


class Tracking:
    """MLflow, read with one visitor's login.

    Every method may raise `Unavailable`, `SignInRefused` or `Refused` of `dashboard.services`.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        """Keep the login only in this object, and send nothing yet.

        Args:
            url: MLflow's base URL.
            username: an MLflow user; basic authentication allows no colon in the name.
            password: the user's password.
        """
        self._http = open_client(
            url,
            auth=httpx.BasicAuth(username, password),
            headers={"Accept": "application/json"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def check_login(self) -> str:
        """The username as MLflow spells it.

        Raises:
            SignInRefused: wrong username or password.
            Refused: this MLflow has no basic authentication, so it cannot verify a login.
        """
        try:
            answer = self._get("users/current", PATIENCE_SECONDS)
        except Refused:
            raise Refused(
                "This MLflow server has no basic authentication: "
                "start it with `--app-name basic-auth` so that visitors can sign in."
            ) from None
        return str(answer["user"]["username"])

    def experiments(self) -> list[Experiment]:
        """Active experiments, the most recently updated first."""
        body = {"view_type": "ACTIVE_ONLY", "order_by": ["last_update_time DESC"]}
        return [
            Experiment(item["experiment_id"], item["name"], _time(item.get("last_update_time")))
            for item in self._pages("POST", "experiments/search", "experiments", body)
        ]

    def runs(
        self,
        experiment_ids: Sequence[str],
        query: str = "",
        order_by: str = NEWEST,
        token: str | None = None,
        limit: int = PAGE_RUNS,
    ) -> RunPage:
        """A page of active runs.

        Args:
            experiment_ids: the experiments to search; without any there are no runs.
            query: MLflow's search syntax, such as `metrics.accuracy > 0.9`; empty for all.
            order_by: MLflow's expression for the order; runs without the metric come last.
            token: `next_token` of the previous page; None for the first page.
            limit: most runs to return, at most 1000.

        Raises:
            Refused: MLflow cannot parse the query; the message says why.
        """
        if not experiment_ids:
            return RunPage((), None)
        body = {
            "experiment_ids": list(experiment_ids),
            "filter": query,
            "run_view_type": "ACTIVE_ONLY",
            "order_by": [order_by],
            "max_results": limit,
            **({"page_token": token} if token else {}),
        }
        answer = ask(self._http, SERVICE, "POST", "api/2.0/mlflow/runs/search", json=body)
        runs = tuple(_run(item) for item in answer.get("runs", []))
        return RunPage(runs, answer.get("next_page_token") or None)

    def run(self, run_id: str) -> Run:
        """One run."""
        return _run(self._get("runs/get", run_id=run_id)["run"])

    def history(self, run_ids: Sequence[str], metric: str) -> list[tuple[str, int, float]]:
        """(run id, step, value) of a metric in the order of steps; long histories are sampled."""
        answer = self._get(
            "metrics/get-history-bulk-interval",
            run_ids=list(run_ids),
            metric_key=metric,
            max_results=HISTORY_POINTS,
        )
        return [
            (point["run_id"], int(point.get("step", 0)), float(point["value"]))
            for point in answer.get("metrics", [])
        ]

    def registered_models(self) -> list[RegisteredModel]:
        """Registered models in alphabetical order."""
        return [
            _registered_model(item)
            for item in self._pages(
                "GET", "registered-models/search", "registered_models", {}, 1000
            )
        ]

    def registered_model(self, name: str) -> RegisteredModel:
        """One registered model."""
        answer = self._get("registered-models/get", PATIENCE_SECONDS, name=name)
        return _registered_model(answer["registered_model"])

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias at a version.

        Raises:
            Refused: the visitor has no permission, or the version does not exist.
        """
        self._write("registered-models/alias", name=model, alias=alias, version=version)

    def set_model_tag(self, model: str, key: str, value: str) -> None:
        """Set a tag of a registered model.

        Raises:
            Refused: the visitor has no permission, or MLflow cannot store the value.
        """
        self._write("registered-models/set-tag", name=model, key=key, value=value)

    def delete_model_tag(self, model: str, key: str) -> None:
        """Delete a tag of a registered model.

        Raises:
            Refused: the visitor has no permission.
        """
        path = "api/2.0/mlflow/registered-models/delete-tag"
        ask(self._http, SERVICE, "DELETE", path, json={"name": model, "key": key})

    def versions(self, model: str) -> list[ModelVersion]:
        """A model's versions, newest first."""
        # MLflow has no escape for quotes in a string, but parses a list like Python.
        name = json.dumps(model, ensure_ascii=False)
        query = {"filter": f"name IN ({name})", "order_by": ["version_number DESC"]}
        return [
            ModelVersion(
                name=item["name"],
                version=str(item["version"]),
                created=_time(item.get("creation_timestamp")),
                status=item.get("status", ""),
                description=item.get("description", ""),
                run_id=item.get("run_id") or None,
                source=item.get("source", ""),
                tags={t["key"]: t["value"] for t in item.get("tags", [])},
            )
            for item in self._pages("GET", "model-versions/search", "model_versions", query, 1000)
        ]

    def artifact(self, run: Run, path: str, limit: int) -> bytes | None:
        """An artifact of a run, read through MLflow; None if it does not exist.

        Args:
            run: the run.
            path: the path below the run's artifacts, such as `reference/reference.parquet`.
            limit: most bytes of the artifact.

        Raises:
            Refused: the visitor has no permission, the artifact is larger than `limit`, or MLflow
                does not serve the run's artifacts.
        """
        try:
            return fetch(self._http, SERVICE, _artifact_path(run.artifact_uri, path), limit)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def _get(self, path: str, seconds: float = LIMIT_SECONDS, **query: object) -> JsonObject:
        return ask(self._http, SERVICE, "GET", f"api/2.0/mlflow/{path}", seconds, params=query)

    def _write(self, path: str, **body: str) -> None:
        ask(self._http, SERVICE, "POST", f"api/2.0/mlflow/{path}", PATIENCE_SECONDS, json=body)

    def _pages(
        self, method: str, path: str, key: str, query: JsonObject, limit: int = _PAGE
    ) -> Iterator[JsonObject]:
        token, left = None, limit
        while left > 0:
            page = (
                query | {"max_results": min(left, _PAGE)} | ({"page_token": token} if token else {})
            )
            sent: Options = {"json": page} if method == "POST" else {"params": page}
            answer = ask(self._http, SERVICE, method, f"api/2.0/mlflow/{path}", **sent)
            items = answer.get(key, [])
            yield from items
            token, left = answer.get("next_page_token"), left - len(items)
            if not token or not items:
                return


def _time(milliseconds: int | str | None) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


def _artifact_path(uri: str, path: str) -> str:
    scheme, _, place = uri.partition(":/")
    if scheme != "mlflow-artifacts":
        raise Refused(
            f"MLflow does not serve files of {uri}: it is outside MLflow's artifact store."
        )
    place = place.lstrip("/")
    return f"api/2.0/mlflow-artifacts/artifacts/{quote(f'{place}/{path}')}"


def _registered_model(item: JsonObject) -> RegisteredModel:
    return RegisteredModel(
        name=item["name"],
        description=item.get("description", ""),
        updated=_time(item.get("last_updated_timestamp")),
        aliases={a["alias"]: str(a["version"]) for a in item.get("aliases", [])},
        latest_version=max(
            (str(v["version"]) for v in item.get("latest_versions", [])), key=int, default=None
        ),
        tags={t["key"]: t["value"] for t in item.get("tags", [])},
    )


def _run(item: JsonObject) -> Run:
    info, data = item["info"], item.get("data", {})
    metrics = data.get("metrics", [])
    return Run(
        id=info["run_id"],
        name=info.get("run_name") or info["run_id"][:8],
        experiment_id=info["experiment_id"],
        status=info.get("status", ""),
        started=_time(info.get("start_time")),
        ended=_time(info.get("end_time")),
        user=info.get("user_id", ""),
        metrics={m["key"]: float(m["value"]) for m in metrics},
        params={p["key"]: p["value"] for p in data.get("params", [])},
        curves=frozenset(m["key"] for m in metrics if int(m.get("step", 0)) > 0),
        tags={
            t["key"]: t["value"] for t in data.get("tags", []) if not t["key"].startswith("mlflow.")
        },
        datasets=tuple(
            f"{dataset['name']} ({dataset['digest']})"
            for dataset in (i["dataset"] for i in item.get("inputs", {}).get("dataset_inputs", []))
        ),
        artifact_uri=info.get("artifact_uri", ""),
    )
