"""Logins that survive a reload of the page, kept in the memory of this process.

A restart of the dashboard signs everybody out. `login_cookie` connects a login to a browser.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from dashboard.settings import Settings

TICKET_SECONDS = 60.0
LONGEST_SECONDS = 7 * 86_400.0
"""Maximum age of a login, even if it is used all the time."""

MOST_LOGINS = 1000
"""Beyond this number, the least recently used login ends."""


@dataclass(eq=False)
class Login:
    """An MLflow login that MLflow has accepted."""

    username: str
    password: str = field(repr=False)
    began: float
    used: float


class Logins:
    """All logins of this process. Cookies and tickets are kept only as hashes."""

    def __init__(self, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without logins.

        Args:
            idle_seconds: how long an unused login stays valid.
            clock: returns seconds.
        """
        self._idle, self._clock = idle_seconds, clock
        self._lock = threading.Lock()
        self._alive: OrderedDict[Login, None] = OrderedDict()
        """In the order of their last use."""
        self._cookies: dict[str, Login] = {}
        self._tickets: dict[str, tuple[Login, float]] = {}

    def begin(self, username: str, password: str) -> Login:
        """Keep a login that MLflow has accepted."""
        now = self._clock()
        login = Login(username, password, now, now)
        with self._lock:
            self._sweep()
            while len(self._alive) >= MOST_LOGINS:
                self._end(next(iter(self._alive)))
            self._alive[login] = None
        return login

    def use(self, login: Login) -> bool:
        """Whether the login is still valid; if so, its idle time starts again."""
        with self._lock:
            self._sweep()
            if login not in self._alive:
                return False
            login.used = self._clock()
            self._alive.move_to_end(login)
            return True

    def end(self, login: Login) -> None:
        """End a login: its cookie stops working in every tab."""
        with self._lock:
            self._end(login)

    def ticket(self, login: Login) -> str:
        """A new ticket, which can be exchanged for the cookie."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets[_hash(ticket)] = (login, self._clock() + TICKET_SECONDS)
        return ticket

    def has_cookie(self, login: Login | None) -> bool:
        """Whether a browser has the login's cookie."""
        with self._lock:
            return any(found is login for found in self._cookies.values())

    def exchange(self, ticket: str) -> str | None:
        """The value of a new cookie for a ticket; None if the ticket is unknown, used or expired.

        The value is generated here and never comes from a client, so nobody can plant a cookie
        before the login.
        """
        with self._lock:
            self._sweep()
            login, _ = self._tickets.pop(_hash(ticket), (None, 0.0))
            if login is None or login not in self._alive:
                return None
            cookie = secrets.token_urlsafe(32)
            self._cookies[_hash(cookie)] = login
            return cookie

    def find(self, cookie: str) -> Login | None:
        """The login of a cookie; None if it has ended."""
        with self._lock:
            self._sweep()
            return self._cookies.get(_hash(cookie))

    def _sweep(self) -> None:
        now = self._clock()
        for login in [
            login
            for login in self._alive
            if now - login.used > self._idle or now - login.began > LONGEST_SECONDS
        ]:
            self._end(login)
        self._tickets = {k: found for k, found in self._tickets.items() if now < found[1]}

    def _end(self, login: Login) -> None:
        self._alive.pop(login, None)
        self._cookies = {k: found for k, found in self._cookies.items() if found is not login}
        self._tickets = {k: found for k, found in self._tickets.items() if found[0] is not login}


@cache
def logins() -> Logins:
    """The only store of this process."""
    return Logins(Settings.from_env().login_idle_hours * 3600)


def _hash(secret: str) -> str:
    # JSON can hold a lone surrogate, which UTF-8 cannot encode.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
