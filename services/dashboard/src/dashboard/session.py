"""One visitor's signed-in session in one tab: their clients, and how its pages read from services.

It is kept in `st.session_state` and nowhere else. What it has loaded is in the process's store of
answers, under a key of its own, and goes when the tab closes.
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
from dashboard.logins import Login, logins, returning
from dashboard.prediction_log import PredictionLog
from dashboard.services import Away, Refused, Slow
from dashboard.serving import ModelApi
from dashboard.settings import Settings
from dashboard.tracking import Tracking

FRESH_SECONDS = 30.0
"""How long an answer is shown without asking again."""

PAUSE_SECONDS = 10.0
"""How long a service that was away is not asked again, so that pages stay quick."""

WAIT_SECONDS = 1.5
"""How long a page waits for an answer. The request goes on, and the page shows it when it comes."""

AT_ONCE = 8
"""Requests that a session sends to a service at the same time."""

MOST_PENDING = 200
"""Requests to a service that a session may have under way or waiting."""

_KEY = "lastro_session"

ANSWERS = Answers()
"""The store of this process."""


class State(StrEnum):
    """How a service has behaved towards this session, as every page tells it."""

    HEALTHY = "healthy"
    SLOW = "slow"
    AWAY = "away"


type Load[T] = tuple[str, Hashable, Callable[[], T]]
"""What `Session.read` is given: service, key, load."""


@dataclass
class _Pending:
    """A request under way, or refused and not read yet; `began` by the session's clock."""

    answer: Future[object]
    began: float
    stale: bool = False


