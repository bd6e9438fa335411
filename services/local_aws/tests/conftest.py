"""A real emulator process, and bare moto next to it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

REGION = "eu-west-1"
ROOT_KEY = "AKIAROOTROOTROOTROOT"
ROOT_SECRET = "root-secret-for-tests"
START_SECONDS = 300


@pytest.fixture(autouse=True, scope="session")
def _environment() -> Iterator[None]:
    """Keep the AWS settings of the developer's shell away from the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        yield


class Emulator:
    """One emulator process on its own port, which can be killed and restarted."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        keys = {"LOCAL_AWS_ACCESS_KEY_ID": ROOT_KEY, "LOCAL_AWS_SECRET_ACCESS_KEY": ROOT_SECRET}
        return {**os.environ, **keys}

    def start(self) -> None:
        command = [sys.executable, "-m", "local_aws", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--state", str(self.state)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.state.parent / "emulator.log").open("ab"),
        )
        wait_for(f"{self.url}/health", self.process)

    def kill(self) -> None:
        """Send SIGKILL, so that the process cannot save anything."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def client(self, service: str, **options: Any) -> Any:
        return client(self.url, service, **options)


def client(url: str, service: str, **options: Any) -> Any:
    """A boto3 client that fails at once instead of retrying."""
    config = Config(retries={"total_max_attempts": 1}).merge(options.pop("config", Config()))
    defaults = {
        "endpoint_url": url,
        "region_name": REGION,
        "aws_access_key_id": ROOT_KEY,
        "aws_secret_access_key": ROOT_SECRET,
        "config": config,
    }
    return boto3.client(service, **defaults | options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"exited with {process.returncode}"
        try:
            urllib.request.urlopen(url).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer within {START_SECONDS} s")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator shared by all tests that only add to it."""
    emulator = Emulator(tmp_path_factory.mktemp("shared") / "state")
    emulator.start()
    yield emulator
    emulator.kill()


@pytest.fixture(scope="module")
def _restarted_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path_factory.mktemp("restarted") / "state")
    emulator.start()
    yield emulator
    emulator.kill()


@pytest.fixture
def restarted_emulator(_restarted_emulator: Emulator) -> Emulator:
    """An emulator that a test may kill and restart; the test uses its own names."""
    if _restarted_emulator.process.poll() is not None:
        # A failed test left it stopped.
        _restarted_emulator.start()
    return _restarted_emulator


@pytest.fixture
def own_emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator and a state that only this test uses."""
    emulator = Emulator(tmp_path / "state")
    emulator.start()
    yield emulator
    emulator.kill()


@pytest.fixture(scope="session")
def bare_moto() -> Iterator[str]:
    """The URL of unchanged moto, to show that a gap still exists."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    wait_for(f"{url}/moto-api/", process)
    yield url
    process.kill()
    process.wait()


@pytest.fixture(params=["emulator", "bare moto"])
def aws(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes boto3 clients: of the emulator, and of bare moto, where the test has to fail.

    When a new moto passes, delete the gap's function and the test.
    """
    if request.param == "bare moto":
        url = request.getfixturevalue("bare_moto")
        request.applymarker(pytest.mark.xfail(strict=True, reason="the gap is moto's"))
    else:
        url = request.getfixturevalue("emulator").url
    yield lambda service, **options: client(url, service, **options)
