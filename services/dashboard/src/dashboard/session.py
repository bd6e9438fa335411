"""One visitor's signed-in session: their clients, and what they have already loaded.

It lives in `st.session_state` and nowhere else. Nothing here is shared between visitors: in
particular no `st.cache_data`, whose entries all sessions of the process see.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import streamlit as st

from dashboard.services import Away
from dashboard.serving import ModelApi
from dashboard.settings import Settings
from dashboard.tracking import Tracking

FRESH_SECONDS = 30.0
"""How long an answer is shown without asking again."""

PAUSE_SECONDS = 10.0
"""How long a service that was away is not asked again, so that pages stay quick."""

KEPT_ANSWERS = 200

_KEY = "lastro_session"


@dataclass
class _Answer:
    value: object
    asked: float
    at: datetime


@dataclass(repr=False)
class Session:
    """What a signed-in visitor has; `username` as MLflow spells it."""

    username: str
    settings: Settings
    tracking: Tracking
    models: ModelApi
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
        self._answers.pop((service, key), None)
        self._answers[(service, key)] = _Answer(value, now, datetime.now(UTC))
        if len(self._answers) > KEPT_ANSWERS:
            del self._answers[next(iter(self._answers))]
        return value

    def refresh(self) -> None:
        """Ask for everything anew; kept answers stay for when a service is away."""
        self._away.clear()
        for answer in self._answers.values():
            answer.asked = float("-inf")

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
    models = ModelApi(settings.model_api_url, settings.model_api_key)
    st.session_state[_KEY] = Session(username, settings, tracking, models)


def close_session() -> None:
    """Forget the login and everything that was loaded with it."""
    if session := current():
        session.tracking.close()
        session.models.close()
    st.session_state.clear()
