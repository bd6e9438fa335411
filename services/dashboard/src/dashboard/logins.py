"""Logins that survive a reload of the page, identified by a cookie in the visitor's browser.

The cookie holds only a random number. The login for it is kept in the memory of this process, so a
restart of the dashboard signs everybody out. Streamlit talks to the browser over a websocket, which
cannot set a cookie. So a login takes two steps: the signed-in page gets a ticket, which is valid
once and for a minute, and posts it to `/session`; the response sets the cookie.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dashboard.settings import Settings

TICKET_SECONDS = 60.0
LONGEST_SECONDS = 7 * 86_400.0
"""Maximum age of a login, even if it is used all the time."""

MOST_LOGINS = 1000
"""Beyond this number, the least recently used login ends."""

_LARGEST_BODY = 256


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


def returning() -> Login | None:
    """The login for this browser's cookie; None without a valid cookie."""
    origin = st.context.headers.get("Origin")
    cookie = st.context.cookies.get(cookie_name(origin)) if origin else None
    return logins().find(cookie) if cookie else None


def cookie_name(origin: str) -> str:
    """The cookie's name for the address in the browser, such as `https://lastro.example.com`.

    With TLS, the browser ensures that a cookie named `__Host-` was set by exactly this host over
    TLS, so no other host below the same domain can plant one. Without TLS, all ports of a host
    share their cookies, so the port is part of the name.
    """
    parts = urlsplit(origin)
    return "__Host-lastro" if parts.scheme == "https" else f"lastro_{parts.port or 80}"


def path() -> str:
    """The path to which tickets are posted."""
    # `st.get_option` would read Streamlit's settings before the server has set its own.
    base = os.environ.get("STREAMLIT_SERVER_BASE_URL_PATH", "").strip("/")
    return f"/{base}/session" if base else "/session"


def route() -> Route:
    """The route that exchanges a ticket for the cookie."""
    return Route(path(), _set_cookie, methods=["POST"])


async def _set_cookie(request: Request) -> Response:
    # A page of another site could post its owner's ticket, so that the visitor works under that
    # person's login. Browsers send the origin with every POST.
    origin = request.headers.get("origin", "")
    if not _is_own(origin, request.headers.get("host")):
        return PlainTextResponse("Only the dashboard's own pages may sign in here.", 403)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            return PlainTextResponse("The body is too large.", 413)
    try:
        ticket = json.loads(body)["ticket"]
    except (ValueError, TypeError, KeyError):
        ticket = None
    cookie = logins().exchange(ticket) if isinstance(ticket, str) else None
    if cookie is None:
        return PlainTextResponse("The ticket is unknown, used or expired. Sign in again.", 403)
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    # Without Max-Age, the cookie ends with the browser at the latest.
    response.set_cookie(
        cookie_name(origin),
        cookie,
        path="/",
        secure=urlsplit(origin).scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


def _is_own(origin: str, host: str | None) -> bool:
    """Whether an origin is this dashboard's own, by the same rule as Streamlit's websocket."""
    try:
        parts = urlsplit(origin)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    allowed = st.get_option("server.corsAllowedOrigins") or []
    return parts.netloc == host or origin in allowed


def _hash(secret: str) -> str:
    # JSON can hold a lone surrogate, which UTF-8 cannot encode.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
