"""A small client for MLflow's REST API, bound to one visitor's login.

MLflow's own client is not used on purpose: it shares one HTTP session among all callers of a
process, takes credentials and time-outs from process-wide variables, and costs some 170 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from dashboard.services import Refused, ask, open_client

MAX_RUNS = 2000
"""Runs read per experiment, newest first."""

HISTORY_POINTS = 300
"""Points read per metric and run; MLflow samples longer histories."""

_PAGE = 1000


@dataclass(frozen=True)
class Experiment:
    """An experiment the visitor may read."""

    id: str
    name: str
    updated: datetime | None


@dataclass(frozen=True)
class Run:
    """A run with its last value of each metric."""

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

    @property
    def seconds(self) -> float | None:
        """Duration in seconds, None while it runs."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model; `aliases` maps an alias to a version."""

    name: str
    description: str
    updated: datetime | None
    aliases: dict[str, str]
    latest_version: str | None

    def aliases_of(self, version: str) -> list[str]:
        """Aliases that point at this version, in alphabetical order."""
        return sorted(alias for alias, target in self.aliases.items() if target == version)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version; `source` is where its files are, as MLflow spells it."""

    name: str
    version: str
    created: datetime | None
    status: str
    description: str
    run_id: str | None
    source: str
    tags: dict[str, str]


class Tracking:
    """MLflow as one visitor sees it.

    Every method may raise `Away`, `SignInRefused` or `Refused` of `dashboard.services`.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        """Keep the login in this object alone; nothing is sent yet.

        Args:
            url: MLflow's base URL.
            username: MLflow login; basic authentication allows no colon in it.
            password: its password.
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
        """The login's name as MLflow spells it.

        Raises:
            SignInRefused: wrong name or password.
            Refused: this MLflow has no basic authentication, so nothing can be verified.
        """
        try:
            answer = self._get("users/current")
        except Refused:
            raise Refused(
                "This MLflow server has no basic authentication: "
                "nobody can sign in until it runs with `--app-name basic-auth`."
            ) from None
        return str(answer["user"]["username"])

    def experiments(self) -> list[Experiment]:
        """Active experiments, the one updated last first."""
        body = {"view_type": "ACTIVE_ONLY", "order_by": ["last_update_time DESC"]}
        return [
            Experiment(item["experiment_id"], item["name"], _time(item.get("last_update_time")))
            for item in self._pages("POST", "experiments/search", "experiments", body)
        ]

    def runs(
        self, experiment_ids: Sequence[str], query: str = "", limit: int = MAX_RUNS
    ) -> list[Run]:
        """Active runs, newest first, at most `limit`.

        Args:
            experiment_ids: where to look; none gives no runs.
            query: MLflow's search syntax, such as `metrics.accuracy > 0.9`; empty for all.
            limit: most runs to return.

        Raises:
            Refused: MLflow cannot read the query; the message says why.
        """
        if not experiment_ids:
            return []
        body = {
            "experiment_ids": list(experiment_ids),
            "filter": query,
            "run_view_type": "ACTIVE_ONLY",
            "order_by": ["attributes.start_time DESC"],
        }
        return [_run(item) for item in self._pages("POST", "runs/search", "runs", body, limit)]

    def run(self, run_id: str) -> Run:
        """One run."""
        return _run(self._get("runs/get", run_id=run_id)["run"])

    def history(self, run_ids: Sequence[str], metric: str) -> list[tuple[str, int, float]]:
        """(run id, step, value) of a metric, in the order of steps, sampled when long."""
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
            RegisteredModel(
                name=item["name"],
                description=item.get("description", ""),
                updated=_time(item.get("last_updated_timestamp")),
                aliases={a["alias"]: a["version"] for a in item.get("aliases", [])},
                latest_version=max(
                    (v["version"] for v in item.get("latest_versions", [])), key=int, default=None
                ),
            )
            for item in self._pages(
                "GET", "registered-models/search", "registered_models", {}, 1000
            )
        ]

    def versions(self, model: str) -> list[ModelVersion]:
        """A model's versions, newest first."""
        mark = '"' if "'" in model else "'"
        query = {"filter": f"name={mark}{model}{mark}", "order_by": ["version_number DESC"]}
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

    def input_example(self, version: ModelVersion) -> dict[str, Any]:
        """The first row of the input example logged with a version; empty when there is none."""
        kind, _, model_id = version.source.partition("models:/")
        if kind or not model_id:
            return {}
        try:
            model = self._get(f"logged-models/{quote(model_id, safe='')}")["model"]
            place = model["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/").lstrip("/")
            path = f"api/2.0/mlflow-artifacts/artifacts/{quote(place)}/input_example.json"
            table = ask(self._http, "MLflow", "GET", path)
            return dict(zip(table["columns"], table["data"][0], strict=True))
        except (Refused, LookupError, TypeError, ValueError):
            return {}

    def _get(self, path: str, **query: Any) -> Any:
        return ask(self._http, "MLflow", "GET", f"api/2.0/mlflow/{path}", params=query)

    def _pages(
        self, method: str, path: str, key: str, query: dict[str, Any], limit: int = _PAGE
    ) -> Iterator[dict[str, Any]]:
        where = "json" if method == "POST" else "params"
        token, left = None, limit
        while left > 0:
            page = (
                query | {"max_results": min(left, _PAGE)} | ({"page_token": token} if token else {})
            )
            answer = ask(self._http, "MLflow", method, f"api/2.0/mlflow/{path}", **{where: page})
            items = answer.get(key, [])
            yield from items
            token, left = answer.get("next_page_token"), left - len(items)
            if not token or not items:
                return


def _time(milliseconds: int | str | None) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


def _run(item: dict[str, Any]) -> Run:
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
    )
