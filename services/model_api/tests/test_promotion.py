"""Promotion with everything real: MLflow's server, the follower, and worker processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pytest
from conftest import Process, eventually, free_port, mlflow_server, running
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.dummy import DummyClassifier

KEY = "0123456789abcdef" * 4
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
POLL_SECONDS = 0.5

FRAME = pd.DataFrame({"width": [1.0, 2.0, 3.0, 4.0], "count": [1, 2, 3, 4]})
LABELS = ["small", "small", "large", "large"]
ROWS = FRAME.to_dict("records")
SIGNATURE = infer_signature(FRAME, LABELS)


class Host:
    """The units of one host: what answers, and the follower; they share a state and nothing else.

    Args:
        folder: of the state and the logs.
        tracking_uri: where the registry is.
        settings: of both.
    """

    def __init__(self, folder: Path, tracking_uri: str, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.state = folder / "state"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        keys = folder / "keys.json"
        keys.write_text(json.dumps([{"name": "test", "key": KEY}]))
        self.environment = {
            "MODEL_API_STATE_DIRECTORY": str(self.state),
            "MODEL_API_KEYS_FILE": str(keys),
            "MODEL_API_PORT": str(self.port),
            "MODEL_API_WORKERS": "2",
            "MODEL_API_POLL_SECONDS": str(POLL_SECONDS),
            "MODEL_API_REGISTRY_TIMEOUT_SECONDS": "2",
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        } | {f"MODEL_API_{name.upper()}": str(value) for name, value in settings.items()}

    @contextmanager
    def answering(self) -> Iterator[Process]:
        """Run the worker processes."""
        command = [sys.executable, "-m", "model_api"]
        with running(command, self.environment, self.folder, self.port, "/health/live") as process:
            yield process

    @contextmanager
    def following(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the follower; stop it as systemd does."""
        with (self.folder / "follower.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "model_api.follower"],
                env=os.environ | self.environment,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)

    @contextmanager
    def up(self) -> Iterator["Host"]:
        """Run both."""
        with self.answering(), self.following():
            yield self

    def predict(self, name: str, at: str = "") -> httpx.Response:
        """Ask over a connection of its own, so that any worker may answer."""
        return httpx.post(
            f"{self.url}/models/{name}{at}/predict",
            json={"inputs": ROWS[:1]},
            headers=AUTHORIZED,
            timeout=5,
        )

    def serves(self, name: str, version: str, at: str = "") -> bool:
        answer = self.predict(name, at)
        return answer.status_code == 200 and answer.json()["model"]["version"] == version

    def until_serves(self, name: str, version: str, at: str = "") -> None:
        eventually(lambda: self.serves(name, version, at), 60)

    def listing(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/models", headers=AUTHORIZED, timeout=5).json()

    def failure(self, name: str) -> dict[str, Any] | None:
        models = [model for model in self.listing()["models"] if model["name"] == name]
        return models[0]["aliases"]["champion"]["failure"] if models else None

    def ready(self) -> int:
        return httpx.get(f"{self.url}/health/ready", timeout=5).status_code


class Raises(mlflow.pyfunc.PythonModel):
    """A model that cannot be loaded, where `MODEL_API_KEYS_FILE` says that this is the service."""

    def load_context(self, context: Any) -> None:
        if "MODEL_API_KEYS_FILE" in os.environ:
            raise RuntimeError("its licence has run out")

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[str]:
        return ["small"] * len(model_input)


class Hangs(Raises):
    """A model whose loading does not end there, and whose helper ignores SIGTERM."""

    def load_context(self, context: Any) -> None:
        if "MODEL_API_KEYS_FILE" in os.environ:
            subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 987; sleep 987"])
            time.sleep(1000)


def register(url: str, name: str, model: Any, **changes: Any) -> str:
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
        return mlflow.register_model(info.model_uri, name).version


def constant(label: str) -> DummyClassifier:
    return DummyClassifier(strategy="constant", constant=label).fit(FRAME, LABELS)


def promote(url: str, name: str, version: str, alias: str = "champion") -> None:
    MlflowClient(url, url).set_registered_model_alias(name, alias, version)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def host(registry: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Host(tmp_path_factory.mktemp("host"), registry.url, prepare_seconds=15).up() as host:
        yield host


def test_a_moved_alias_is_followed_by_all_workers_of_all_hosts_and_no_request_is_lost(
    registry: Process, host: Host, tmp_path: Path
) -> None:
    name = "moving"
    first = register(registry.url, name, constant("small"))
    second = register(registry.url, name, constant("large"))
    promote(registry.url, name, first)
    with Host(tmp_path / "other", registry.url).up() as other:
        for one in (host, other):
            one.until_serves(name, first)

        answers: list[tuple[float, int, str, str]] = []
        done = threading.Event()

        def ask(one: Host) -> None:
            while not done.is_set():
                answer = one.predict(name)
                body = answer.json()
                answers.append(
                    (
                        time.monotonic(),
                        answer.status_code,
                        body["model"]["version"],
                        body["predictions"][0],
                    )
                )

        askers = [threading.Thread(target=ask, args=[one]) for one in (host, other) * 2]
        for asker in askers:
            asker.start()
        moves = []
        for version in (second, first, second):
            promote(registry.url, name, version)
            moves.append((time.monotonic(), version))
            for one in (host, other):
                one.until_serves(name, version)
            time.sleep(2 * POLL_SECONDS)
        done.set()
        for asker in askers:
            asker.join()
        # Never an error, never one version's answer under the other's name.
        seen = {tuple(answer[1:]) for answer in answers}
        assert seen == {(200, first, "small"), (200, second, "large")}
        # The last two moves are between prepared versions: a look at the registry, one at the
        # state, and everybody has followed.
        for moved, version in moves[1:]:
            later = [at for at, _, answered, _ in answers if at > moved and answered != version]
            until = moves[2][0] if version == first else float("inf")
            late = max((at for at in later if at < until), default=moved)
            assert late - moved < 6 * POLL_SECONDS


def make_unsigned(url: str) -> str:
    return register(url, "guarded", constant("large"), signature=False, input_example=None)


def make_other_dependencies(url: str) -> str:
    return register(url, "guarded", constant("large"), pip_requirements=["scikit-learn==0.24.1"])


def make_raising(url: str) -> str:
    return register(url, "guarded", Raises())


def make_incompatible(url: str) -> str:
    renamed = FRAME.rename(columns={"width": "w"})
    return register(
        url,
        "guarded",
        DummyClassifier(strategy="constant", constant="large").fit(renamed, LABELS),
        signature=infer_signature(renamed, LABELS),
        input_example=renamed,
    )


def make_torn(url: str, registry: Process) -> str:
    version = register(url, "guarded", constant("large"))
    model_id = MlflowClient(url, url).get_model_version("guarded", version).source
    model_id = model_id.removeprefix("models:/")
    [saved] = registry.log.parent.glob(f"artifacts/**/{model_id}/artifacts/model.skops")
    saved.write_bytes(saved.read_bytes()[:100])
    return version


def test_a_version_that_is_not_fit_never_serves(registry: Process, host: Host) -> None:
    url = registry.url
    good = register(url, "guarded", constant("small"))
    promote(url, "guarded", good)
    host.until_serves("guarded", good)
    for version, reason in (
        (make_unsigned(url), "signature"),
        (make_other_dependencies(url), "scikit-learn==0.24.1"),
        (make_raising(url), "licence has run out"),
        (make_incompatible(url), "'width'"),
        (make_torn(url, registry), ""),
    ):
        promote(url, "guarded", version)

        def refused(version: str = version) -> dict[str, Any] | None:
            assert host.serves("guarded", good)
            failure = host.failure("guarded")
            return failure if failure and failure["version"] == version else None

        failure = eventually(refused, 60)
        assert reason in failure["reason"], failure
        assert failure["attempts"] >= 1
    promote(url, "guarded", good)
    eventually(lambda: host.failure("guarded") is None)
    assert host.serves("guarded", good)


def test_a_version_that_hangs_is_ended_and_delays_nobody_who_is_wanted(
    registry: Process, host: Host
) -> None:
    url, name = registry.url, "hanging"
    good = register(url, name, constant("small"))
    promote(url, name, good)
    host.until_serves(name, good)
    bad = register(url, name, Hangs())
    promote(url, name, bad)
    failure = eventually(lambda: host.failure(name), 60)
    assert failure["version"] == bad and "not ready after 15 s" in failure["reason"]
    assert host.serves(name, good)
    assert not helpers()
    # A version that works does not wait behind its next attempt.
    better = register(url, name, constant("large"))
    promote(url, name, better)
    host.until_serves(name, better)


def helpers() -> str:
    """The processes that the hanging model has started."""
    return subprocess.run(["pgrep", "-f", "sleep 987"], capture_output=True, text=True).stdout


def test_a_version_is_served_by_its_number(registry: Process, host: Host) -> None:
    url, name = registry.url, "numbered"
    first = register(url, name, constant("small"))
    second = register(url, name, constant("large"))
    promote(url, name, second)
    host.until_serves(name, second)
    answer = host.predict(name, f"/versions/{first}")
    assert answer.status_code == 503 and "retry-after" in answer.headers
    host.until_serves(name, first, f"/versions/{first}")
    assert host.serves(name, second)
    assert host.predict(name, "/versions/3").status_code == 404


def test_a_follower_that_is_killed_leaves_what_serves_and_its_successor_goes_on(
    registry: Process, tmp_path: Path
) -> None:
    url, name = registry.url, "killed"
    good = register(url, name, constant("small"))
    bad = register(url, name, Hangs())
    promote(url, name, good)
    host = Host(tmp_path / "host", url)
    with host.answering():
        with host.following() as follower:
            host.until_serves(name, good)
            promote(url, name, bad)
            eventually(helpers)
            follower.kill()
            follower.wait()
        assert host.serves(name, good)
        # systemd ends what a unit leaves; here only the child that was being prepared is sure to
        # end.
        subprocess.run(["pkill", "-KILL", "-f", "sleep 987"], check=False)
        better = register(url, name, constant("large"))
        promote(url, name, better)
        with host.following():
            host.until_serves(name, better)
        left = {path.name.split("-")[1] for path in (host.state / "prepared").iterdir()}
        assert left == {good, better}


def test_two_followers_of_one_state_are_one_too_many(registry: Process, host: Host) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "model_api.follower"],
        env=os.environ | host.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert "another one follows" in second.stderr


def test_a_registry_that_hangs_or_dies_stops_no_prediction_nor_a_restart(tmp_path: Path) -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(mlflow_server(tmp_path))
        version = register(registry.url, "steady", constant("small"))
        promote(registry.url, "steady", version)
        host = Host(tmp_path / "host", registry.url)
        with host.up():
            host.until_serves("steady", version)
            os.killpg(registry.process.pid, signal.SIGSTOP)
            eventually(lambda: _error(host))
            assert host.serves("steady", version)
            os.killpg(registry.process.pid, signal.SIGCONT)
            eventually(lambda: _error(host) is None)
            os.killpg(registry.process.pid, signal.SIGKILL)
            eventually(lambda: _error(host))
            assert host.serves("steady", version)
            assert host.ready() == 200
        # After a reboot nothing but what is prepared is there.
        with host.up():
            host.until_serves("steady", version)
            eventually(lambda: "refused" in (_error(host) or ""))
            assert host.ready() == 200
        shutil.rmtree(host.state)
        with host.up():
            eventually(lambda: "refused" in httpx.get(f"{host.url}/health/ready").text)
            assert host.ready() == 503
            answer = host.predict("steady")
            assert answer.status_code == 503
            assert "retry-after" in answer.headers


def _error(host: Host) -> str | None:
    return host.listing()["registry_error"]


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
        timeout=60,
    )
    assert ended.returncode == 2
    for name in wrong:
        assert f"model-api-follower: {name}: " in ended.stderr
