"""How the store follows the registry, one look at a time."""

import numpy as np
import pytest
from conftest import MemoryRegistry, make_model

from model_api.store import ModelStore, NotLoaded, UnknownModel


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(registry: MemoryRegistry, clock: Clock) -> ModelStore:
    return ModelStore(registry, poll_seconds=2, clock=clock)


def test_a_moved_alias_is_followed(store: ModelStore, registry: MemoryRegistry) -> None:
    store.poll()
    assert store.get("sum").version == "1"
    registry.models["sum", "2"] = make_model("2")
    registry.aliases = {"sum": "2"}
    store.poll()
    assert store.get("sum").version == "2"


def test_an_alias_that_stays_costs_no_load(store: ModelStore, registry: MemoryRegistry) -> None:
    store.poll()
    store.poll()
    assert registry.loads == [("sum", "1")]


def test_moving_back_needs_no_load(store: ModelStore, registry: MemoryRegistry) -> None:
    store.poll()
    registry.models["sum", "2"] = make_model("2")
    registry.aliases = {"sum": "2"}
    store.poll()
    registry.models["sum", "1"] = OSError("the artifacts are gone")
    registry.aliases = {"sum": "1"}
    store.poll()
    assert store.get("sum").version == "1"


def _raise(frame: object) -> None:
    raise ValueError("no such feature")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (OSError("no such artifact"), "no such artifact"),
        (make_model("2", example=None), "no input example"),
        (make_model("2", estimator=_raise), "no such feature"),
        (make_model("2", estimator=lambda frame: np.zeros(1)), "with 1 predictions"),
        (make_model("2", probabilities=_raise), "no such feature"),
    ],
)
def test_a_version_that_fails_never_serves(
    store: ModelStore, registry: MemoryRegistry, broken: object, reason: str
) -> None:
    store.poll()
    registry.models["sum", "2"] = broken
    registry.aliases = {"sum": "2"}
    store.poll()
    assert store.get("sum").version == "1"
    [status] = store.describe()
    assert status["version"] == "1"
    assert status["wanted_version"] == "2"
    assert status["last_error"]["version"] == "2"
    assert reason in status["last_error"]["reason"]


def test_a_failure_is_tried_again_ever_more_seldom(
    store: ModelStore, registry: MemoryRegistry, clock: Clock
) -> None:
    registry.models["sum", "1"] = OSError("away")
    tried = []
    for second in range(0, 200, 2):
        clock.now = second
        before = len(registry.loads)
        store.poll()
        if len(registry.loads) > before:
            tried.append(second)
    assert tried == [0, 4, 12, 28, 60, 120, 180]
    with pytest.raises(NotLoaded, match="version 1 of 'sum' cannot serve: away"):
        store.get("sum")
    registry.models["sum", "1"] = make_model("1")
    clock.now = 300
    store.poll()
    assert store.get("sum").version == "1"
    assert store.describe()[0]["last_error"] is None


def test_a_newer_version_does_not_wait_for_the_broken_one(
    store: ModelStore, registry: MemoryRegistry
) -> None:
    registry.models["sum", "1"] = OSError("away")
    store.poll()
    registry.models["sum", "2"] = make_model("2")
    registry.aliases = {"sum": "2"}
    store.poll()
    assert store.get("sum").version == "2"


def test_moving_back_to_what_serves_clears_the_failure(
    store: ModelStore, registry: MemoryRegistry
) -> None:
    store.poll()
    registry.models["sum", "2"] = OSError("broken")
    registry.aliases = {"sum": "2"}
    store.poll()
    registry.aliases = {"sum": "1"}
    store.poll()
    assert store.describe()[0]["last_error"] is None


def test_it_is_ready_when_every_model_has_been_tried(
    store: ModelStore, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_during_load = []
    load = registry.load

    def watched_load(name: str, version: str) -> object:
        ready_during_load.append(store.ready)
        return load(name, version)

    monkeypatch.setattr(registry, "load", watched_load)
    registry.aliases = {"sum": "1", "broken": "1"}
    registry.models["broken", "1"] = OSError("the artifacts are gone")
    store.poll()
    assert ready_during_load == [False, False]
    assert store.ready


def test_a_registry_that_goes_away_changes_nothing_that_serves(
    store: ModelStore, registry: MemoryRegistry
) -> None:
    assert not store.ready
    store.poll()
    registry.aliases = OSError("connection refused")
    store.poll()
    assert store.get("sum").version == "1"
    assert store.registry_error == "connection refused"
    assert store.ready
    with pytest.raises(NotLoaded, match="connection refused"):
        store.get("other")


def test_a_model_without_the_alias_does_not_serve(
    store: ModelStore, registry: MemoryRegistry
) -> None:
    registry.aliases = {"sum": "1", "draft": None}
    store.poll()
    with pytest.raises(UnknownModel, match="no version of 'draft' has the alias"):
        store.get("draft")
    with pytest.raises(UnknownModel, match="there are: sum"):
        store.get("other")
    registry.aliases = {"sum": None}
    store.poll()
    with pytest.raises(UnknownModel, match="no version of 'sum' has the alias"):
        store.get("sum")


def test_one_broken_model_does_not_stop_the_others(
    store: ModelStore, registry: MemoryRegistry
) -> None:
    registry.aliases = {"broken": "1", "sum": "1"}
    registry.models["broken", "1"] = OSError("broken")
    store.poll()
    assert store.get("sum").version == "1"
