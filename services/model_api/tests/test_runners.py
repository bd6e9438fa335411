"""Real runners: processes in sandboxes, managed by the real managing process."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from conftest import eventually
from mlflow.models import infer_signature
from saved_models import TARGET, X, save
from serving import runners
from sklearn.linear_model import LogisticRegression

from model_api.common.runners import RunnerStatus, read_statuses
from model_api.common.state import Alias, Model, Prepared, State, StateFolder
from model_api.http.problems import Problem
from model_api.http.runners import ModelFailed, Runners
from model_api.model.errors import InvalidRows, RequestError
from model_api.model.version import Version, open_confined
from model_api.runners.runner import Runner

# Its input decides its behaviour. Two of these models have a module of the same name.
CODE = """
import os, sys, time
import mlflow

class Told(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import helper
        self.name = helper.NAME

    def predict(self, context, model_input, params=None):
        for word in model_input["word"]:
            if word == "dies":
                os.abort()
            if word == "hangs":
                time.sleep(1000)
            if word == "ends":
                sys.exit(0)
            if word == "raises":
                raise RuntimeError("a secret of the payload")
            if word == "refuses":
                raise ValueError("not that word")
        if os.path.exists("/etc/passwd"):
            return ["it sees the host"] * len(model_input)
        return [self.name] * len(model_input)

mlflow.models.set_model(Told())
"""
EXAMPLE = pd.DataFrame({"word": ["one"]})


class Stage:
    """Some prepared versions, and the clients of their runners."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = StateFolder(path / "state")
        self.folder.make()
        self.directory = path / "r"
        self.state = State(polled_at=datetime.now(UTC) + timedelta(days=1))
        self.loop = asyncio.Runner()
        self.runners = Runners(self.directory, connections=4, queue=8)
        self.versions: dict[str, Version] = {}

    def add(self, name: str, saved: Path) -> None:
        now = datetime.now(UTC)
        folder = self.folder.prepared / name
        # Not in this process, which would keep the module of the first.
        shutil.copytree(saved, folder / "model")
        command = [sys.executable, "-m", "model_api.preparing", name, "1", "", str(folder)]
        subprocess.run(command, check=True)
        self.state.models[name] = Model(
            created=1,
            latest=1,
            aliases={"champion": Alias("1", now)},
            versions={"1": Prepared(f"prepared/{name}", "test")},
        )
        self.folder.write(self.state)
        self.versions[name] = open_confined(folder)

    def told(self, name: str, helper: str) -> None:
        """Add a model whose code returns a constant of its module ``helper``."""
        source = self.path / f"source-{name}"
        source.mkdir()
        (source / "told.py").write_text(CODE)
        code = source / "code"
        code.mkdir()
        (code / "helper.py").write_text(f"NAME = {helper!r}")
        saved = source / "saved"
        mlflow.pyfunc.save_model(
            saved,
            python_model=str(source / "told.py"),
            code_paths=[str(code / "helper.py")],
            signature=infer_signature(EXAMPLE, ["x"]),
            input_example=EXAMPLE,
            pip_requirements=["pandas"],
        )
        self.add(name, saved)

    def status(self, name: str) -> RunnerStatus:
        return read_statuses(self.directory).get(name, RunnerStatus("idle"))

    def until_ready(self, name: str) -> None:
        eventually(lambda: self.status(name).state == "ready")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def ask(self, name: str, word: str = "one", seconds: float = 60) -> bytes:
        body = b'[{"word": "%b"}]' % word.encode()
        client = self.runners.of(self.versions[name])
        return self.run(client.predict(body, False, 1000, seconds))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("r"))
    stage.told("first", "first helper")
    stage.told("second", "second helper")
    stage.add(
        "compiled",
        save(stage.path / "compiled", LogisticRegression(max_iter=9999).fit(X, TARGET), X[:4]),
    )
    with runners(stage.folder.path, stage.directory):
        stage.until_ready("first")
        stage.until_ready("second")
        yield stage
    stage.loop.close()


def test_versions_with_modules_of_the_same_name_keep_their_own(stage: Stage) -> None:
    assert stage.ask("first") == b'"predictions":["first helper"]'
    assert stage.ask("second") == b'"predictions":["second helper"]'


