"""`make promote` and `make rollback` of a model of any name, against a stand-in platform."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from wiring import PROJECT

# Ends strings of the shell, of JSON and of MLflow's filters; make, Jinja and URLs interpret it.
NAME = 'L\'Oréal "crédito" {{ ds }} $HOME $$ $(x 100%25  a&b=c?d#e [1] 模型 \\'


class Platform:
    """One registered model with three versions, and a model API that follows its champion at once.

    Attributes:
        broken: versions that fail to serve, and why.
        looks_away: how many more times the host does not see that the alias was moved.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.predicted: list[str] = []
        self.broken: dict[str, str] = {}
        self.looks_away = 0
        self.looks = 0
        self.serving: dict[str, Any] = {"version": None, "history": []}
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            do_DELETE = do_POST

            def _answer(self, body: dict[str, Any]) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                found = platform.answer(url.path, query, body)
                content = json.dumps({} if found is None else found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Keep the test's output for its own."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def answer(self, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        operation = path.removeprefix("/api/2.0/mlflow/")
        match operation:
            case "registered-models/get" if query["name"] == NAME:
                aliases = [{"alias": a, "version": v} for a, v in self.aliases.items()]
                tags = [{"key": key, "value": value} for key, value in self.tags.items()]
                return {"registered_model": {"name": NAME, "aliases": aliases, "tags": tags}}
            case "registered-models/search":
                return {"registered_models": [{"name": NAME}]}
            case "model-versions/search":
                # As MLflow's parser reads a list.
                named = ast.literal_eval(query["filter"].removeprefix("name IN "))
                return {"model_versions": [{"version": v} for v in "123" if named == NAME]}
            case "registered-models/alias" if body["name"] == NAME:
                self.aliases[body["alias"]] = body["version"]
                return {}
            case "registered-models/set-tag" if body["name"] == NAME:
                self.tags[body["key"]] = body["value"]
                return {}
            case "registered-models/delete-tag" if body["name"] == NAME:
                del self.tags[body["key"]]
                return {}
            case "/models":
                return {"models": [self.follow()], "registry_error": None}
        if unquote(path) == f"/models/{NAME}/aliases/champion/predict":
            version = self.serving["version"]
            self.predicted.append(version)
            return {"predictions": [1.0], "model": {"version": version}}
        return None

    def follow(self) -> dict[str, Any]:
        """The host's answer about the model, after it has polled the registry."""
        self.looks += 1
        wanted, state = self.aliases.get("champion"), self.serving
        if self.looks_away:
            self.looks_away -= 1
        elif wanted not in (None, state["version"]) and wanted != state.get("wanted_version"):
            at = datetime.now(UTC).isoformat()
            reason = self.broken.get(wanted)
            outcome = "failed" if reason else "served"
            others = [word for word in state["history"] if word["version"] != wanted]
            word = {"version": wanted, "at": at, "outcome": outcome, "reason": reason}
            state |= {"wanted_version": wanted, "history": [*others, word], "failure": None}
            if reason:
                state["failure"] = {"version": wanted, "reason": reason, "attempts": 1, "at": at}
            else:
                state["version"] = wanted
        elif wanted == state["version"]:
            state |= {"wanted_version": wanted, "failure": None}
        versions = {v: {"example": [{"x": 1.0}]} for v in "123"}
        return {"name": NAME, "aliases": {"champion": state}, "versions": versions}


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    thread = threading.Thread(target=platform.server.serve_forever)
    thread.start()
    yield platform
    platform.server.shutdown()
    thread.join()
    platform.server.server_close()


@pytest.fixture
def make(platform: Platform, tmp_path: Path) -> Callable[..., str]:
    """Runs a target of make for the model; returns what it printed."""
    inventory, variables = tmp_path / "hosts.yml", tmp_path / "variables.json"
    host = {"hosts": {"one": {"ansible_connection": "local"}}}
    inventory.write_text(yaml.safe_dump({"all": {"children": {"mlflow": host, "model_api": host}}}))
    # Ansible masks a password wherever it finds one: it must be no part of a word.
    key = {"bearer_key": "not-a-word-1", "admin_password": "not-a-word-2"}
    secrets = {"mlflow": key, "model_api": key, "database": {}, "model_api_clients": {}}
    variables.write_text(
        json.dumps(
            {
                "ansible_python_interpreter": sys.executable,
                "lastro_environment": "local",
                "lastro_secrets": secrets,
                "lastro_urls": {"mlflow": f"http://127.0.0.1:{platform.port}"},
                "model_api_host": "127.0.0.1",
                "model_api_port": platform.port,
                "platform": {
                    "secrets": {},
                    "database": {"master_secret_arn": "arn"},
                    "model_api_clients": {},
                },
            }
        )
    )

    def make(target: str, *given: str, ok: bool = True, options: str = "") -> str:
        playbook = f"PLAYBOOK=ansible-playbook -i {inventory} -e @{variables} {options}"
        # -o: no platform runs here, and none has to.
        result = subprocess.run(
            ["make", "-o", "running", target, f"MODEL={NAME}", *given, playbook],
            cwd=PROJECT,
            env=os.environ | {"ANSIBLE_NOCOLOR": "1", "USER_NAME": "ana"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert (result.returncode == 0) is ok, result.stdout + result.stderr
        return result.stdout + result.stderr

    return make


def recorded(platform: Platform) -> list[tuple[str, str, bool]]:
    """The record of the champion as (version, by, whether it was a rollback), oldest first."""
    entries = sorted((key, json.loads(value)) for key, value in platform.tags.items())
    assert all(key.startswith("lastro.history.champion/") for key, _ in entries)
    return [(entry["version"], entry["by"], entry["back"]) for _, entry in entries]


def test_any_name_that_mlflow_takes_is_promoted_and_rolled_back(
    platform: Platform, make: Callable[..., str]
) -> None:
    make("promote", "VERSION=1")
    shown = make("promote", "VERSION=2")
    assert platform.aliases == {"champion": "2"}
    # The shown way back is one that the shell reads.
    assert f"make rollback MODEL={shlex.quote(NAME)} ENV=local" in shown
    shown = make("rollback")
    # Not back to the version that it came from, nor is that shown.
    assert "There is no version to roll back to" in shown and "make rollback" not in shown
    assert platform.aliases == {"champion": "1"}
    assert platform.predicted == ["1", "2", "1"]
    told = [("1", "ana", False), ("2", "ana", False), ("1", "ana", True)]
    assert recorded(platform) == told
    refused = " ".join(make("rollback", ok=False).split())
    assert "there is no version to roll back to" in refused
    assert "version 2 was rolled back from" in refused and "Nothing was changed" in refused
    assert platform.aliases == {"champion": "1"} and recorded(platform) == told


def test_a_promotion_shows_its_wait_until_it_fails_or_times_out(
    platform: Platform, make: Callable[..., str]
) -> None:
    platform.aliases["champion"] = "1"
    platform.follow()
    platform.broken["2"] = "it has no signature"
    platform.looks_away = 3
    shown = make("promote", "VERSION=2", ok=False)
    assert (
        f"for version 2 of {NAME}: the host has not seen the move yet; version 1 is served" in shown
    )
    words = " ".join(shown.split())
    assert "one does not serve version 2" in words and ": it has no signature. Version 1" in words
    assert platform.looks < 10, "a failure that is known ends the wait"
    # Version 2 never served: the alias returns to the version that served before it.
    platform.looks_away = 10**6
    words = " ".join(make("rollback", options="-e promote_seconds=2").split())
    assert platform.aliases == {"champion": "1"} and "version 1 serves as champion" in words
    words = " ".join(make("promote", "VERSION=3", ok=False, options="-e promote_seconds=2").split())
    assert "the host has not seen the move yet; version 1 is served, after" in words


def test_a_rollback_is_not_offered_where_nothing_has_served(
    platform: Platform, make: Callable[..., str]
) -> None:
    platform.broken = {"1": "it has no signature", "2": "it has no signature"}
    make("promote", "VERSION=1", ok=False)
    words = " ".join(make("promote", "VERSION=2", ok=False).split())
    assert (
        "No version is served, but champion points to version 2. There is no version to roll back"
        in words
    )
    assert "make rollback" not in words
    again = " ".join(f"make promote MODEL={shlex.quote(NAME)} VERSION=..".split())
    assert again in words
