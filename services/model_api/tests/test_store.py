"""The versions in one worker's memory while the state changes."""

import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually

from model_api.common.state import Alias, Failure, Model, Prepared, State, StateFolder
from model_api.http import store
from model_api.http.absence import NotLoaded, UnknownModel
from model_api.http.store import Store

NOW = datetime.now(UTC)


class FakeVersion:
    """An opened version, with only the attributes that a store uses."""

    compiled = True

    def __init__(self, folder: Path) -> None:
        self.number = folder.name.split("-")[1]
        self.folder = folder

    def describe(self) -> dict[str, Any]:
        return {"number": self.number}


class Stage:
    """A state, and a store that reads it."""

    def __init__(self, path: Path) -> None:
        self.folder = StateFolder(path)
        self.folder.make()
        self.state = State(polled_at=datetime.now(UTC))
        self.opened: list[str] = []
        self.open: Callable[[Path], Any] = FakeVersion
        self.store = Store(path, opener=self._open)

    def _open(self, folder: Path) -> Any:
        self.opened.append(folder.name)
        return self.open(folder)

    def serve(self, number: str | None, name: str = "wine", **aliases: str) -> Alias:
        """Write a state with this version as the champion."""
        model = Model(created=1, latest=9)
        entry = Alias(wanted=number or "1", moved_at=NOW, serves=number, since=NOW)
        model.aliases = {"champion": entry} | {
            alias: Alias(wanted=n, moved_at=NOW, serves=n) for alias, n in aliases.items()
        }
        for n in {number, *aliases.values()} - {None}:
            model.versions[n] = Prepared(f"prepared/wine-{n}-x", "here")  # type: ignore[index]
        self.state.models[name] = model
        self.write()
        return entry

    def write(self) -> None:
        self.folder.write(self.state)

    def champion(self, name: str = "wine") -> str:
        return self.store.alias(name, "champion").number


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_moved_alias_is_followed_and_the_old_version_is_freed(stage: Stage) -> None:
    stage.serve("1")
    stage.store.look()
    assert stage.champion() == "1"
    old = weakref.ref(stage.store.alias("wine", "champion"))
    in_flight = stage.store.alias("wine", "champion")
    stage.serve("2")
    stage.store.look()
    assert stage.champion() == "2"
    assert in_flight.number == "1" and old() is in_flight
    del in_flight
    assert old() is None


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "native"])
def test_a_small_previous_version_stays_in_memory(stage: Stage, compiled: bool) -> None:
    class Version(FakeVersion):
        pass

    Version.compiled = compiled
    stage.open = Version
    stage.serve("1")
    stage.store.look()
    for number, previous in (("2", "1"), ("1", "2"), ("2", "1")):
        entry = stage.serve(number)
        entry.previous = previous
        stage.state.models["wine"].versions[previous] = Prepared(
            f"prepared/wine-{previous}-x", "here"
        )
        stage.write()
        stage.store.look()
        assert stage.champion() == number
    assert stage.opened == ["wine-1-x", "wine-2-x"] + ([] if compiled else ["wine-1-x", "wine-2-x"])


def test_nothing_is_opened_twice(stage: Stage) -> None:
    stage.serve("1", challenger="1")
    for _ in range(3):
        stage.store.look()
        stage.write()
    assert stage.opened == ["wine-1-x"]
    assert stage.store.alias("wine", "challenger") is stage.store.alias("wine", "champion")


def test_while_the_new_version_is_opened_the_old_one_answers(stage: Stage) -> None:
    stage.serve("1")
    stage.store.start()
    eventually(lambda: stage.store.ready)
    opening, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> FakeVersion:
        opening.set()
        assert go_on.wait(20)
        return FakeVersion(folder)

    stage.open = slowly
    stage.serve("2")
    assert opening.wait(20)
    assert stage.champion() == "1"
    assert stage.store.version("wine", "1").number == "1"
    go_on.set()
    eventually(lambda: stage.champion() == "2")
    stage.store.stop()


