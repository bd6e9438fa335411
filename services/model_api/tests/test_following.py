"""The follower's decisions, with a registry in memory, a real disk and real processes."""

import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from conftest import eventually

from model_api.common.runners import RunnerStatus, write_statuses
from model_api.common.state import Model, Outcome, State, StateFolder, replace
from model_api.follower.disk import remove
from model_api.follower.follower import Follower
from model_api.follower.preparation import Steps
from model_api.follower.registry import Registered, RegistryError
from model_api.sandbox.limits import MIB

# Replaces model_api.downloading and model_api.preparing: the version's number decides the result.
PREPARE = """
    import json, os, signal, subprocess, sys, time
    from pathlib import Path
    step, name, number, folder = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
    behaviours = json.loads((Path(__file__).parent / "behaviours.json").read_text())
    behaviour = behaviours.get(number, "works")
    if step == "reopen":
        sys.exit("it cannot be opened" if behaviour == "opens badly" else 0)
    if step == "download":
        (folder / "model").mkdir()
        digest = "another" if behaviour == "was changed" else "first"
        left = {"run_id": None, "digest": digest, "bytes": 0}
        (folder / "downloaded.json").write_text(json.dumps(left))
        sys.exit(0)
    with (Path(__file__).parent / "calls").open("a") as calls:
        calls.write(f"{name} {number} {os.getpid()} {time.time()} {behaviour}\\n")
    print("examining", file=sys.stderr)
    (folder / "compiled.onnx").write_text("half")
    if behaviour == "hangs":
        subprocess.Popen(["sleep", "1000"], start_new_session=False)
        time.sleep(1000)
    if behaviour == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "takes memory":
        taken = b"x" * 300_000_000
        time.sleep(1000)
    if behaviour == "fills the disk":
        for number in range(2000):
            (folder / str(number)).mkdir()
            (folder / str(number)).chmod(0)
        time.sleep(1000)
    if behaviour == "leaves a link":
        (folder / "compiled.npz").symlink_to("/dev/zero")
    if behaviour == "talks":
        for _ in range(20_000):
            print("x" * 100, file=sys.stderr)
    if behaviour == "leaves nothing":
        sys.exit(0)
    if behaviour == "leaves another name":
        (folder / "helper.py").write_text("")
    if behaviour == "closes its folder":
        os.mkfifo(folder / "manifest.json")
        folder.chmod(0)
        sys.exit(0)
    if behaviour == "leaves much":
        with (folder / "manifest.json").open("wb") as manifest:
            manifest.truncate(2**30)
        sys.exit(0)
    if behaviour == "is another":
        name = "another"
    if behaviour in ("it has no signature", "the artifact is torn") or " not load " in behaviour:
        print(behaviour, file=sys.stderr)
        sys.exit(1)
    engine = "pyfunc" if behaviour == "is not compiled" else "numpy"
    manifest = {"format": 2, "name": name, "version": number, "number": number, "engine": engine}
    (folder / "manifest.json").write_text(json.dumps(manifest))
"""


class MemoryRegistry:
    """A registry whose answers a test sets."""

    def __init__(self) -> None:
        self.known: dict[str, Registered] | str = {}

    def models(self) -> dict[str, Registered]:
        """Return the models, or raise that the registry is unreachable."""
        if isinstance(self.known, str):
            raise RegistryError(self.known)
        return dict(self.known)

    def move(self, name: str = "wine", created: int = 1, **aliases: str) -> None:
        """Set the aliases of a model."""
        assert isinstance(self.known, dict)
        self.known[name] = Registered(created, 9, aliases)


