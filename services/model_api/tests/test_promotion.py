"""Promotion with real MLflow, follower and worker processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import httpx2 as httpx
import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pytest
from conftest import HTTP, Process, eventually, free_port, mlflow_server, running
from mlflow import MlflowClient
from mlflow.models import infer_signature
from serving import runners
from sklearn.dummy import DummyClassifier

KEY = "0123456789abcdef" * 4
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
POLL_SECONDS = 0.5
NAME = "guarded"
# Unique to this run.
HELPER = f"sleep 987.{os.getpid()}"

# The service does not have this module, so models must contain its classes.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

FRAME = pd.DataFrame({"width": [1.0, 2.0, 3.0, 4.0], "count": [1, 2, 3, 4]})
LABELS = ["small", "small", "large", "large"]
ROWS = FRAME.to_dict("records")
SIGNATURE = infer_signature(FRAME, LABELS)


def catches(number: signal.Signals, process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has a handler for a signal; it must not have ended."""
    assert process.poll() is None
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


class Host:
    """The units of one host: the workers and the follower, which share only a state.

    Args:
        folder: the folder of the state and the logs.
        tracking_uri: the registry's URI.
        settings: the settings of both.
    """

    def __init__(self, folder: Path, tracking_uri: str, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.state = folder / "state"
        self._follower: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        keys = folder / "keys.json"
        keys.write_text(json.dumps([{"name": "test", "key": KEY}]))
        self.environment = {
            "MODEL_API_STATE_DIRECTORY": str(self.state),
            "MODEL_API_KEYS_FILE": str(keys),
            "MODEL_API_PORT": str(self.port),
            "MODEL_API_RUNNERS_DIRECTORY": str(folder / "runners"),
            "MODEL_API_WORKERS": "2",
            "MODEL_API_POLL_SECONDS": str(POLL_SECONDS),
            "MODEL_API_REGISTRY_TIMEOUT_SECONDS": "2",
            # Other tests share the machine, and would take all its time from an idle process.
            "MODEL_API_PREPARE_PRIORITY": "normal",
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        } | {f"MODEL_API_{name.upper()}": str(value) for name, value in settings.items()}

    @contextmanager
    def answering(self) -> Iterator[Process]:
        """Run the worker processes, and the one that manages the runners."""
        command = [sys.executable, "-m", "model_api"]
        with (
            runners(self.state, self.folder / "runners"),
            running(command, self.environment, self.folder, self.port, "/health/live") as process,
        ):
            try:
                yield process
            finally:
                # A failed test must not leave a follower behind, which would write its state for
                # ever.
                if self._follower is not None:
                    self._follower.kill()
                    self._follower.wait()

    def follow(self, **settings: Any) -> None:
        """Start the follower, and wait until it handles SIGTERM."""
        changed = {f"MODEL_API_{name.upper()}": str(value) for name, value in settings.items()}
        with (self.folder / "follower.log").open("ab") as log:
            process = self._follower = subprocess.Popen(
                [sys.executable, "-m", "model_api.follower"],
                env=os.environ | self.environment | changed,
                stderr=log,
                start_new_session=True,
            )
        eventually(lambda: catches(signal.SIGTERM, process))

    def follow_no_more(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, by default as systemd does."""
        assert self._follower is not None
        self._follower.send_signal(how)
        assert self._follower.wait(timeout=120) == (0 if how is signal.SIGTERM else -how)

    @contextmanager
    def serving_meanwhile(self, registry: Process, version: str) -> Iterator[None]:
        """Make a version serve before and after the block."""
        promote(registry.url, version)
        self.until_serves(version)
        yield
        promote(registry.url, version)
        self.until_serves(version)
        eventually(lambda: self.failure() is None)

    def predict(self, at: str = "") -> httpx.Response:
        """Request a prediction over a new connection."""
        url = f"{self.url}/models/{NAME}{at}/predict"
        return HTTP.post(url, json={"inputs": ROWS[:1]}, headers=AUTHORIZED)

    def serves(self, version: str, at: str = "") -> bool:
        answer = self.predict(at)
        return answer.status_code == 200 and answer.json()["model"]["version"] == version

    def until_serves(self, version: str, at: str = "") -> None:
        """Wait until every worker does: each answers some of the eight requests."""
        eventually(lambda: all(self.serves(version, at) for _ in range(8)))

    def until_fails(self, version: str) -> dict[str, Any]:
        """Wait until a version is refused while another one serves; return the failure."""

        def refused() -> dict[str, Any] | None:
            answer = self.predict()
            assert answer.status_code == 200 and answer.json()["model"]["version"] != version
            failure = self.failure()
            return failure if failure and failure["version"] == version else None

        return eventually(refused)

    def listing(self) -> dict[str, Any]:
        return HTTP.get(f"{self.url}/models", headers=AUTHORIZED).json()

    def failure(self) -> dict[str, Any] | None:
        [model] = self.listing()["models"]
        return model["aliases"]["champion"]["failure"]

    def registry_error(self) -> str | None:
        return self.listing()["registry_error"]

    def ready(self) -> httpx.Response:
        return HTTP.get(f"{self.url}/health/ready")


class Raises(mlflow.pyfunc.PythonModel):
    """A model that cannot be loaded if the user's name says that this is the service."""

    def load_context(self, context: Any) -> None:
        if os.environ.get("USER") == "sandbox":
            raise RuntimeError("its licence has run out")

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[str]:
        return ["small"] * len(model_input)


class Hangs(Raises):
    """A model whose loading never ends there, and whose helper ignores SIGTERM."""

    def load_context(self, context: Any) -> None:
        if os.environ.get("USER") == "sandbox":
            subprocess.Popen(["sh", "-c", f"trap '' TERM; {HELPER}; {HELPER}"])
            time.sleep(1000)


def register(url: str, model: Any, changes: dict[str, Any]) -> str:
    """Log a model, register it, return its version."""
    mlflow.set_tracking_uri(url)
    with mlflow.start_run():
        options = {"signature": SIGNATURE, "input_example": FRAME} | changes
        if isinstance(model, mlflow.pyfunc.PythonModel):
            options = {"pip_requirements": ["pandas"], "python_model": model} | options
            info = mlflow.pyfunc.log_model(name="model", **options)
        else:
            options = {"pip_requirements": ["scikit-learn"]} | options
            info = mlflow.sklearn.log_model(model, name="model", **options)
        return mlflow.register_model(info.model_uri, NAME).version


def constant(label: str, frame: pd.DataFrame = FRAME) -> DummyClassifier:
    return DummyClassifier(strategy="constant", constant=label).fit(frame, LABELS)


def promote(url: str, version: str) -> None:
    MlflowClient(url, url).set_registered_model_alias(NAME, "champion", version)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def versions(registry: Process) -> dict[str, str]:
    """Versions of one model, by their fault."""
    renamed = FRAME.rename(columns={"width": "w"})
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "small": (constant("small"), {}),
        "large": (constant("large"), {}),
        "unsigned": (constant("large"), {"signature": False, "input_example": None}),
        "of other packages": (constant("large"), {"pip_requirements": ["scikit-learn==0.24.1"]}),
        "raising": (Raises(), {}),
        "of other columns": (
            constant("large", renamed),
            {"signature": infer_signature(renamed, LABELS), "input_example": renamed},
        ),
        "torn": (constant("large"), {}),
        "hanging": (Hangs(), {}),
    }
    found = {what: register(registry.url, *given) for what, given in models.items()}
    source = MlflowClient(registry.url, registry.url).get_model_version(NAME, found["torn"]).source
    model_id = source.removeprefix("models:/")
    [saved] = registry.log.parent.glob(f"artifacts/**/{model_id}/artifacts/model.skops")
    saved.write_bytes(saved.read_bytes()[:100])
    return found


@pytest.fixture(scope="module")
def host(
    registry: Process, versions: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A host that serves ``small``; it stays up for all tests."""
    promote(registry.url, versions["small"])
    host = Host(tmp_path_factory.mktemp("host"), registry.url)
    with host.answering():
        host.follow()
        host.until_serves(versions["small"])
        yield host
        host.follow_no_more()


def test_a_moved_alias_is_followed_by_all_workers_of_all_hosts_and_no_request_is_lost(
    registry: Process, host: Host, versions: dict[str, str], tmp_path: Path
) -> None:
    small, large = versions["small"], versions["large"]
    other = Host(tmp_path, registry.url, workers=1)
    # The serving version need not be prepared twice: this test is about the moves.
    shutil.copytree(host.state, other.state)
    with other.answering():
        other.follow()
        other.until_serves(small)
        answers: list[tuple[float, int, str, str]] = []
        done = threading.Event()

        def ask(one: Host) -> None:
            # Enough requests to show a lost one, but few enough to leave the processor to the
            # preparation.
            while not done.wait(0.05):
                answer = one.predict()
                model, predictions = (answer.json().get(key) for key in ("model", "predictions"))
                told = (model["version"], predictions[0]) if model else (answer.text, "")
                answers.append((time.monotonic(), answer.status_code, *told))

        askers = [threading.Thread(target=ask, args=[one]) for one in (host, other) * 2]
        for asker in askers:
            asker.start()
        moves = []
        for version in (large, small, large):
            promote(registry.url, version)
            moves.append((time.monotonic(), version))
            for one in (host, other):
                one.until_serves(version)
            time.sleep(2 * POLL_SECONDS)
        done.set()
        for asker in askers:
            asker.join()
        other.follow_no_more()
    # Never an error, never one version's answer under the other's name.
    assert {answer[1:] for answer in answers} == {(200, small, "small"), (200, large, "large")}
    # The last two moves are between prepared versions: after a poll of the registry and a read of
    # the state, all workers have followed.
    for (moved, version), (end, _) in zip(moves[1:], [*moves[2:], (float("inf"), "")], strict=True):
        old = [at for at, _, answered, _ in answers if moved < at < end and answered != version]
        assert max(old, default=moved) - moved < 6 * POLL_SECONDS


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("unsigned", "signature"),
        ("of other packages", "scikit-learn==0.24.1"),
        ("raising", "licence has run out"),
        ("of other columns", "'width'"),
        ("torn", ""),
    ],
)
def test_a_version_that_is_not_fit_never_serves(
    registry: Process, host: Host, versions: dict[str, str], what: str, reason: str
) -> None:
    with host.serving_meanwhile(registry, versions["small"]):
        promote(registry.url, versions[what])
        failure = host.until_fails(versions[what])
        assert reason in failure["reason"]
        assert failure["attempts"] >= 1


def test_a_version_that_hangs_is_ended(
    registry: Process, host: Host, versions: dict[str, str]
) -> None:
    with host.serving_meanwhile(registry, versions["small"]):
        host.follow_no_more()
        host.follow(prepare_seconds=6)
        promote(registry.url, versions["hanging"])
        assert "not ready after 6 s" in host.until_fails(versions["hanging"])["reason"]
        assert not helpers()
        host.follow_no_more()
        host.follow()


def test_a_killed_follower_leaves_the_serving_version_and_its_successor_continues(
    registry: Process, host: Host, versions: dict[str, str]
) -> None:
    with host.serving_meanwhile(registry, versions["small"]):
        promote(registry.url, versions["hanging"])
        eventually(helpers)
        host.follow_no_more(signal.SIGKILL)
        # systemd ends all processes of a unit; here only the child is sure to end.
        for helper in helpers().split():
            os.kill(int(helper), signal.SIGKILL)
        assert host.serves(versions["small"])
        promote(registry.url, versions["large"])
        host.follow()
        host.until_serves(versions["large"])
        prepared = {path.name.split("-")[1] for path in (host.state / "prepared").iterdir()}
        assert versions["hanging"] not in prepared


def test_a_version_is_served_by_its_number(
    registry: Process, host: Host, versions: dict[str, str]
) -> None:
    small, large = versions["small"], versions["large"]
    with host.serving_meanwhile(registry, small):
        promote(registry.url, large)
        host.until_serves(large)
        answer = host.predict(f"/versions/{small}")
        assert answer.status_code == 503 and "retry-after" in answer.headers
        host.until_serves(small, f"/versions/{small}")
        assert host.serves(large)
        assert host.predict("/versions/99").status_code == 404
        # Its number still answers when it loses the alias.
        host.until_serves(large, f"/versions/{large}")


def test_a_second_follower_of_a_state_is_refused(host: Host) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "model_api.follower"],
        env=os.environ | host.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert second.returncode == 1
    assert "another one follows" in second.stderr


def test_a_registry_that_hangs_or_dies_stops_no_prediction_nor_a_restart(
    registry: Process, host: Host, versions: dict[str, str], tmp_path: Path
) -> None:
    """This must be the last test: the registry does not come back."""
    small = versions["small"]
    os.killpg(registry.process.pid, signal.SIGSTOP)
    eventually(host.registry_error)
    assert host.serves(small)
    os.killpg(registry.process.pid, signal.SIGCONT)
    eventually(lambda: host.registry_error() is None)
    os.killpg(registry.process.pid, signal.SIGKILL)
    eventually(host.registry_error)
    assert host.serves(small)
    assert host.ready().status_code == 200

    # After a reboot only the prepared versions exist; on a new host nothing.
    again = Host(tmp_path, registry.url, workers=1)
    bare = Host(tmp_path / "bare", registry.url, workers=1)
    shutil.copytree(host.state, again.state)
    with again.answering(), bare.answering():
        for one in (again, bare):
            one.follow()
        again.until_serves(small)
        eventually(lambda: "refused" in (again.registry_error() or ""))
        assert again.ready().status_code == 200
        eventually(lambda: "refused" in bare.ready().text)
        assert bare.ready().status_code == 503
        answer = bare.predict()
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        for one in (again, bare):
            one.follow_no_more()


def helpers() -> str:
    """The processes that the hanging model started."""
    return subprocess.run(["pgrep", "-f", HELPER], capture_output=True, text=True).stdout


def test_bad_settings_of_the_follower_are_named() -> None:
    wrong = {
        "MLFLOW_TRACKING_URI": "mlflow:5000",
        "MODEL_API_ALIASES": " ,",
        "MODEL_API_POLL_SECONDS": "0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "model_api.follower"],
        env=os.environ | wrong,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 2
    for name in wrong:
        assert f"model-api-follower: {name}: " in ended.stderr