@dataclass(repr=False, eq=False)
class Session:
    """What a signed-in visitor has; `username` as MLflow spells it."""

    username: str
    settings: Settings
    tracking: Tracking
    apis: tuple[ModelApi, ...]
    """One for each host of the model API; the first is the one that predicts."""
    airflow: Airflow | None = None
    log: PredictionLog | None = None
    login: Login | None = None
    ticket: str | None = None
    """To be exchanged for the cookie by the page."""
    clock: Callable[[], float] = time.monotonic
    old: dict[str, datetime] = field(default_factory=dict)
    """Services that did not answer in this run of the page -> age of the oldest answer shown."""
    waits_for: set[str] = field(default_factory=set)
    """Services whose answer this run of the page did not wait for any longer."""
    told: int = 0
    """How many problems this run of the page has told, each with a button of its own."""
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    """What the answers are kept under."""
    _news: set[str] = field(default_factory=set)
    """Services that have answered, or failed to, since the run of the page began."""
    _took: dict[str, float] = field(default_factory=dict)
    """Service -> seconds that the slowest answer shown in this run took."""
    _pending: dict[tuple[str, Hashable], _Pending] = field(default_factory=dict)
    _away: dict[str, tuple[float, Away]] = field(default_factory=dict)
    _gates: dict[str, threading.Semaphore] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Start a run of the page."""
        self.old.clear()
        self.told = 0
        self.waits_for.clear()
        self._took.clear()
        with self._lock:
            self._news.clear()
            for key, pending in list(self._pending.items()):
                if pending.stale:
                    del self._pending[key]
                # A refusal that came after the last run is read by this one, or dropped.
                pending.stale = pending.answer.done()

    def read[T](
        self, service: str, key: Hashable, load: Callable[[], T], seconds: float | None = None
    ) -> T:
        """An answer not older than `FRESH_SECONDS`, or the kept one while the service is away.

        Args:
            service: the service's name as shown to the visitor.
            key: what is asked; unique within the service.
            load: asks the service. It runs in another thread and may not touch this session.
            seconds: how long the page waits for it; `WAIT_SECONDS` unless given.

        Raises:
            Slow: there is no answer yet and nothing was kept. The request goes on.
            Away: the service is away and nothing was kept.
            ServiceError: any other refusal, as `load` raises it.
        """
        kept = ANSWERS.get(self.key, (service, key))
        if kept and self._is_fresh(kept):
            return self._show(service, kept)  # type: ignore[return-value]
        try:
            return self._ask(service, key, load, seconds)
        except Away:
            if kept is None:
                raise
            self.old[service] = min(self.old.get(service, kept.at), kept.at)
            return kept.value  # type: ignore[return-value]

    def prefetch(self, loads: Iterable[Load[object]]) -> None:
        """Ask for several answers at the same time; `read` then finds them, or raises at once.

        Args:
            loads: what `read` will be asked for.
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
        """How the service has behaved in this run of the page."""
        if service in self._away:
            return State.AWAY
        if service in self.waits_for or self._took.get(service, 0.0) > WAIT_SECONDS:
            return State.SLOW
        return State.HEALTHY

    def problem(self, service: str) -> Away | None:
        """Why the service is not asked for now, None where it is."""
        until, error = self._away.get(service, (0.0, None))
        return error if error is not None and self.clock() < until else None

    def took(self, service: str) -> float:
        """Seconds that the slowest answer shown in this run took; 0.0 where none was shown."""
        return self._took.get(service, 0.0)

    def has_news(self) -> bool:
        """Whether a service that this run did not wait for has answered, or failed to."""
        with self._lock:
            return bool(self._news & self.waits_for)

    def refresh(self, *services: str) -> None:
        """Ask anew, these services or all; kept answers stay for when a service is away."""
        for service in services or tuple(self._away):
            self._away.pop(service, None)
        for asked in services or (None,):
            ANSWERS.expire(self.key, asked)

    def release(self) -> None:
        """Give back what was loaded; what is asked for later is loaded again."""
        with self._lock:
            self._pending.clear()
            ANSWERS.forget(self.key)

    def close(self) -> None:
        """Give back what was loaded, and close the connections."""
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
            raise Slow(f"{service} has many requests open. Wait for them to end.")
        # One wait for each service and run: what comes next has had its time already.
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
        """The request under way, which begins now if there is none; None when there are too many.

        Each has a thread of its own, which ends with it: threads of a pool would live as long as
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
                # Released in the meantime: nobody would ever drop it.
                if self._pending.get(key) is pending:
                    ANSWERS.put(self.key, key, value, self.clock() - pending.began)
                    del self._pending[key]
            self._away.pop(service, None)
            settle = partial(pending.answer.set_result, value)
        except TooLarge:
            error = Refused(f"The answer is larger than {TOTAL_BYTES // MIB} MiB.")
            settle = partial(pending.answer.set_exception, error)
        except BaseException as error:
            if isinstance(error, Away):
                self._away[service] = (self.clock() + PAUSE_SECONDS, error)
            settle = partial(pending.answer.set_exception, error)
        with self._lock:
            self._news.add(service)
        settle()


def current() -> Session | None:
    """This visitor's session, None before they sign in."""
    session: Session | None = st.session_state.get(_KEY)
    return session


def resume(settings: Settings) -> Session | None:
    """This tab's session while its login holds, or one for the login of the browser's cookie."""
    session = current()
    if session is not None:
        if session.login is None or logins().use(session.login):
            return session
        leave()
        return None
    login = returning()
    return open_session(settings, login) if login and logins().use(login) else None


def open_session(settings: Settings, login: Login, ticket: str | None = None) -> Session:
    """Remember a verified login in this tab's session state.

    Args:
        settings: where the services are.
        login: what MLflow has accepted.
        ticket: for the cookie, where the browser has none yet.
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
    """Have what a session has loaded given back as soon as its tab closes.

    Streamlit keeps the session state of a closed tab for two minutes, in case it comes back.
    """
    return _session


def leave() -> None:
    """Forget this tab's session and everything that was loaded with it."""
    if session := current():
        session.close()
    st.session_state.clear()


def sign_out() -> None:
    """End the login in every tab of the browser, and forget this tab's session."""
    if (session := current()) and session.login:
        logins().end(session.login)
    leave()
