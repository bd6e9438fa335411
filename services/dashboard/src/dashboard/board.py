"""The data that the pages read, through the visitor's session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from dashboard import airflow, prediction_log, tracking
from dashboard.airflow import DagRun, Task
from dashboard.prediction_log import Sample
from dashboard.services import Refused, ServiceError, SignInRefused, Unavailable
from dashboard.serving import SERVICE as MODEL_API
from dashboard.serving import Held, ModelApi, ServedModel
from dashboard.session import Load, Session
from dashboard.tracking import Experiment, ModelVersion, RegisteredModel, Run, RunPage

MLFLOW = tracking.SERVICE
RECENT_RUNS = 8
REFERENCE = "reference/reference.parquet"
REFERENCE_BYTES = 16 << 20


@dataclass(frozen=True)
class Serving:
    """The models that the model API serves to this visitor; `problem` says why they are unknown."""

    models: Mapping[str, ServedModel]
    registry_error: str | None = None
    problem: ServiceError | None = None


def prepare(session: Session) -> None:
    """Request in parallel, from every service, the data that nearly every page shows first."""
    session.prefetch(
        [
            _login(session),
            (MLFLOW, "models", session.tracking.registered_models),
            (MLFLOW, "experiments", session.tracking.experiments),
            *(loaded_models(api, session) for api in session.apis),
        ]
    )


def check_login(session: Session) -> None:
    """Have MLflow confirm the login, so that a changed password ends it on every page.

    While MLflow is unavailable, the login stays valid, because MLflow accepted it before.

    Raises:
        SignInRefused: MLflow no longer accepts the login.
        Refused: MLflow no longer requires logins.
    """
    with suppress(Unavailable):
        session.read(*_login(session))


def experiments(session: Session) -> list[Experiment]:
    """Experiments, the most recently updated first."""
    return session.read(MLFLOW, "experiments", session.tracking.experiments)


def runs(
    session: Session, experiment: str, query: str, order_by: str, token: str | None
) -> RunPage:
    """One page of an experiment's runs; see `Tracking.runs`."""
    return session.read(
        MLFLOW,
        ("runs", experiment, query, order_by, token),
        lambda: session.tracking.runs([experiment], query, order_by, token),
    )


def recent_runs(session: Session) -> list[Run]:
    """The newest `RECENT_RUNS` runs of all experiments."""
    ids = [experiment.id for experiment in experiments(session)]
    page = session.read(
        MLFLOW, "recent runs", lambda: session.tracking.runs(ids, limit=RECENT_RUNS)
    )
    return list(page.runs)


def run(session: Session, run_id: str) -> Run:
    """One run."""
    return session.read(*_run(session, run_id))


def known_runs(session: Session, run_ids: Iterable[str | None]) -> dict[str, Run]:
    """Those of the runs that exist and that the visitor may read, requested in parallel."""
    ids = list(dict.fromkeys(run_id for run_id in run_ids if run_id))
    session.prefetch(_run(session, run_id) for run_id in ids)
    found = {}
    for run_id in ids:
        try:
            found[run_id] = run(session, run_id)
        except Refused:
            continue
    return found


def history(
    session: Session, run_ids: tuple[str, ...], metric: str
) -> list[tuple[str, int, float]]:
    """A metric's curve for each run; see `Tracking.history`."""
    return session.read(
        MLFLOW,
        ("history", run_ids, metric),
        lambda: session.tracking.history(run_ids, metric),
    )


def registered_models(session: Session) -> list[RegisteredModel]:
    """Registered models in alphabetical order."""
    return session.read(MLFLOW, "models", session.tracking.registered_models)


def versions(session: Session, model: str) -> list[ModelVersion]:
    """A model's versions, newest first."""
    return session.read(*_versions(session, model))


def prepare_versions(session: Session, models: Iterable[str]) -> None:
    """Request the versions of several models in parallel."""
    session.prefetch(_versions(session, model) for model in models)


def serving(session: Session) -> Serving:
    """The serving versions of the registered models that this visitor may see in MLflow."""
    try:
        visible = {model.name for model in registered_models(session)}
        held = session.read(*loaded_models(session.apis[0], session))
    except SignInRefused:
        raise
    except ServiceError as error:
        return Serving({}, problem=error)
    models = {model.name: model for model in held.models if model.name in visible}
    return Serving(models, held.registry_error)


def reference(session: Session, run_id: str | None) -> pd.DataFrame | None:
    """The sample of the training data that a run logged, or None if it logged none."""
    if run_id is None:
        return None

    def load() -> pd.DataFrame | None:
        source = session.tracking.run(run_id)
        content = session.tracking.artifact(source, REFERENCE, REFERENCE_BYTES)
        return None if content is None else prediction_log.read_reference(content)

    return session.read(MLFLOW, ("reference", run_id), load)


def predictions(
    session: Session, model: str, version: str, start: datetime, end: datetime
) -> Sample:
    """The requests to a version, and its predictions, in a window; see `PredictionLog.read`."""
    log = session.log
    assert log is not None
    return session.read(
        prediction_log.SERVICE,
        ("rows", model, version, start, end),
        lambda: log.read(model, version, start, end),
    )


def dag_runs(session: Session) -> list[DagRun]:
    """The newest DAG runs."""
    assert session.airflow is not None
    return session.read(airflow.SERVICE, "dag runs", session.airflow.dag_runs)


def tasks(session: Session, run: DagRun) -> list[Task]:
    """The tasks of a DAG run."""
    client = session.airflow
    assert client is not None
    return session.read(
        airflow.SERVICE, ("tasks", run.dag, run.id), lambda: client.tasks(run.dag, run.id)
    )


def api_name(api: ModelApi, session: Session) -> str:
    """The model API's name on the page; with the host if there are several."""
    return MODEL_API if len(session.apis) == 1 else f"{MODEL_API} on {api.host}"


def loaded_models(api: ModelApi, session: Session) -> Load[Held]:
    """The arguments of `Session.read` for the models that a host has loaded."""
    return api_name(api, session), "models", api.models


def _login(session: Session) -> Load[str]:
    return MLFLOW, "login", session.tracking.check_login


def _run(session: Session, run_id: str) -> Load[Run]:
    return MLFLOW, ("run", run_id), lambda: session.tracking.run(run_id)


def _versions(session: Session, model: str) -> Load[list[ModelVersion]]:
    return MLFLOW, ("versions", model), lambda: session.tracking.versions(model)
