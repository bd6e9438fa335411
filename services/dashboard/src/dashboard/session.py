"""One visitor's signed-in session: their clients, and what they have already loaded.

It lives in `st.session_state` and nowhere else. Nothing here is shared between visitors: in
particular no `st.cache_data`, whose entries all sessions of the process see.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import streamlit as st

from dashboard.airflow import Airflow
from dashboard.prediction_log import PredictionLog
from dashboard.services import Away, ServiceError
from dashboard.serving import ModelApi
from dashboard.settings import Settings
from dashboard.tracking import Tracking

FRESH_SECONDS = 30.0
"""How long an answer is shown without asking again."""

PAUSE_SECONDS = 10.0
"""How long a service that was away is not asked again, so that pages stay quick."""

KEPT_ANSWERS = 300

AT_ONCE = 8
"""Requests that a page sends at the same time."""

_KEY = "lastro_session"


@dataclass
class _Answer:
    value: object
    asked: float
    at: datetime


type Load = tuple[str, Hashable, Callable[[], object]]
"""What `Session.read` is given: service, key, load."""


@dataclass(repr=False)
class Session:
    """What a signed-in visitor has; `username` as MLflow spells it."""

    username: str
    settings: Settings
    tracking: Tracking
    apis: tuple[ModelApi, ...]
    """One for each host of the model API; the first is the one that predicts."""
    airflow: Airflow | None = None
    log: PredictionLog | None = None
    clock: Callable[[], float] = time.monotonic
    old: dict[str, datetime] = field(default_factory=dict)
    """Services that were away in this run of the page -> age of the oldest answer shown."""
    _answers: dict[Hashable, _Answer] = field(default_factory=dict)
    _away: dict[str, tuple[float, Away]] = field(default_factory=dict)

    def begin(self) -> None:
        """Start a run of the page."""
        self.old.clear()

    def read[T](self, service: str, key: Hashable, load: Callable[[], T]) -> T:
        """An answer not older than `FRESH_SECONDS`, or the kept one while the service is away.

        Args:
            service: the service's name as shown to the visitor.
            key: what is asked; unique within the service.
            load: asks the service.

        Raises:
            Away: the service is away and nothing was kept.
            ServiceError: any other refusal, as `load` raises it.
        """
        kept = self._answers.get((service, key))
        now = self.clock()
        if kept is not None and now - kept.asked < FRESH_SECONDS:
            return kept.value  # type: ignore[return-value]
        try:
            value = self._ask(service, load)
        except Away:
            if kept is None:
                raise
            self.old[service] = min(self.old.get(service, kept.at), kept.at)
            return kept.value  # type: ignore[return-value]
        self._keep(service, key, value)
        return value

    def prefetch(self, loads: Iterable[Load]) -> None:
        """Ask for several answers at the same time; `read` then finds them, or raises at once.

        Args:
            loads: what `read` will be asked for. A load may not touch this session.
        """
        now = self.clock()
        wanted = [
            (service, key, load)
            for service, key, load in loads
            if now >= self._away.get(service, (0.0, None))[0]
            and not (
                (kept := self._answers.get((service, key))) and now - kept.asked < FRESH_SECONDS
            )
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [(service, key, pool.submit(load)) for service, key, load in wanted]
        for service, key, answer in asked:
            try:
                self._keep(service, key, answer.result())
            except Away as away:
                self._away[service] = (self.clock() + PAUSE_SECONDS, away)
            except ServiceError:
                pass  # `read` asks once more, and its caller hears the refusal.

    def refresh(self, *services: str) -> None:
        """Ask anew, these services or all; kept answers stay for when a service is away."""
        for service in services or tuple(self._away):
            self._away.pop(service, None)
        for (service, _), answer in self._answers.items():
            if not services or service in services:
                answer.asked = float("-inf")

    def close(self) -> None:
        """Close the connections."""
        for client in (self.tracking, *self.apis, self.airflow):
            if client is not None:
                client.close()

    def _keep(self, service: str, key: Hashable, value: object) -> None:
        self._answers.pop((service, key), None)
        self._answers[(service, key)] = _Answer(value, self.clock(), datetime.now(UTC))
        if len(self._answers) > KEPT_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _ask[T](self, service: str, load: Callable[[], T]) -> T:
        until, error = self._away.get(service, (0.0, None))
        if error is not None and self.clock() < until:
            raise error
        try:
            value = load()
        except Away as away:
            self._away[service] = (self.clock() + PAUSE_SECONDS, away)
            raise
        self._away.pop(service, None)
        return value


def current() -> Session | None:
    """This visitor's session, None before they sign in."""
    return st.session_state.get(_KEY)


def open_session(settings: Settings, tracking: Tracking, username: str) -> None:
    """Remember a verified login in this visitor's session state."""
    st.session_state[_KEY] = Session(
        username=username,
        settings=settings,
        tracking=tracking,
        apis=tuple(ModelApi(url, settings.model_api_key) for url in settings.model_api_hosts),
        airflow=Airflow.from_settings(settings),
        log=PredictionLog.from_settings(settings),
    )


def close_session() -> None:
    """Forget the login and everything that was loaded with it."""
    if session := current():
        session.close()
    st.session_state.clear()
