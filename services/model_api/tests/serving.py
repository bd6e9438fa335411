"""Shared by the tests of the HTTP side: a store in memory, served by the real server."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# prometheus_client reads it on import.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="model-api-metrics-"))

import httpx2 as httpx
import msgspec
import uvicorn
from mlflow.models import Model, ModelSignature

from model_api.http.absence import NotLoaded, UnknownModel
from model_api.http.app import create_app
from model_api.http.settings import Settings
from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.errors import InvalidRows, NoProbabilities

KEY = "0123456789abcdef" * 4
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}

SUM = [
    {"name": "a", "type": "double", "required": True},
    {"name": "n", "type": "long", "required": True},
]


_alone = threading.Lock()


class MemoryVersion:
    """A version with answers from a test; by default it adds its two inputs."""

    run_id = "a" * 32
    engine = "test"
    engine_note = ""

    def __init__(
        self,
        number: str = "1",
        *,
        name: str = "sum",
        inputs: list[dict[str, Any]] = SUM,
        answer: Callable[[Batch], list[Any]] = lambda batch: batch.array().sum(axis=1).tolist(),
        classes: list[Any] | None = None,
        seconds: float = 0,
        example: list[dict[str, Any]] | None = None,
    ) -> None:
        self.name = name
        self.number = number
        self.decoder = Decoder(inputs)
        self.manifest = {
            "signature": {"inputs": inputs},
            "categories": {},
            "gaps": [],
            "type_hints": False,
        }
        self.classes = classes
        self.example = example or [{"a": 1.5, "n": 2}]
        self._answer = answer
        self._seconds = seconds

    def predict(self, batch: Batch, probabilities: bool = False) -> bytes:
        """Return the members of the answer."""
        try:
            return self.compute(batch, probabilities)
        except ValueError as error:
            raise self.blame(batch, error)  # noqa: B904

    def blame(self, batch: Batch, error: Exception) -> Exception:
        """Return an error of all rows for a ValueError, otherwise the error itself."""
        if not isinstance(error, ValueError):
            return error
        detail = f"the model refuses it: {error}"
        errors = [{"row": row, "field": None, "detail": detail} for row in range(batch.rows)]
        return InvalidRows(errors, len(errors))

    def compute(self, batch: Batch, probabilities: bool = False) -> bytes:
        """Return the members of the answer, or raise the error of the test's function."""
        if probabilities and self.classes is None:
            raise NoProbabilities("it provides none")
        members = b'"predictions":' + msgspec.json.encode(self._answer(batch))
        if probabilities:
            row = {str(name): 1 / len(self.classes or ()) for name in self.classes or ()}
            members += b',"probabilities":' + msgspec.json.encode([row] * batch.rows)
        return members

    def by_original(self, batch: Batch) -> bool:
        """Return False: there is no original."""
        return False

    def answer(self, batch: Batch) -> list[Any]:
        """Return the answer of the test's function."""
        return self._answer(batch)

    def original(self) -> Any:
        """Raise, because there is no original."""
        raise ValueError("the test has no original model")

    def metadata(self) -> Model:
        """Return MLflow's description of a model with these inputs."""
        signature = {"inputs": json.dumps(self.manifest["signature"]["inputs"])}
        return Model(signature=ModelSignature.from_dict(signature))

    def seconds(self, rows: int) -> float:
        """Return the seconds given by the test."""
        return self._seconds

    def describe(self) -> dict[str, Any]:
        """Return its entry in `GET /models`."""
        return {"engine": self.engine, "example": self.example}


