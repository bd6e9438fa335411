"""The health of every service, as the cards of the overview show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import overload

from dashboard import airflow, board, prediction_log
from dashboard.prediction_log import PredictionLog
from dashboard.services import ServiceError, Slow, Unavailable
from dashboard.serving import ModelApi
from dashboard.session import WAIT_SECONDS, Load, Session, State
from dashboard.ui import counted

LATE = timedelta(minutes=1)
"""The model API polls MLflow every few seconds, so a longer gap is a fault."""


@dataclass(frozen=True)
class Health:
    """A service's state in one word, a note if there is more to say, and the state of its parts.

    `good` is None if the state is neither good nor bad: not set up, unknown, empty or slow.
    """

    name: str
    state: str
    good: bool | None
    note: str = ""
    parts: Mapping[str, bool] = field(default_factory=dict)


def of_services(session: Session) -> list[Health]:
    """The state of every service, requested in parallel where no fresh answer is kept."""
    loads: list[Load[object]] = [board.loaded_models(api, session) for api in session.apis]
    loads += [_ready(api, session) for api in session.apis]
    if session.airflow:
        loads.append((airflow.SERVICE, "health", session.airflow.health))
    session.prefetch(loads)
    return [
        _mlflow_health(session),
        _airflow_health(session),
        *(_api_health(session, api) for api in session.apis),
    ]


def of_prediction_log(
    session: Session, served: Iterable[tuple[str, str]], problem: ServiceError | None = None
) -> Health:
    """The prediction log's state: the time of the newest prediction of these (model, version).

    With a `problem`, the serving versions are unknown.
    """
    name, log = "Prediction log", session.log
    if log is None:
        return Health(name, "not set up", None, "DASHBOARD_PREDICTION_LOG_URL is not set.")
    if problem:
        return Health(name, "unknown", None, "The serving versions are unknown.")
    loads = [_newest(log, model, version) for model, version in served]
    session.prefetch(loads)
    try:
        newest = [at for load in loads if (at := session.read(*load))]
    except ServiceError as error:
        return _outage(name, prediction_log.SERVICE, session, error)
    if outage := _outage(name, prediction_log.SERVICE, session):
        return outage
    if not newest:
        return Health(name, "empty", None, "No prediction since yesterday.")
    return Health(name, "readable", True, f"newest {max(newest):%d %b, %H:%M} UTC")


def _mlflow_health(session: Session) -> Health:
    try:
        models = counted(len(board.registered_models(session)), "model")
        held = f"{models}, {counted(len(board.experiments(session)), 'experiment')}"
    except Unavailable as error:
        return _outage("MLflow", board.MLFLOW, session, error)
    return _outage("MLflow", board.MLFLOW, session) or Health("MLflow", "healthy", True, held)


def _api_health(session: Session, api: ModelApi) -> Health:
    service = board.api_name(api, session)
    name = "Model API" if len(session.apis) == 1 else f"Model API {api.host}"
    try:
        ready = session.read(*_ready(api, session))
        age = session.read(*board.loaded_models(api, session)).age
    except ServiceError as error:
        return _outage(name, service, session, error)
    if outage := _outage(name, service, session):
        return outage
    if not ready:
        return Health(name, "not ready", False)
    if age is None:
        return Health(name, "ready", True, "has not polled MLflow yet")
    seconds = age.total_seconds()
    if age > LATE:
        return Health(name, "late", False, f"has not polled MLflow for {seconds:.0f} s")
    return Health(name, "ready", True, f"polled MLflow {seconds:.0f} s ago")


def _airflow_health(session: Session) -> Health:
    if session.airflow is None:
        return Health("Airflow", "not set up", None, "AIRFLOW_API_URL is not set.")
    try:
        states = session.read(airflow.SERVICE, "health", session.airflow.health)
    except ServiceError as error:
        return _outage("Airflow", airflow.SERVICE, session, error)
    if outage := _outage("Airflow", airflow.SERVICE, session):
        return outage
    parts = {name.replace("_", " "): state == "healthy" for name, state in states.items()}
    good = all(parts.values())
    return Health("Airflow", "healthy" if good else "unhealthy", good, parts=parts)


def _ready(api: ModelApi, session: Session) -> Load[bool]:
    return board.api_name(api, session), "ready", api.ready


def _newest(log: PredictionLog, model: str, version: str) -> Load[datetime | None]:
    return (
        prediction_log.SERVICE,
        ("newest", model, version),
        lambda: log.newest(model, version),
    )


@overload
def _outage(name: str, service: str, session: Session, error: ServiceError) -> Health: ...
@overload
def _outage(name: str, service: str, session: Session) -> Health | None: ...
def _outage(
    name: str, service: str, session: Session, error: ServiceError | None = None
) -> Health | None:
    """The health of a service that is slow or unavailable; None if it answers as it should.

    It uses the same record of the service as every other part of the page, so that no part
    contradicts another.
    """
    state = session.state(service)
    if state is State.SLOW or isinstance(error, Slow):
        took = session.took(service)
        note = f"The last answer took {took:.1f} s." if took > WAIT_SECONDS else "No answer yet."
        return Health(name, "slow", None, str(error or note))
    if state is State.UNAVAILABLE or error:
        return Health(name, "unavailable", False, str(error or session.problem(service) or ""))
    return None