class Stage:
    """A follower, its registry, and the behaviour of its preparations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.registry = MemoryRegistry()
        self.folder = StateFolder(path / "state")
        self.script = path / "prepare.py"
        self.script.write_text(textwrap.dedent(PREPARE))
        self.incompatible: dict[tuple[str, str], str] = {}
        # Not the default "idle": other processes may use the whole machine.
        self.options: dict = {"poll_seconds": 0.01, "prepare_seconds": 600, "priority": "normal"}
        self.options |= {"memory": 1024 * MIB}
        self.behave()
        self.start()

    def behave(self, **behaviours: str) -> None:
        named = {number.removeprefix("v"): what for number, what in behaviours.items()}
        # At once: a preparing process may be reading it.
        replace(self.path / "behaviours.json", msgspec.json.encode(named))

    def start(self, **options: object) -> None:
        """Start a follower, as after the crash of an earlier one."""
        self.follower = Follower(
            self.registry,
            self.folder,
            ("champion", "challenger"),
            self._incompatible,
            **self.options | options,
            commands=Steps(*map(self._step, ("download", "examine", "reopen"))),
        )

    def _step(self, step: str) -> Callable[..., list[str]]:
        def command(*given: object) -> list[str]:
            name, number, folder = self._names(given)
            return [sys.executable, "-S", str(self.script), step, name, number, str(folder)]

        return command

    def _names(self, given: tuple[object, ...]) -> tuple[str, str, Path]:
        if isinstance(given[0], Path):
            # .wine-7-0123abcd
            folder = given[0]
            name, number, _ = folder.name.removeprefix(".").rsplit("-", 2)
            return name, number, folder
        name, number, folder = given[:3]
        assert isinstance(folder, Path)
        return str(name), str(number), folder

    def _incompatible(self, new: Path, serving: Path) -> str | None:
        old, young = (
            msgspec.json.decode((folder / "manifest.json").read_bytes())["number"]
            for folder in (serving, new)
        )
        return self.incompatible.get((old, young))

    @property
    def calls(self) -> list[str]:
        """The versions that were prepared, in order."""
        file = self.path / "calls"
        return [line.split()[1] for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def state(self) -> State:
        """The state that the workers read."""
        return self.folder.read() or State()

    @property
    def model(self) -> Model:
        return self.state.models["wine"]

    def until(self, condition: Callable[[], object]) -> None:
        """Run the follower's ticks until the condition is true."""

        def turn() -> object:
            self.follower.tick()
            return condition()

        eventually(turn)

    def until_serves(self, number: str, alias: str = "champion", name: str = "wine") -> None:
        def serves() -> bool:
            model = self.state.models.get(name)
            return bool(model and alias in model.aliases and model.aliases[alias].serves == number)

        self.until(serves)

    def until_fails(self, number: str, alias: str = "champion") -> str:
        def failed() -> bool:
            failure = self.model.aliases[alias].failure
            return failure is not None and failure.version == number

        self.until(failed)
        return self.model.aliases[alias].failure.reason  # type: ignore[union-attr]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.registry.move(champion="1")
    return stage


def folders(stage: Stage) -> set[str]:
    return {path.name for path in stage.folder.prepared.iterdir()}


def test_an_alias_is_followed_and_going_back_prepares_nothing(stage: Stage) -> None:
    stage.until_serves("1")
    stage.registry.move(champion="2")
    stage.until_serves("2")
    assert stage.model.aliases["champion"].previous == "1"
    stage.registry.move(champion="1")
    stage.until_serves("1")
    assert stage.calls == ["1", "2"]
    entry = stage.model.aliases["champion"]
    assert entry.since and entry.since >= entry.moved_at
    assert stage.folder.path.joinpath(stage.model.versions["1"].folder, "manifest.json").exists()