def test_errors_arrive_as_the_model_raised_them(stage: Stage) -> None:
    with pytest.raises(InvalidRows) as refused:
        stage.ask("first", "refuses")
    assert refused.value.members["errors"][0]["field"] == "word"
    with pytest.raises(RequestError):
        client = stage.runners.of(stage.versions["first"])
        stage.run(client.predict(b"[{}]", False, 1000, 60))


def test_a_models_own_error_reveals_nothing_of_the_payload(stage: Stage) -> None:
    client = stage.runners.of(stage.versions["first"])
    with pytest.raises((ModelFailed, InvalidRows)) as failed:
        stage.run(client.predict(b'[{"word": "raises"}]', False, 1000, 60))
    if isinstance(failed.value, ModelFailed):
        assert failed.value.fields["error"] == "RuntimeError"
        assert "secret" not in str(failed.value.fields)


@pytest.mark.parametrize("word", ["dies", "ends"])
def test_a_runner_that_dies_is_replaced_and_the_others_are_unaffected(
    stage: Stage, word: str
) -> None:
    with pytest.raises((Problem, ModelFailed, InvalidRows)):
        stage.ask("first", word)
    assert stage.ask("second") == b'"predictions":["second helper"]'
    # Requests meanwhile wait for the next process.
    assert eventually(lambda: _answer(stage, "first")) == b'"predictions":["first helper"]'


def test_a_runner_that_hangs_is_replaced_and_the_others_are_unaffected(stage: Stage) -> None:
    stage.until_ready("first")
    with pytest.raises(Problem) as hung:
        stage.ask("first", "hangs", seconds=2)
    assert hung.value.kind == "prediction-timeout"
    assert stage.ask("second") == b'"predictions":["second helper"]'
    assert eventually(lambda: _answer(stage, "first")) == b'"predictions":["first helper"]'
    assert "did not answer for 2" in str(stage.status("first").reason)


def test_a_compiled_version_gets_a_runner_once_its_original_must_answer(stage: Stage) -> None:
    assert stage.status("compiled").state == "idle"
    client = stage.runners.of(stage.versions["compiled"])
    rows = X[:2].to_csv(index=False).encode()
    answered = stage.run(client.invoke(rows, "text/csv", 1000, 120))
    assert answered.content.startswith(b'"predictions":[')
    assert stage.status("compiled").state == "ready"


def test_runners_end_with_their_supervisor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Stage(Path(os.path.realpath(stage.path / "alone")))
    alone.told("gone", "helper")
    with runners(alone.folder.path, alone.directory) as keeper:
        alone.until_ready("gone")
        [pid] = _sandboxes(keeper.pid)
        keeper.send_signal(signal.SIGTERM)
        keeper.wait()
        eventually(lambda: not Path(f"/proc/{pid}").exists())
    alone.loop.close()


def test_a_runner_that_is_no_longer_needed_is_ended_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(folder: Path, listener: int, progress: int, network: bool) -> list[str]:
        code = f"import os, time; os.write({progress}, b'.'); time.sleep(1000)"
        return [sys.executable, "-S", "-c", code]

    runner = Runner(tmp_path, tmp_path / "socket", command, {}, start_seconds=60)
    try:
        runner.wanted = True

        def is_ready() -> bool:
            runner.tick()
            return runner.status.state == "ready"

        eventually(is_ready)
        pid = runner.process
        monkeypatch.setattr("model_api.runners.runner.IDLE_SECONDS", 0.2)
        threading.Event().wait(0.3)
        runner.tick()
        assert runner.process == pid, "a runner that is needed was ended"
        runner.wanted = False

        def is_idle() -> bool:
            runner.tick()
            return runner.status.state == "idle"

        eventually(is_idle)
        assert runner.process is None
        assert not Path(f"/proc/{pid}").exists()
    finally:
        runner.end()


def _answer(stage: Stage, name: str) -> bytes | None:
    try:
        return stage.ask(name)
    except Problem:
        threading.Event().wait(0.1)
        return None


def _sandboxes(keeper: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]
