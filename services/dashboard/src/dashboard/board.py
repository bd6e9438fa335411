"""What the pages read, through the visitor's session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dashboard.services import ServiceError
from dashboard.serving import SERVICE, ServedModel
from dashboard.session import Session
from dashboard.tracking import Experiment, ModelVersion, RegisteredModel, Run

MLFLOW = "MLflow"
RECENT_RUNS = 8


@dataclass(frozen=True)
class Serving:
    """What the model API serves to this visitor, or in `problem` why that is unknown."""

    models: dict[str, ServedModel]
    alias: str = "champion"
    registry_error: str | None = None
    problem: str | None = None


def experiments(session: Session) -> list[Experiment]:
    """Experiments, the one updated last first."""
    return session.read(MLFLOW, "experiments", session.tracking.experiments)


def runs(session: Session, experiment_ids: tuple[str, ...], query: str = "") -> list[Run]:
    """Runs of these experiments, newest first; see `Tracking.runs`."""
    return session.read(
        MLFLOW,
        ("runs", experiment_ids, query),
        lambda: session.tracking.runs(experiment_ids, query),
    )


def recent_runs(session: Session) -> list[Run]:
    """The newest `RECENT_RUNS` runs of all experiments."""
    ids = [experiment.id for experiment in experiments(session)]
    return session.read(
        MLFLOW, "recent runs", lambda: session.tracking.runs(ids, limit=RECENT_RUNS)
    )


def run(session: Session, run_id: str) -> Run:
    """One run."""
    return session.read(MLFLOW, ("run", run_id), lambda: session.tracking.run(run_id))


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
    return session.read(MLFLOW, ("versions", model), lambda: session.tracking.versions(model))


def input_example(session: Session, model: str, version: str | None) -> dict[str, Any]:
    """The first row of a version's input example, empty when there is none."""
    found = next((v for v in versions(session, model) if v.version == version), None)
    if found is None:
        return {}
    return session.read(
        MLFLOW, ("example", model, version), lambda: session.tracking.input_example(found)
    )


def serving(session: Session) -> Serving:
    """What serves, limited to the registered models this visitor may see in MLflow."""
    visible = {model.name for model in registered_models(session)}
    try:
        held = session.read(SERVICE, "models", session.models.models)
    except ServiceError as error:
        return Serving({}, problem=str(error))
    models = {model.name: model for model in held.models if model.name in visible}
    return Serving(models, held.alias, held.registry_error)


def api_state(session: Session) -> str:
    """`ready`, `not ready` or `away`."""
    try:
        ready = session.read(SERVICE, "ready", session.models.ready)
    except ServiceError:
        return "away"
    if SERVICE in session.old:
        return "away"
    return "ready" if ready else "not ready"