class MemoryStore:
    """A store that a test fills: versions by alias."""

    def __init__(self, *versions: MemoryVersion) -> None:
        self.aliases = {(version.name, "champion"): version for version in versions}
        self.failure: dict[str, Any] | None = None
        self.not_ready_reason: str | None = None
        self.registry_error: str | None = None
        self.polled_at = datetime.now(UTC)

    @property
    def ready(self) -> bool:
        """Whether no test has set a reason against it."""
        return self.not_ready_reason is None

    loading = False

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def alias(self, name: str, alias: str) -> MemoryVersion:
        """Return the version of an alias."""
        try:
            return self.aliases[name, alias]
        except KeyError:
            known = ", ".join(sorted({name for name, _ in self.aliases}))
            raise UnknownModel(f"unknown model {name!r}: served models are {known}") from None

    def version(self, name: str, number: str) -> MemoryVersion:
        """Return a version by its number, if an alias has it."""
        for version in self.aliases.values():
            if (version.name, version.number) == (name, number):
                return version
        raise NotLoaded(f"version {number} of {name!r} is being prepared: retry later")

    def describe(self) -> list[dict[str, Any]]:
        """Return the same structure as the real store."""
        models: dict[str, dict[str, Any]] = {}
        for (name, alias), version in sorted(self.aliases.items()):
            model = models.setdefault(name, {"name": name, "aliases": {}, "versions": {}})
            model["versions"][version.number] = version.describe()
            model["aliases"][alias] = {
                "version": version.number,
                "wanted_version": version.number,
                "moved_at": self.polled_at.isoformat(),
                "since": self.polled_at.isoformat(),
                "previous_version": None,
                "failure": self.failure,
                "history": [],
            }
        return list(models.values())


def write_keys(path: Path, *entries: dict[str, Any]) -> Path:
    """Write the keys as the role does: to another file, then renamed."""
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(entries or [{"name": "tests", "key": KEY}]))
    partial.replace(path)
    return path


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Return settings with the keys of the tests."""
    keys = folder / "keys.json"
    if not keys.exists():
        write_keys(keys)
    # The tests' versions run in this process.
    defaults: dict[str, Any] = {"runners_directory": None}
    return Settings(keys_file=keys, runtime_directory=folder, **defaults | changes)


@contextmanager
def served(
    folder: Path, store: MemoryStore, log: Any = None, **changes: Any
) -> Iterator[httpx.Client]:
    """Serve a store on a port, as in production but in a thread; yield a client with a key.

    As in production, a process has one app at a time.
    """
    if not _alone.acquire(blocking=False):
        raise RuntimeError("another app is served: both would write the same cells of the metrics")
    try:
        app = create_app(make_settings(folder, **changes), store, log)  # type: ignore[arg-type]
        with _listening(app) as client:
            yield client
    finally:
        _alone.release()


@contextmanager
def _listening(app: Any) -> Iterator[httpx.Client]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # From here on, clients are not refused but have to wait.
        listener.listen()
        config = uvicorn.Config(
            app,
            http="model_api.http.protocol:Protocol",
            ws="none",
            access_log=False,
            log_config=None,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, headers=AUTHORIZED, timeout=60) as client:
                client.get("/health/live")
                yield client
        finally:
            server.should_exit = True
            thread.join(timeout=60)
            assert not thread.is_alive()


@contextmanager
def runners(state: Path, directory: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the process that manages the runners of a state, until the block ends.

    Args:
        state: the folder of the state.
        directory: the directory of the sockets; its path must be short.
    """
    directory.mkdir(parents=True, exist_ok=True)
    variables = {
        "MODEL_API_STATE_DIRECTORY": str(state),
        "MODEL_API_RUNNERS_DIRECTORY": str(directory),
    }
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "model_api.runners"],
            env=os.environ | variables | environment,
            stderr=log,
            start_new_session=True,
            # Tests that are killed leave no runners behind (PR_SET_PDEATHSIG).
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL),
        )
    try:
        while not (directory / "runners.json").exists():
            assert process.poll() is None, (directory / "log").read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    """Return the sum of the samples with these labels."""
    total = 0.0
    for line in client.get("/metrics").text.splitlines():
        found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if found and labels.items() <= dict(re.findall(r'(\w+)="(.*?)"', found[1] or "")).items():
            total += float(found[2])
    return total


def send_raw(client: httpx.Client, data: bytes, more: bytes = b"", wait: float = 0) -> bytes:
    """Send bytes, then more later; return the received bytes until the server closes."""
    with socket.create_connection((client.base_url.host, client.base_url.port), 20) as connection:
        connection.sendall(data)
        if more:
            threading.Event().wait(wait)
            connection.sendall(more)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received