def test_a_version_that_cannot_be_opened_leaves_the_old_one_and_shows(stage: Stage) -> None:
    stage.serve("1")
    stage.store.look()

    def fail(folder: Path) -> FakeVersion:
        raise MemoryError("no memory for it")

    stage.open = fail
    stage.serve("2")
    stage.store.look()
    stage.store.look()
    assert stage.champion() == "1"
    [wine] = stage.store.describe()
    assert wine["aliases"]["champion"]["version"] == "1"
    assert wine["aliases"]["champion"]["wanted_version"] == "2"
    assert "no memory" in wine["aliases"]["champion"]["failure"]["reason"]
    # Not at each read of the state, which would take the processor from requests.
    assert stage.opened == ["wine-1-x", "wine-2-x"]
    # Once prepared again, it is tried at once.
    stage.open = FakeVersion
    stage.state.models["wine"].versions["2"] = Prepared("prepared/wine-2-y", "here")
    stage.write()
    stage.store.look()
    assert stage.champion() == "2"
    assert stage.store.describe()[0]["aliases"]["champion"]["failure"] is None


@pytest.mark.parametrize("error", [MemoryError("no memory for it"), SystemExit(1)])
def test_a_version_that_never_opens_blocks_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def open_version(folder: Path) -> FakeVersion:
        if folder.name == "wine-1-x":
            raise error
        return FakeVersion(folder)

    stage.open = open_version
    stage.serve("1")
    stage.serve("2", name="beer")
    now = 0.0
    monkeypatch.setattr(store.time, "monotonic", lambda: now)
    for _ in range(1100):
        stage.store.look()
        now += store.LONGEST_BACK_OFF + 1
    assert stage.opened.count("wine-1-x") == 1100
    assert stage.champion("beer") == "2"
    stage.serve("3", name="beer")
    stage.store.look()
    assert stage.champion("beer") == "3"


def test_a_version_prepared_again_replaces_itself(stage: Stage) -> None:
    stage.serve("1")
    stage.store.look()
    stage.state.models["wine"].versions["1"] = Prepared("prepared/wine-1-y", "there")
    stage.write()
    stage.store.look()
    assert stage.store.alias("wine", "champion").folder.name == "wine-1-y"


def test_a_model_that_is_gone_is_unknown_and_freed(stage: Stage) -> None:
    stage.serve("1")
    stage.serve("2", name="beer")
    stage.store.look()
    old = weakref.ref(stage.store.alias("wine", "champion"))
    del stage.state.models["wine"]
    stage.write()
    stage.store.look()
    with pytest.raises(UnknownModel, match=r"'wine'.*beer"):
        stage.store.alias("wine", "champion")
    assert old() is None


def test_the_error_says_why_a_version_is_missing(stage: Stage) -> None:
    with pytest.raises(NotLoaded, match="not been polled"):
        stage.store.alias("wine", "champion")
    entry = stage.serve(None)
    stage.store.look()
    with pytest.raises(NotLoaded, match="version 1 of 'wine' is being prepared"):
        stage.store.alias("wine", "champion")
    with pytest.raises(UnknownModel, match=r"'wine' serves as 'challenger'.*champion"):
        stage.store.alias("wine", "challenger")
    entry.failure = Failure("1", "it has no signature", 1, NOW)
    stage.write()
    stage.store.look()
    with pytest.raises(NotLoaded, match="cannot be served: it has no signature"):
        stage.store.alias("wine", "champion")
    stage.state.registry_error = "connection refused"
    stage.write()
    stage.store.look()
    with pytest.raises(NotLoaded, match="connection refused"):
        stage.store.alias("beer", "champion")


def test_a_refusal_names_some_of_many_models(stage: Stage) -> None:
    model = Model(created=1, latest=1, aliases={"champion": Alias(wanted="1", moved_at=NOW)})
    stage.state.models = {f"model-{i:05}": model for i in range(5000)}
    stage.write()
    stage.store.look()
    with pytest.raises(UnknownModel, match=r"model-00000, .*\.\.\.") as refused:
        stage.store.alias("x" * 50_000, "champion")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "number", ["0", "10", "007", "1.0", "-1", "one", "", "٣", "9" * 5000, "9" * 50_000, "0" * 5000]
)
def test_an_invalid_number_is_never_requested(stage: Stage, number: str) -> None:
    stage.serve("1")
    stage.store.look()
    with pytest.raises(UnknownModel) as refused:
        stage.store.version("wine", number)
    assert len(str(refused.value)) < 200
    stage.store.look()
    assert list(stage.folder.requests()) == []


