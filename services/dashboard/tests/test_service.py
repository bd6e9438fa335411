"""The program as hosts run it: `python -m dashboard` with the package's settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running dashboard; these tests need no other service."""
    with running(tmp_path_factory.mktemp("service"), "http://127.0.0.1:9") as process:
        arguments = Path(f"/proc/{process.process.pid}/cmdline").read_text()
        assert "secret" not in arguments and "key-of" not in arguments
        yield process.url
    assert process.process.returncode == 0
    assert "Traceback" not in process.log.read_text()


def test_streamlit_s_health_check_answers(service: str) -> None:
    assert httpx.get(f"{service}/_stcore/health").text == "ok"


@pytest.mark.parametrize(
    ("origin", "status"), [(None, 101), ("same", 101), ("https://evil.example", 403)]
)
def test_only_the_dashboard_s_own_pages_can_open_the_websocket(
    service: str, origin: str | None, status: int
) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    if origin:
        headers["Origin"] = service if origin == "same" else origin
    with httpx.stream("GET", f"{service}/_stcore/stream", headers=headers) as response:
        assert response.status_code == status


def test_the_package_s_streamlit_settings_are_in_force() -> None:
    """Streamlit reads `.streamlit/config.toml` next to the script."""
    script = (
        "from pathlib import Path; import dashboard; from streamlit import config;"
        "config._main_script_path = str(Path(dashboard.__file__).with_name('app.py'));"
        "config.get_config_options(force_reparse=True);"
        "print([config.get_option(o) for o in ("
        "'client.showErrorDetails', 'browser.gatherUsageStats', 'server.fileWatcherType',"
        "'server.headless', 'server.enableXsrfProtection', 'server.enableCORS')])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "['none', False, 'none', True, True, True]", result.stderr