def test_every_followed_alias_is_followed_and_no_other(stage: Stage) -> None:
    stage.registry.move(champion="1", challenger="2", staging="3")
    stage.until_serves("2", "challenger")
    assert set(stage.model.aliases) == {"champion", "challenger"}
    assert stage.calls == ["1", "2"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("it has no signature", "it has no signature"),
        ("hangs", "not ready after 1 s"),
        ("is killed", "memory"),
        ("leaves nothing", "no manifest"),
        ("leaves a link", "left 'compiled.npz', which is no file of ours"),
        ("leaves another name", "left 'helper.py', which is no file of ours"),
        ("closes its folder", "left 'manifest.json', which is no file of ours"),
        ("leaves much", "left 'manifest.json' with more than 8 MiB"),
        ("is another", "says that it is another version"),
        ("opens badly", "it cannot be opened"),
        ("takes memory", "more than 100 MiB of memory"),
        ("fills the disk", "wrote more than a model needs"),
    ],
)
def test_a_version_that_fails_leaves_the_old_one_and_says_why(
    stage: Stage, behaviour: str, reason: str
) -> None:
    stage.until_serves("1")
    if behaviour == "hangs":
        stage.start(prepare_seconds=1)
    if behaviour == "takes memory":
        stage.start(memory=100 * MIB)
    stage.behave(v2=behaviour)
    stage.registry.move(champion="2")
    assert reason in stage.until_fails("2")
    assert stage.model.aliases["champion"].serves == "1"
    # Nothing is left, neither files nor processes.
    assert folders(stage) == {Path(stage.model.versions["1"].folder).name}
    assert not _alive(stage)

    stage.registry.move(champion="1")
    stage.until(lambda: stage.model.aliases["champion"].failure is None)
    assert stage.model.failures == {}


def test_a_failed_version_is_retried_less_and_less_often_and_serves_once_it_works(
    stage: Stage,
) -> None:
    stage.start(poll_seconds=0.05)
    stage.behave(v1="the artifact is torn")
    stage.until(lambda: stage.calls.count("1") >= 5)
    times = [float(line.split()[3]) for line in (stage.path / "calls").read_text().splitlines()]
    for attempts, (before, after) in enumerate(pairwise(times[:5]), start=1):
        assert after - before >= 0.05 * 2**attempts
    stage.until(lambda: stage.model.failures["1"].attempts >= 5)
    # A failed version waits its time also after a restart.
    stage.start(poll_seconds=1000)
    before = len(stage.calls)
    for _ in range(20):
        stage.follower.tick()
    assert len(stage.calls) == before
    stage.start(poll_seconds=0.01)
    stage.behave()
    stage.until_serves("1")
    assert stage.model.aliases["champion"].failure is None


def test_a_version_incompatible_with_the_serving_one_is_refused(stage: Stage) -> None:
    stage.incompatible["1", "2"] = "column 'age' is new and required"
    stage.until_serves("1")
    stage.registry.move(champion="2")
    assert "age" in stage.until_fails("2")
    entry = stage.model.aliases["champion"]
    assert (entry.serves, entry.failure.attempts) == ("1", 1)
    # It serves under another alias, because no version serves there yet.
    stage.registry.move(champion="1", challenger="2")
    stage.until_serves("2", "challenger")
    assert stage.calls == ["1", "2"]


def outcomes(stage: Stage) -> list[tuple[str, str]]:
    """The history of the champion: (version, outcome), the newest last."""
    return [(known.version, known.outcome) for known in stage.model.history["champion"]]


def test_the_history_has_the_last_outcome_of_each_version(stage: Stage) -> None:
    stage.behave(v2="the artifact is torn")
    stage.until_serves("1")
    stage.registry.move(champion="2")
    stage.until_fails("2")
    assert outcomes(stage) == [("1", "served"), ("2", "failed")]
    assert stage.model.history["champion"][-1].reason == "the artifact is torn"
    stage.registry.move(champion="3")
    stage.until_serves("3")
    stage.registry.move(champion="1")
    stage.until_serves("1")
    assert outcomes(stage) == [("2", "failed"), ("3", "served"), ("1", "served")]
    # Neither a restart nor a temporarily removed alias changes the history.
    stage.start()
    stage.registry.move()
    stage.until(lambda: not stage.model.aliases)
    stage.behave()
    stage.registry.move(champion="2")
    stage.until_serves("2")
    assert outcomes(stage) == [("3", "served"), ("1", "served"), ("2", "served")]


def test_the_history_is_bounded(stage: Stage) -> None:
    model, at = Model(1, 99), datetime.now(UTC)
    for number in range(100):
        model.note("champion", Outcome(str(number), at, "served"))
    assert [o.version for o in model.history["champion"]] == [str(n) for n in range(80, 100)]


