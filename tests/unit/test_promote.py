"""`make promote` and `make rollback` of a model of any name, against a stand-in platform."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from wiring import PROJECT

# What ends a string of the shell, of JSON, of MLflow's filters; what make, Jinja and a URL read.
NAME = 'L\'Oréal "crédito" {{ ds }} $HOME $$ $(x 100%25  a&b=c?d#e [1] 模型 \\'


class Platform:
    """One registered model with two versions, and a model API that follows its champion at once."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.predicted: list[str] = []
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

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
                return {"model_versions": [{"version": v} for v in "12" if named == NAME]}
            case "registered-models/alias" if body["name"] == NAME:
                self.aliases[body["alias"]] = body["version"]
                return {}
            case "registered-models/set-tag" if body["name"] == NAME:
                self.tags[body["key"]] = body["value"]
                return {}
            case "/models":
                version = self.aliases["champion"]
                serving = {"champion": {"version": version, "failure": None}}
                entry = {"aliases": serving, "versions": {version: {"example": [{"x": 1.0}]}}}
                return {"models": [{"name": NAME} | entry]}
        if unquote(path) == f"/models/{NAME}/aliases/champion/predict":
            version = self.aliases["champion"]
            self.predicted.append(version)
            return {"predictions": [1.0], "model": {"version": version}}
        return None


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    thread = threading.Thread(target=platform.server.serve_forever)
    thread.start()
    yield platform
    platform.server.shutdown()
    thread.join()
    platform.server.server_close()


def test_any_name_that_mlflow_takes_is_promoted_and_rolled_back(
    platform: Platform, tmp_path: Path
) -> None:
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

    def make(target: str, *given: str) -> str:
        playbook = f"PLAYBOOK=ansible-playbook -i {inventory} -e @{variables}"
        # -o: no platform runs here, and none has to.
        result = subprocess.run(
            ["make", "-o", "running", target, f"MODEL={NAME}", *given, playbook],
            cwd=PROJECT,
            env=os.environ | {"ANSIBLE_NOCOLOR": "1", "USER_NAME": "ana"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    make("promote", "VERSION=1")
    shown = make("promote", "VERSION=2")
    assert platform.aliases == {"champion": "2"}
    # The shown way back is one that the shell reads.
    assert f"make rollback MODEL={shlex.quote(NAME)} ENV=local" in shown
    make("rollback")
    assert platform.aliases == {"champion": "1"}
    assert platform.predicted == ["1", "2", "1"]
    history = json.loads(platform.tags["lastro.history.champion"])
    assert [(entry["version"], entry["by"]) for entry in history] == [
        ("1", "ana"),
        ("2", "ana"),
        ("1", "ana"),
    ]
