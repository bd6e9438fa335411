"""A signed-in visitor's session in one tab: the clients, and how pages read from services.

The session exists only in `st.session_state`. The answers that it loads are in the process's store,
under the session's own key, and are dropped when the tab closes.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial

import streamlit as st

from dashboard.airflow import Airflow
from dashboard.answers import MIB, TOTAL_BYTES, Answer, Answers, TooLarge
from dashboard.login_cookie import returning
from dashboard.logins import Login, logins
from dashboard.prediction_log import PredictionLog
from dashboard.services import Refused, Slow, Unavailable
from dashboard.serving import ModelApi
from dashboard.settings import Settings
from dashboard.tracking import Tracking

FRESH_SECONDS = 30.0
"""How long an answer is shown before it is requested again."""

PAUSE_SECONDS = 10.0
"""How long an unavailable service is not called again, so that pages stay fast."""

WAIT_SECONDS = 1.5
"""How long a page waits for an answer. The request continues; the page shows a late answer."""

AT_ONCE = 8
"""Most concurrent requests of a session to one service."""

MOST_PENDING = 200
"""Most running and waiting requests of a session to one service."""

_KEY = "lastro_session"

ANSWERS = Answers()
"""The only store of this process."""


class State(StrEnum):
    """The state of a service in this session, the same on every part of a page."""

    HEALTHY = "healthy"
    SLOW = "slow"
    UNAVAILABLE = "unavailable"


type Load[T] = tuple[str, Hashable, Callable[[], T]]
"""The arguments of `Session.read`: service, key, load."""


@dataclass
class _Pending:
    """A running request, or a failed one that no page has read yet.

    `began` is a time of the session's clock.
    """

    answer: Future[object]
    began: float
    stale: bool = False


@dataclass(repr=False, eq=False)
class Session:
    """The clients and the state of a signed-in visitor; `username` as MLflow spells it."""

    username: str
    settings: Settings
    tracking: Tracking
    apis: tuple[ModelApi, ...]
    """One client per host of the model API; the first one predicts."""
    airflow: Airflow | None = None
    log: PredictionLog | None = None
    login: Login | None = None
    ticket: str | None = None
    """The page exchanges it for the cookie."""
    clock: Callable[[], float] = time.monotonic
    old: dict[str, datetime] = field(default_factory=dict)
    """Services that did not answer in this run of the page -> time of the oldest answer shown."""
    waits_for: set[str] = field(default_factory=set)
    """Services for which this run of the page stopped waiting."""
    problems_shown: int = 0
    """Number of problems that this run of the page has shown, each with its own button."""
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    """The key of this session's answers in the store."""
    _news: set[str] = field(default_factory=set)
    """Services with an answer or an error since this run of the page began."""
    _took: dict[str, float] = field(default_factory=dict)
    """Service -> seconds of the slowest answer shown in this run."""
    _pending: dict[tuple[str, Hashable], _Pending] = field(default_factory=dict)
    _unavailable: dict[str, tuple[float, Unavailable]] = field(default_factory=dict)
    _gates: dict[str, threading.Semaphore] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Start a run of the page."""
        self.old.clear()
        self.problems_shown = 0
        self.waits_for.clear()
        self._took.clear()
        with self._lock:
            self._news.clear()
            for key, pending in list(self._pending.items()):
                if pending.stale:
                    del self._pending[key]
                # An error that came after the last run is read by this run, or dropped.
                pending.stale = pending.answer.done()

    def read[T](
        self, service: str, key: Hashable, load: Callable[[], T], seconds: float | None = None
    ) -> T:
        """An answer not older than `FRESH_SECONDS`, or a kept one if the service is unavailable.

        Args:
            service: the service's name on the page.
            key: identifies the request; unique within the service.
            load: calls the service. It runs in another thread and must not use this session.
            seconds: how long the page waits for the answer; `WAIT_SECONDS` by default.

        Raises:
            Slow: there is no answer yet and no kept one. The request continues.
            Unavailable: the service is unavailable and there is no kept answer.
            ServiceError: any other error that `load` raises.
        """
        kept = ANSWERS.get(self.key, (service, key))
        if kept and self._is_fresh(kept):
            return self._show(service, kept)  # type: ignore[return-value]
        try:
            return self._ask(service, key, load, seconds)
        except Unavailable:
            if kept is None:
                raise
            self.old[service] = min(self.old.get(service, kept.at), kept.at)
            return kept.value  # type: ignore[return-value]

    def prefetch(self, loads: Iterable[Load[object]]) -> None:
        """Request several answers in parallel; `read` then finds them, or raises immediately.

        Args:
            loads: the arguments of the later calls of `read`.
        """
        begun = []
        for service, key, load in loads:
            kept = ANSWERS.get(self.key, (service, key))
            if (kept and self._is_fresh(kept)) or self.problem(service):
                continue
            if pending := self._start(service, key, load):
                begun.append((service, pending.answer))
        wait([answer for service, answer in begun if service not in self.waits_for], WAIT_SECONDS)

    def state(self, service: str) -> State:
        """The state of the service in this run of the page."""
        if service in self._unavailable:
            return State.UNAVAILABLE
        if service in self.waits_for or self._took.get(service, 0.0) > WAIT_SECONDS:
            return State.SLOW
        return State.HEALTHY

    def problem(self, service: str) -> Unavailable | None:
        """Why the service is not called now; None if it is."""
        until, error = self._unavailable.get(service, (0.0, None))
        return error if error is not None and self.clock() < until else None

    def took(self, service: str) -> float:
        """Seconds of the slowest answer shown in this run; 0.0 if none was shown."""
        return self._took.get(service, 0.0)

    def has_news(self) -> bool:
        """Whether a service for which this run stopped waiting now has an answer or an error."""
        with self._lock:
            return bool(self._news & self.waits_for)

    def refresh(self, *services: str) -> None:
        """Have answers requested again, from these services or all.

        Kept answers stay, to be shown if a service is unavailable.
        """
        for service in services or tuple(self._unavailable):
            self._unavailable.pop(service, None)
        for asked in services or (None,):
            ANSWERS.expire(self.key, asked)

    def release(self) -> None:
        """Drop all loaded answers; later reads request them again."""
        with self._lock:
            self._pending.clear()
            ANSWERS.forget(self.key)

    def close(self) -> None:
        """Drop all loaded answers and close the connections."""
        self.release()
        for client in (self.tracking, *self.apis, self.airflow):
            if client is not None:
                client.close()

    def _is_fresh(self, kept: Answer) -> bool:
        return kept.fresh and self.clock() - kept.came < FRESH_SECONDS

    def _show(self, service: str, kept: Answer) -> object:
        self._took[service] = max(kept.took, self._took.get(service, 0.0))
        return kept.value

    def _ask[T](
        self, service: str, key: Hashable, load: Callable[[], T], seconds: float | None
    ) -> T:
        if error := self.problem(service):
            raise error
        pending = self._start(service, key, load)
        if pending is None:
            self.waits_for.add(service)
            raise Slow(f"{service} has too many open requests. Wait until some of them end.")
        # A run of the page waits at most once for each service. Later requests have had that
        # time already.
        limit = WAIT_SECONDS if seconds is None else seconds
        left = 0.0 if service in self.waits_for else pending.began + limit - self.clock()
        try:
            value = pending.answer.result(max(0.0, left))
        except TimeoutError:
            self.waits_for.add(service)
            waited = self.clock() - pending.began
            raise Slow(f"{service} is slow: no answer for {waited:.0f} s.") from None
        finally:
            if pending.answer.done():
                with self._lock:
                    if self._pending.get((service, key)) is pending:
                        del self._pending[(service, key)]
        if kept := ANSWERS.get(self.key, (service, key)):
            self._show(service, kept)
        return value  # type: ignore[return-value]

    def _start(self, service: str, key: Hashable, load: Callable[[], object]) -> _Pending | None:
        """The running request, started now if there is none; None if too many are open.

        Each request has its own thread, which ends with it. Threads of a pool would live as long as
        the session, and Python would wait for them when the dashboard stops.
        """
        with self._lock:
            if pending := self._pending.get((service, key)):
                return pending
            if sum(other[0] == service for other in self._pending) >= MOST_PENDING:
                return None
            pending = _Pending(Future(), self.clock())
            self._pending[(service, key)] = pending
            gate = self._gates.setdefault(service, threading.Semaphore(AT_ONCE))
        run = partial(self._load, (service, key), pending, load, gate)
        threading.Thread(target=run, daemon=True, name=f"ask {service}").start()
        return pending

    def _load(
        self,
        key: tuple[str, Hashable],
        pending: _Pending,
        load: Callable[[], object],
        gate: threading.Semaphore,
    ) -> None:
        service = key[0]
        try:
            with gate:
                value = load()
            with self._lock:
                # After a release in the meantime, nothing would ever drop this answer.
                if self._pending.get(key) is pending:
                    ANSWERS.put(self.key, key, value, self.clock() - pending.began)
                    del self._pending[key]
            self._unavailable.pop(service, None)
            settle = partial(pending.answer.set_result, value)
        except TooLarge:
            error = Refused(f"The answer of {service} is larger than {TOTAL_BYTES // MIB} MiB.")
            settle = partial(pending.answer.set_exception, error)
        except BaseException as error:
            if isinstance(error, Unavailable):
                self._unavailable[service] = (self.clock() + PAUSE_SECONDS, error)
            settle = partial(pending.answer.set_exception, error)
        with self._lock:
            self._news.add(service)
        settle()


def current() -> Session | None:
    """This visitor's session; None before the sign-in."""
    session: Session | None = st.session_state.get(_KEY)
    return session