def test_a_version_is_requested_by_its_number(stage: Stage) -> None:
    stage.serve("1")
    stage.store.look()
    with pytest.raises(NotLoaded, match="version 5 of 'wine' is being prepared"):
        stage.store.version("wine", "5")
    stage.store.look()
    assert [request[:2] for request in stage.folder.requests()] == [("wine", "5")]
    stage.state.models["wine"].versions["5"] = Prepared("prepared/wine-5-x", "here", NOW)
    stage.write()
    stage.store.look()
    assert stage.store.version("wine", "5").number == "5"
    assert stage.champion() == "1"
    # The store reports a version in use, otherwise the follower would drop it.
    stage.folder.forget("wine", "5")
    stage.store._last_reported.clear()
    stage.store.version("wine", "5")
    stage.store.look()
    assert [request[:2] for request in stage.folder.requests()] == [("wine", "5")]
    stage.state.models["wine"].versions["5"].last_used = None
    stage.write()
    stage.store.look()
    assert "5" not in stage.store.describe()[0]["versions"]


def test_ready_once_every_version_was_tried(stage: Stage) -> None:
    assert not stage.store.ready
    entry = stage.serve(None)
    stage.serve("2", name="beer")
    stage.store.look()
    assert not stage.store.ready and "being loaded" in str(stage.store.not_ready_reason)
    entry.failure = Failure("1", "it has no signature", 1, NOW)
    stage.write()
    stage.store.look()
    assert stage.store.ready and stage.store.not_ready_reason is None
    # A model that is added later takes no host out of service.
    stage.serve(None, name="gin")
    stage.store.look()
    assert stage.store.ready


def test_ready_without_the_registry_only_while_something_serves(stage: Stage) -> None:
    stage.state.registry_error = "connection refused"
    stage.write()
    stage.store.look()
    assert not stage.store.ready and "connection refused" in str(stage.store.not_ready_reason)
    stage.serve("1")
    stage.store.look()
    assert stage.store.ready


def test_a_silent_follower_is_reported(stage: Stage) -> None:
    stage.serve("1")
    stage.state.polled_at = datetime.now(UTC) - timedelta(minutes=5)
    stage.write()
    stage.store.look()
    assert "model-api-follower" in str(stage.store.registry_error)
    assert stage.store.ready and stage.champion() == "1"


def test_a_torn_state_changes_nothing(stage: Stage) -> None:
    stage.serve("1")
    stage.store.look()
    stage.folder.file.write_bytes(b"{")
    stage.store.look()
    assert stage.champion() == "1"
    stage.serve("2")
    stage.store.look()
    assert stage.champion() == "2"


def test_aliases_are_followed_after_a_fault_of_the_thread(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, faults = stage.store._folder.read, [RuntimeError("an unforeseen fault")] * 2

    def failing() -> State | None:
        if faults:
            raise faults.pop()
        return read()

    monkeypatch.setattr(stage.store._folder, "read", failing)
    stage.serve("1")
    stage.store.start()
    try:
        eventually(lambda: stage.store.ready)
        assert stage.champion() == "1"
    finally:
        stage.store.stop()


def test_a_request_has_its_name_only_once_it_is_whole(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    write = Path.write_bytes

    def writing(file: Path, content: bytes) -> int:
        written = write(file, content[:1])
        seen.append([request.name for request in (stage.folder.path / "wishes").iterdir()])
        return written + write(file, content)

    monkeypatch.setattr(Path, "write_bytes", writing)
    stage.folder.request_version("wine", "3")
    assert seen == [[]]
    assert [request[:2] for request in stage.folder.requests()] == [("wine", "3")]


def test_a_request_that_a_power_cut_tore_can_be_made_again(stage: Stage) -> None:
    stage.folder.request_version("wine", "3")
    [file] = (stage.folder.path / "wishes").iterdir()
    file.write_bytes(b"")
    assert list(stage.folder.requests()) == []
    stage.folder.request_version("wine", "3")
    assert [request[:2] for request in stage.folder.requests()] == [("wine", "3")]
