"""The cookie that identifies a login in the visitor's browser, and the route that sets it.

The cookie holds only a random number, for which `logins` keeps the login. Streamlit talks to the
browser over a websocket, which cannot set a cookie. So a login takes two steps: the signed-in page
gets a ticket, which is valid once and for a minute, and posts it to `/session`; the response sets
the cookie.
"""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dashboard.logins import Login, logins

_LARGEST_BODY = 256


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