def test_the_history_starts_from_the_previous_releases_state(stage: Stage) -> None:
    stage.until_serves("1")
    stage.registry.move(champion="2")
    stage.until_serves("2")
    state = msgspec.json.decode(stage.folder.file.read_bytes())
    del state["models"]["wine"]["history"]
    replace(stage.folder.file, msgspec.json.encode(state))
    stage.start()
    stage.registry.move(champion="3")
    stage.until_serves("3")
    assert outcomes(stage) == [("1", "served"), ("2", "served"), ("3", "served")]


def test_a_promotion_does_not_wait_for_one_that_hangs(stage: Stage) -> None:
    stage.behave(v2="hangs")
    stage.until_serves("1")
    stage.registry.move(champion="2")
    stage.until(lambda: "2" in stage.calls)
    # No alias points to it now.
    stage.registry.move(champion="3")
    stage.until_serves("3")
    assert not _alive(stage)
    assert stage.model.failures == {}


def test_untried_versions_come_before_failed_ones(stage: Stage) -> None:
    stage.behave(v1="the artifact is torn")
    stage.until_fails("1")
    stage.behave(v1="hangs")
    stage.until(lambda: (stage.path / "calls").read_text().endswith("hangs\n"))
    stage.registry.move("beer", champion="5")
    stage.until_serves("5", name="beer")


def test_a_removed_model_or_alias_stops_serving_and_its_files_are_removed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_api.follower.disk.GRACE_SECONDS", 0.1)
    stage.registry.move(champion="1", challenger="2")
    stage.registry.move("beer", champion="3")
    stage.until(lambda: len(stage.calls) == 3 and stage.state.models["beer"].versions)
    stage.registry.move(champion="1")
    stage.until(lambda: set(stage.model.aliases) == {"champion"})
    assert isinstance(stage.registry.known, dict)
    del stage.registry.known["beer"]
    stage.until(lambda: set(stage.state.models) == {"wine"})
    stage.until(lambda: folders(stage) == {Path(stage.model.versions["1"].folder).name})


def test_a_new_model_under_an_old_name_is_another(stage: Stage) -> None:
    stage.until_serves("1")
    stage.registry.move(champion="1", created=2)
    stage.until(lambda: stage.calls == ["1", "1"])
    stage.until_serves("1")


def test_an_unreachable_registry_changes_nothing_even_after_a_restart(stage: Stage) -> None:
    stage.until_serves("1")
    stage.registry.known = "connection refused"
    stage.until(lambda: stage.state.registry_error == "connection refused")
    stage.start()
    stage.follower.tick()
    assert stage.model.aliases["champion"].serves == "1"
    assert stage.calls == ["1"]
    # Nothing is prepared either, because nothing can be downloaded.
    (stage.folder.path / stage.model.versions["1"].folder / "manifest.json").unlink()
    stage.start()
    for _ in range(20):
        stage.follower.tick()
    assert stage.calls == ["1"]
    stage.registry.known = {}
    stage.registry.move(champion="2")
    stage.until_serves("2")
    assert stage.state.registry_error is None


@pytest.mark.parametrize("when", ["preparing", "prepared"])
def test_a_crash_at_any_point_leaves_a_usable_state(stage: Stage, when: str) -> None:
    stage.until_serves("1")
    before = stage.folder.file.read_bytes()
    stage.behave(v2="hangs" if when == "preparing" else "works")
    stage.registry.move(champion="2")
    stage.until(lambda: "2" in stage.calls)
    if when == "prepared":
        # Everything exists except the state that refers to it.
        stage.until_serves("2")
        stage.folder.file.write_bytes(before)
    stage.behave()
    stage.start()
    assert stage.model.aliases["champion"].serves == "1"
    stage.until_serves("2")
    assert stage.folder.path.joinpath(stage.model.versions["2"].folder, "manifest.json").exists()


def test_half_prepared_folders_are_gone_after_a_start(stage: Stage) -> None:
    stage.until_serves("1")
    for name in ("wine-2-0000", ".wine-2-0000-tmp"):
        (stage.folder.prepared / name).mkdir()
        (stage.folder.prepared / name / "model").write_text("half")
    (stage.folder.prepared / ".wine-2-0000-tmp" / "manifest.json").write_text("{}")
    stage.start()
    assert folders(stage) == {Path(stage.model.versions["1"].folder).name}


