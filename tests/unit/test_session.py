"""`lastro-ops session`: its request to AWS, its call of the plugin, its errors."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wiring import PROJECT

TOKEN = "a-token-that-nobody-else-may-see"


class Aws(http.server.BaseHTTPRequestHandler):
    """Answers StartSession, and records the requests."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.headers["X-Amz-Target"], json.loads(body)))
        code = self.server.error
        answer = (
            {"__type": code, "message": "no"}
            if code
            else {"SessionId": "s-1", "TokenValue": TOKEN, "StreamUrl": "wss://stream"}
        )
        self.send_response(400 if code else 200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def aws() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Aws)
    server.asked, server.error = [], None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def session(aws: Any, tmp_path: Path):
    """Runs lastro-ops session with a plugin that records its input."""
    folder = tmp_path / "bin"
    folder.mkdir()
    plugin = folder / "session-manager-plugin"
    plugin.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/argv\nenv >{tmp_path}/env\ncat\n'
    )
    plugin.chmod(0o755)

    def session(
        *arguments: str, with_plugin: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        # A Python in another folder: this checkout may have the plugin next to its own.
        program = "import sys; sys.executable = '/nowhere/python';"
        program += "from lastro_ops.cli import main; sys.exit(main())"
        variables = {name: value for name, value in os.environ.items() if "AWS_" not in name}
        variables |= {
            "PATH": f"{folder}:/usr/bin:/bin" if with_plugin else "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.server_port}",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE12",
            "AWS_SECRET_ACCESS_KEY": "secret",
            **environment,
        }
        return subprocess.run(
            [sys.executable, "-P", "-c", program, "session", *arguments],
            cwd=PROJECT,
            env={name: value for name, value in variables.items() if value},
            input="through and through",
            capture_output=True,
            text=True,
            timeout=60,
        )

    return session


def test_it_opens_the_session_and_becomes_the_plugin(
    aws: Any, session: Any, tmp_path: Path
) -> None:
    result = session("eu-west-1", "i-0123456789abcdef0", "22", AWS_PROFILE="")
    assert (result.returncode, result.stdout) == (0, "through and through"), result.stderr
    request = {
        "Target": "i-0123456789abcdef0",
        "DocumentName": "AWS-StartSSHSession",
        "Parameters": {"portNumber": ["22"]},
    }
    assert aws.asked == [("AmazonSSM.StartSession", request)]
    name, region, operation, profile, given, endpoint = (
        (tmp_path / "argv").read_text().removesuffix("\n").split("\n")
    )
    assert (region, operation, profile) == ("eu-west-1", "StartSession", "")
    assert json.loads(given) == request
    assert endpoint == f"http://127.0.0.1:{aws.server_port}"
    # The token is for the plugin alone: arguments are for everyone on the machine.
    assert TOKEN not in (tmp_path / "argv").read_text()
    variables = dict(
        line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line
    )
    assert json.loads(variables[name]) == {
        "SessionId": "s-1",
        "TokenValue": TOKEN,
        "StreamUrl": "wss://stream",
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("TargetNotConnected", "i-1 is not connected to Session Manager: it is stopped"),
        ("ExpiredTokenException", "credentials have expired"),
        ("AccessDeniedException", "the role lastro-ci-apply"),
    ],
)
def test_a_refusal_of_aws_is_explained(aws: Any, session: Any, error: str, said: str) -> None:
    aws.error = error
    result = session("eu-west-1", "i-1")
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_without_credentials_it_says_how_to_log_in(aws: Any, session: Any) -> None:
    result = session("eu-west-1", "i-1", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert result.returncode == 1
    assert "aws sso login" in result.stderr and "Traceback" not in result.stderr
    assert aws.asked == []


def test_without_the_plugin_nothing_is_opened(aws: Any, session: Any) -> None:
    result = session("eu-west-1", "i-1", with_plugin=False)
    assert result.returncode == 1
    assert "session-manager-plugin is not installed. `scripts/setup aws`" in result.stderr
    assert aws.asked == []


# ---- fetching the plugin (test_first_boot.py has one that is signed) ----------------------------

FETCH = "scripts/fetch_session_manager_plugin"


@pytest.fixture
def fetch(tmp_path: Path):
    """Runs the script with a `curl` that serves the files of a folder."""
    folder, served = tmp_path / "bin", tmp_path / "served"
    folder.mkdir()
    served.mkdir()
    curl = folder / "curl"
    curl.write_text(
        '#!/bin/sh\nfor last; do :; done\nwhile [ "$1" != --output ]; do shift; done\n'
        f'cp "{served}/${{last##*/}}" "$2"\n'
    )
    curl.chmod(0o755)

    def fetch() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FETCH, str(tmp_path / "plugin")],
            cwd=PROJECT,
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )

    return fetch


def test_a_plugin_that_aws_has_not_signed_is_not_kept(fetch: Any, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    binary = tree / "usr/local/sessionmanagerplugin/bin/session-manager-plugin"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    package = tmp_path / "served/session-manager-plugin.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True)
    Path(f"{package}.sig").write_bytes(b"no signature")
    result = fetch()
    assert result.returncode == 1
    assert "session-manager-plugin.deb is not signed by AWS; nothing of it is kept" in result.stderr
    assert not (tmp_path / "plugin").exists()


def test_a_failed_download_of_the_plugin_names_its_address(fetch: Any, tmp_path: Path) -> None:
    result = fetch()
    assert result.returncode == 1
    assert (
        "cannot fetch https://s3.amazonaws.com/session-manager-downloads/plugin/" in result.stderr
    )
    assert not (tmp_path / "plugin").exists()
