"""A stand-in for a visitor's browser: Streamlit's protocol over a real websocket."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import Self

import httpx
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

PATIENCE = 120.0
"""Seconds that a test waits for a message; the limit only ends a test that hangs."""


@dataclass
class Tab:
    """A browser tab with the dashboard at `url`; `cookies` belong to the browser."""

    url: str
    cookies: httpx.Cookies
    elements: dict[tuple[int, ...], Element] = field(default_factory=dict)
    seen: list[dict[tuple[int, ...], Element]] = field(default_factory=list)
    """The elements of the page after each message of the last run."""
    _drawn: set[tuple[int, ...]] = field(default_factory=set)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _socket: ClientConnection | None = None

    def __enter__(self) -> Self:
        """Open the page and wait until it is drawn."""
        headers = {}
        if cookies := "; ".join(f"{c.name}={c.value}" for c in self.cookies.jar):
            headers["Cookie"] = cookies
        self._socket = self._open.enter_context(
            connect(
                f"{self.url.replace('http', 'ws', 1)}/_stcore/stream",
                subprotocols=["streamlit"],
                origin=self.url,
                additional_headers=headers,
                max_size=None,
            )
        )
        self.run()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the tab."""
        self._open.close()

    def run(self, *states: WidgetState, page: str = "") -> None:
        """Run the page with these states of widgets, and collect its elements."""
        message = BackMsg()
        message.rerun_script.page_name = page
        message.rerun_script.widget_states.widgets.extend(states)
        self._socket.send(message.SerializeToString())
        self.seen = []
        while True:
            answer = ForwardMsg()
            answer.ParseFromString(self._socket.recv(timeout=PATIENCE))
            kind = answer.WhichOneof("type")
            if kind == "new_session":
                self._drawn = set()
            if kind == "delta":
                self._draw(tuple(answer.metadata.delta_path), answer)
            # A page that runs again is not drawn yet.
            again = answer.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN
            if kind == "script_finished" and not again:
                # Like a browser, remove elements that this run has not drawn.
                self.elements = {p: self.elements[p] for p in self.elements if p in self._drawn}
                return

    def _draw(self, path: tuple[int, ...], message: ForwardMsg) -> None:
        if message.delta.WhichOneof("type") == "new_element":
            # An element replaces a block with all its elements.
            for old in [p for p in self.elements if p[: len(path)] == path]:
                del self.elements[old]
            self.elements[path] = message.delta.new_element
            self._drawn.add(path)
        self.seen.append(dict(self.elements))

    def find(self, kind: str, label: str) -> Element:
        """The element of a kind with a label."""
        for element in self.elements.values():
            if element.WhichOneof("type") == kind and getattr(element, kind).label == label:
                return getattr(element, kind)
        raise AssertionError(f"no {kind} {label!r} in {self.text()}")

    def sign_in(self, username: str, password: str) -> None:
        """Fill in the form and press the button."""
        states = [
            WidgetState(id=self.find("text_input", label).id, string_value=value)
            for label, value in (("Username", username), ("Password", password))
        ]
        button = self.find("button", "Sign in").id
        self.run(*states, WidgetState(id=button, trigger_value=True))

    def press(self, label: str) -> None:
        """Press a button."""
        self.run(WidgetState(id=self.find("button", label).id, trigger_value=True))

    def ticket(self) -> str | None:
        """The ticket in the script that a browser would run on this page."""
        for element in self.elements.values():
            if element.WhichOneof("type") == "html":
                (body,) = re.findall(r'body: (".*")\}\)', element.html.body)
                return json.loads(json.loads(body))["ticket"]
        return None

    def fetch_cookie(self) -> httpx.Response:
        """Run that script: post the ticket, and keep the cookie."""
        answer = httpx.post(
            f"{self.url}/session", json={"ticket": self.ticket()}, headers={"Origin": self.url}
        )
        self.cookies.update(answer.cookies)
        return answer

    def text(self) -> str:
        """All text on the page."""
        parts = []
        for element in self.elements.values():
            kind = element.WhichOneof("type")
            with contextlib.suppress(AttributeError):
                parts.append(getattr(element, kind).body)
            with contextlib.suppress(AttributeError):
                parts.append(getattr(element, kind).label)
        return "\n".join(map(str, parts)).replace("\\", "")