@pytest.mark.parametrize("content", [b"", b"{", b'{"models": []}', b"\xff"])
def test_an_invalid_state_is_replaced(stage: Stage, content: bytes) -> None:
    stage.until_serves("1")
    stage.folder.file.write_bytes(content)
    stage.start()
    stage.until_serves("1")


def test_folders_of_any_depth_and_permissions_are_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    left = tmp_path / "left"
    left.mkdir()
    (left / "link").symlink_to(outside)
    within = os.open(left, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=within)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=within)
        os.close(within)
        within = deeper
    os.mkdir("closed", mode=0, dir_fd=within)
    os.close(within)
    left.chmod(0)
    remove(left)
    assert not left.exists()
    assert outside.is_dir()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


@pytest.fixture
def runners(stage: Stage) -> Callable[[RunnerStatus | None], None]:
    """Sets the status of the runner of version 2, which is not compiled and the champion."""
    directory = stage.path / "runners"
    directory.mkdir()
    stage.behave(v2="is not compiled")
    stage.start(runners=directory)
    stage.until_serves("1")
    stage.registry.move(champion="2")
    stage.until(lambda: "2" in stage.model.versions)

    def tell(status: RunnerStatus | None) -> None:
        name = Path(stage.model.versions["2"].folder).name
        write_statuses(directory, {name: status} if status else {})

    return tell


def test_a_version_serves_only_once_its_runner_is_ready(
    stage: Stage, runners: Callable[[RunnerStatus | None], None]
) -> None:
    for status in (None, RunnerStatus("idle"), RunnerStatus("starting")):
        runners(status)
        for _ in range(3):
            stage.follower.tick()
        champion = stage.model.aliases["champion"]
        assert (champion.serves, champion.failure) == ("1", None)
    runners(RunnerStatus("ready"))
    stage.until_serves("2")


def test_a_version_whose_runner_keeps_dying_never_serves_and_says_why(
    stage: Stage, runners: Callable[[RunnerStatus | None], None]
) -> None:
    runners(RunnerStatus("failed", "its process died of SIGABRT", 3))
    assert stage.until_fails("2") == "its process died of SIGABRT"
    runners(RunnerStatus("starting", "its process died of SIGABRT", 3))
    stage.follower.tick()
    champion = stage.model.aliases["champion"]
    assert champion.serves == "1"
    assert champion.failure is not None, "the failure was forgotten while the runner starts again"
    runners(RunnerStatus("ready"))
    stage.until_serves("2")


