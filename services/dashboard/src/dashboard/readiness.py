"""`GET /health/ready`: draw the pages to check that they can be drawn.

Streamlit's own `/_stcore/health` answers as long as its server runs, even if every page raises.
This route runs the pages in a separate session, through the same code as for a browser. With an
MLflow login (HTTP Basic) it draws every page, without one the sign-in form.

The answer is text: status 200 and the pages drawn, or status 503 and the pages that raise. If
MLflow is unavailable, which is not a fault of the dashboard, the status is 200 and the text says
that the pages were not checked.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import Runtime

from dashboard import login_cookie, logins
from dashboard.pages import PAGES, START
from dashboard.settings import Settings
from dashboard.signin import log_in

PAGE_SECONDS = 60.0
"""Time limit of one page. A page waits only seconds for slow services."""

_ORIGIN = "http://127.0.0.1"


@dataclass
class _Browser:
    """A client of Streamlit's runtime, with the context that page scripts read."""

    cookies: Mapping[str, str]
    headers: Iterable[tuple[str, str]] = (("Origin", _ORIGIN),)
    remote_ip: str | None = None
    raised: list[str] = field(default_factory=list)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def client_context(self) -> _Browser:
        return self

    def write_forward_msg(self, msg: ForwardMsg) -> None:
        """Receive a message from the page, in the event loop's thread."""
        kind = msg.WhichOneof("type")
        if kind == "delta" and msg.delta.new_element.WhichOneof("type") == "exception":
            self.raised.append(msg.delta.new_element.exception.type)
        elif kind == "script_finished":
            if msg.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                self.raised.append("SyntaxError")
            self.finished.set()


async def _draw(pages: Iterable[str], cookie: str | None) -> list[str]:
    """Draw pages at the same time, each in its own session.

    Returns:
        The faults found, in the order of the pages.
    """
    # One after another they take twice as long: most of the time they wait for services.
    drawn = await asyncio.gather(*(_draw_page(page, cookie) for page in pages))
    return [fault for faults in drawn for fault in faults]


async def _draw_page(page: str, cookie: str | None) -> list[str]:
    """Draw one page; return the faults found, at most one."""
    runtime = Runtime.instance()
    browser = _Browser({login_cookie.cookie_name(_ORIGIN): cookie} if cookie else {})
    session = runtime.connect_session(browser, user_info={})
    faults = []
    try:
        message = BackMsg()
        message.rerun_script.page_name = "" if page == START else page
        runtime.handle_backmsg(session, message, client=browser)
        await asyncio.wait_for(browser.finished.wait(), PAGE_SECONDS)
    except TimeoutError:
        faults.append(f"{PAGES[page][0]} takes longer than {PAGE_SECONDS:.0f} s")
    finally:
        runtime.close_session(session)
    if browser.raised:
        faults.append(f"{PAGES[page][0]} raises {browser.raised[0]}")
    return faults


def _given_login(request: Request) -> tuple[str, str] | None:
    """The username and password of an HTTP Basic header, None without a readable one."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(value).decode().partition(":")
    except ValueError:
        return None
    return (username, password) if colon else None


class _Readiness:
    def __init__(self) -> None:
        # Concurrent requests would draw the same pages: one look at a time is enough.
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        async with self._one_at_a_time:
            faults, drawn = await self._look(_given_login(request))
        if faults:
            text = f"Not ready: {'; '.join(faults)}. The journal has the traceback."
            return PlainTextResponse(text, 503)
        return PlainTextResponse(f"Ready: {drawn}")

    async def _look(self, given: tuple[str, str] | None) -> tuple[list[str], str]:
        if given is None:
            return await _draw([START], None), "the sign-in form can be drawn"
        login = await asyncio.to_thread(log_in, Settings.from_env(), *given)
        if isinstance(login, str):
            drawn = f"the sign-in form can be drawn; no other page was checked. {login}"
            return await _draw([START], None), drawn.rstrip(".")
        store = logins.logins()
        try:
            cookie = store.exchange(store.ticket(login))
            return await _draw(PAGES, cookie), "every page can be drawn"
        finally:
            store.end(login)


def route() -> Route:
    """The route of the readiness check."""
    return Route("/health/ready", _Readiness().answer, methods=["GET"])