def resume(settings: Settings) -> Session | None:
    """This tab's session if its login is valid, or a new one for the login of the cookie."""
    session = current()
    if session is not None:
        if session.login is None or logins().use(session.login):
            return session
        leave()
        return None
    login = returning()
    return open_session(settings, login) if login and logins().use(login) else None


def open_session(settings: Settings, login: Login, ticket: str | None = None) -> Session:
    """Open a session in this tab for a verified login.

    Args:
        settings: the addresses of the services.
        login: a login that MLflow has accepted.
        ticket: for the cookie, if the browser has none yet.
    """
    session = st.session_state[_KEY] = Session(
        username=login.username,
        settings=settings,
        tracking=Tracking(settings.mlflow_url, login.username, login.password),
        apis=tuple(ModelApi(url, settings.model_api_key) for url in settings.model_api_hosts),
        airflow=Airflow.from_settings(settings),
        log=PredictionLog.from_settings(settings),
        login=login,
        ticket=ticket,
    )
    return session


@st.cache_resource(scope="session", on_release=Session.release, show_spinner=False)
def hold(key: str, _session: Session) -> Session:
    """Drop a session's answers as soon as its tab closes.

    Streamlit keeps the session state of a closed tab for two minutes, in case the tab reconnects.
    """
    return _session


def leave() -> None:
    """Close this tab's session and drop its answers."""
    if session := current():
        session.close()
    st.session_state.clear()


def sign_out() -> None:
    """End the login in every tab of the browser, and close this tab's session."""
    if (session := current()) and session.login:
        logins().end(session.login)
    leave()