def test_a_version_that_no_runner_is_started_for_says_so(
    stage: Stage,
    runners: Callable[[RunnerStatus | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model_api.follower.gate.MISSING_SECONDS", 0.1)
    runners(None)
    assert "is model-api-runners running on this host?" in stage.until_fails("2")
    runners(RunnerStatus("ready"))
    stage.until_serves("2")


def test_a_version_whose_registered_files_have_changed_never_serves(stage: Stage) -> None:
    stage.until_serves("1")
    first = stage.model.versions["1"].folder
    stage.behave(v1="was changed")
    (stage.folder.path / first / "manifest.json").unlink()
    stage.start()
    stage.registry.move(champion="2")
    stage.until_serves("2")
    stage.registry.move(champion="1")
    assert "its files have changed since this host first saw them" in stage.until_fails("1")
    assert stage.model.aliases["champion"].serves == "2"


def test_a_version_whose_files_are_gone_is_prepared_again(stage: Stage) -> None:
    stage.until_serves("1")
    (stage.folder.path / stage.model.versions["1"].folder / "manifest.json").unlink()
    stage.start()
    stage.until(lambda: stage.calls == ["1", "1"])
    stage.until(lambda: "1" in stage.model.versions)


def test_after_an_upgrade_a_version_serves_until_it_is_prepared_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.until_serves("1")
    old = stage.model.versions["1"].folder
    monkeypatch.setattr("model_api.follower.follower.fingerprint", lambda: "another")
    stage.behave(v1="it does not load with this version of scikit-learn")
    stage.start()
    assert "scikit-learn" in stage.until_fails("1")
    assert (stage.model.aliases["champion"].serves, stage.model.versions["1"].folder) == ("1", old)
    assert outcomes(stage) == [("1", "served")]
    stage.behave()
    stage.until(lambda: stage.model.versions["1"].folder != old)
    stage.until(lambda: stage.model.aliases["champion"].failure is None)


def test_a_full_disk_leaves_the_serving_version(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.until_serves("1")
    before = stage.folder.file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("model_api.common.state.os.fsync", full)
        stage.registry.move(champion="2")
        stage.registry.move("beer", champion="3")
        stage.until(lambda: "No space" in caplog.text)
        assert stage.folder.file.read_bytes() == before
        assert [path.name for path in stage.folder.path.iterdir() if ".json." in path.name] == []
    stage.until_serves("2")


def test_versions_requested_by_number_are_prepared_and_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.start(on_demand=2)
    stage.until_serves("1")
    for number in ("3", "4"):
        stage.folder.request_version("wine", number)
        stage.until(lambda number=number: number in stage.model.versions)
    assert stage.model.versions["3"].last_used is not None
    assert stage.model.versions["1"].last_used is None

    # Both are in use, so a third one gets no place and displaces none.
    stage.folder.request_version("wine", "5")
    for _ in range(20):
        stage.follower.tick()
    assert set(stage.model.versions) == {"1", "3", "4"}
    # One has not been used for a while, so it makes room.
    _age(stage, 3 * 60, but="5")
    stage.folder.request_version("wine", "4")
    stage.until(lambda: set(stage.model.versions) == {"1", "4", "5"})
    # No request for ten minutes, and none after a restart.
    _age(stage, 11 * 60)
    stage.start(on_demand=2)
    stage.until(lambda: set(stage.model.versions) == {"1"})
    assert list(stage.folder.requests()) == []


@pytest.mark.parametrize(
    ("name", "number"), [("wine", "10"), ("wine", "0"), ("wine", "x"), ("beer", "1")]
)
def test_a_version_unknown_to_the_registry_is_not_prepared(
    stage: Stage, name: str, number: str
) -> None:
    stage.until_serves("1")
    stage.folder.request_version(name, number)
    stage.until(lambda: not list(stage.folder.requests()))
    assert stage.calls == ["1"]


def test_a_preparation_takes_no_time_from_requests(stage: Stage) -> None:
    stage.behave(v1="hangs")
    stage.start(priority="idle")
    stage.until(lambda: stage.calls)
    pid = int((stage.path / "calls").read_text().split()[2])
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    # Only kernels with autogroups have it.
    if (session := Path(f"/proc/{pid}/autogroup")).exists():
        assert session.read_text().split()[-1] == "19"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"


def test_a_version_may_print_much(stage: Stage) -> None:
    stage.behave(v1="talks")
    stage.until_serves("1")


def test_aliases_are_followed_after_a_fault_of_the_loop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [RuntimeError("an unforeseen fault")] * 2
    models = stage.registry.models

    def failing() -> dict[str, Registered]:
        if faults:
            raise faults.pop()
        return models()

    monkeypatch.setattr(stage.registry, "models", failing)
    stop = threading.Event()
    thread = threading.Thread(target=stage.follower.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: "wine" in stage.state.models)
        assert not faults
    finally:
        stop.set()
        thread.join()


def _alive(stage: Stage) -> list[str]:
    """The remaining processes of preparations."""
    found = subprocess.run(["pgrep", "-fa", str(stage.script)], capture_output=True, text=True)
    return found.stdout.splitlines()


def _age(stage: Stage, seconds: float, but: str = "") -> None:
    for file in (stage.folder.path / "wishes").iterdir():
        if msgspec.json.decode(file.read_bytes())[1] != but:
            then = file.stat()[stat.ST_MTIME] - seconds
            os.utime(file, (then, then))
