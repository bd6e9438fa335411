"""The follower's requests, and how it reads answers; MLflow's own are in test_promotion."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import free_port

from model_api.follower.registry import MlflowRegistry, Registered, RegistryError


class Stage:
    """A server that gives prepared answers in order, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[dict[str, list[str]]] = []
        self.logins: list[str | None] = []
        stage = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stage.asked.append(parse_qs(urlsplit(self.path).query))
                stage.logins.append(self.headers["Authorization"])
                status, body = stage.answers.pop(0)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    thread = threading.Thread(target=stage.server.serve_forever, args=(0.02,))
    thread.start()
    yield stage
    stage.server.shutdown()
    thread.join()
    stage.server.server_close()


def model(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "creation_timestamp": 7} | more


def test_all_pages_are_read_with_the_login(stage: Stage) -> None:
    versions = [{"version": "9"}, {"version": "12"}]
    aliases = [{"alias": "champion", "version": "9"}]
    stage.answers = [
        (200, {"registered_models": [model("a")], "next_page_token": "more"}),
        (200, {"registered_models": [model("b", latest_versions=versions, aliases=aliases)]}),
    ]
    registry = MlflowRegistry(f"{stage.url}/", 5, ("ana", "secret"))
    assert registry.models() == {
        "a": Registered(7, 0, {}),
        "b": Registered(7, 12, {"champion": "9"}),
    }
    assert stage.asked[1]["page_token"] == ["more"]
    login = base64.b64encode(b"ana:secret").decode()
    assert stage.logins == [f"Basic {login}"] * 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {}), "refuses the login"),
        ((403, {}), "MLFLOW_TRACKING_PASSWORD"),
        ((500, {}), "answers 500"),
        ((302, {}), "answers 302"),
        ((200, b"<html>"), "not answer as MLflow"),
        ((200, []), "not answer as MLflow"),
        ((200, {"registered_models": [{"name": "a"}]}), "not answer as MLflow"),
    ],
)
def test_an_invalid_answer_is_named(stage: Stage, answer: tuple[int, Any], said: str) -> None:
    stage.answers = [answer]
    with pytest.raises(RegistryError, match=said):
        MlflowRegistry(stage.url, 5).models()


def test_an_unreachable_registry_is_named() -> None:
    with pytest.raises(RegistryError, match="Connection refused"):
        MlflowRegistry(f"http://127.0.0.1:{free_port()}", 5).models()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(RegistryError, match="no answer in time"),
    ):
        MlflowRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2).models()
