"""With a slow service, each page says so, shows the rest, and shows the answer later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ADMIN, Airflow, Gate, ModelApi, World, go, shown, sign_in
from streamlit.testing.v1 import AppTest

from dashboard import board, session
from dashboard.services import Slow, Unavailable
from dashboard.session import AT_ONCE, PAUSE_SECONDS, Session, State
from dashboard.settings import Settings

App = Callable[..., AppTest]
NOTHING = ("No registered models", "No runs", "No experiments", "No model serves", "Nothing to")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages wait so briefly that a held answer is late on any machine."""
    monkeypatch.setattr(session, "WAIT_SECONDS", 0.2)


class Held:
    """A load that answers when it is released."""

    def __init__(self, answer: object = "answer") -> None:
        self.go, self.answer, self.asked = threading.Event(), answer, 0

    def __call__(self) -> object:
        self.asked += 1
        self.go.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def bare() -> Session:
    """A session without clients."""
    return Session("x", Settings("http://a", "http://b", "key"), None, ())


def wait_for(condition: Callable[[], object]) -> None:
    """Wait for a condition that another thread fulfils."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_next_run_shows_a_late_answer(impatient: None) -> None:
    visit, load = bare(), Held()
    visit.begin()
    with pytest.raises(Slow, match="MLflow is slow: no answer for 0 s"):
        visit.read("MLflow", "k", load)
    assert visit.state("MLflow") is State.SLOW and not visit.has_news()
    visit.begin()
    with pytest.raises(Slow):
        visit.read("MLflow", "k", load)
    assert load.asked == 1, "the running request was sent again"
    load.go.set()
    wait_for(visit.has_news)
    visit.begin()
    assert visit.read("MLflow", "k", load) == "answer" and load.asked == 1
    assert visit.state("MLflow") is State.SLOW, "the answer took longer than a page waits"


@pytest.mark.parametrize("error", [Unavailable("MLflow is gone."), ValueError("not a number")])
def test_the_next_run_raises_a_late_error(impatient: None, error: Exception) -> None:
    visit, load = bare(), Held(error)
    visit.begin()
    with pytest.raises(Slow):
        visit.read("MLflow", "k", load)
    load.go.set()
    wait_for(visit.has_news)
    visit.begin()
    with pytest.raises(type(error), match=str(error)):
        visit.read("MLflow", "k", load)
    assert load.asked == 1


def test_a_slow_service_does_not_delay_the_others(impatient: None) -> None:
    visit, slow = bare(), [Held() for _ in range(3 * AT_ONCE)]
    visit.begin()
    visit.prefetch(("MLflow", i, load) for i, load in enumerate(slow))
    for i, load in enumerate(slow):
        with pytest.raises(Slow):
            visit.read("MLflow", i, load)
    assert visit.read("Airflow", "k", lambda: "at once", seconds=60) == "at once"
    assert visit.state("Airflow") is State.HEALTHY
    assert sum(load.asked for load in slow) == AT_ONCE, (
        "too many concurrent requests to a slow service"
    )
    for load in slow:
        load.go.set()


def test_an_answer_for_a_closed_tab_is_not_kept(impatient: None) -> None:
    visit, load = bare(), Held()
    visit.begin()
    with pytest.raises(Slow):
        visit.read("MLflow", "k", load)
    visit.release()
    load.go.set()
    wait_for(lambda: "MLflow" in visit._news)
    assert session.ANSWERS.get(visit.key, ("MLflow", "k")) is None


def test_a_service_stays_unavailable_until_it_answers() -> None:
    now = [0.0]
    visit = bare()
    visit.clock = lambda: now[0]

    def fail() -> None:
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        visit.read("MLflow", "k", fail)
    now[0] += PAUSE_SECONDS + 1
    assert visit.state("MLflow") is State.UNAVAILABLE
    assert visit.read("MLflow", "k", lambda: 1) == 1 and visit.state("MLflow") is State.HEALTHY


@pytest.mark.parametrize("page", ["overview", "experiments", "models", "try_it", "drift"])
def test_a_page_says_that_mlflow_is_slow_and_later_shows_everything(
    app: App,
    gate: Gate,
    world: World,
    serving: ModelApi,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
) -> None:
    at = go(app(world.alice), page)
    full = len(at.dataframe), len(at.selectbox)
    with held_back(gate, monkeypatch):
        # A tab without loaded answers.
        at = fresh(app, at, page)
        text = shown(at)
        assert "Still loading" in text and "MLflow is slow" in text
        assert not any(nothing in text for nothing in NOTHING)
        assert "Healthy" not in text or page != "overview"
        assert any(button.label == "Try again" for button in at.button)
    visit = at.session_state["lastro_session"]
    wait_for(lambda: not visit._pending)
    for _ in range(3):  # Some requests depend on earlier answers.
        at = at.run()
        wait_for(lambda: not visit._pending)
    assert "Still loading" not in shown(at) and (len(at.dataframe), len(at.selectbox)) == full


def test_the_cards_show_the_same_state_as_the_rest_of_the_page(
    app: App, gate: Gate, world: World, serving: ModelApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists of models and experiments arrive immediately, the runs do not."""
    at = app(world.alice)
    with held_back(gate, monkeypatch, "runs/search"):
        at = fresh(app, at, "overview")
        text = shown(at)
        assert "**Slow**" in text and "**Healthy**" not in text
        assert "serves v1" in text and "No runs yet" not in text and "Still loading" in text


@pytest.mark.parametrize("page", ["overview", "pipelines"])
def test_a_slow_airflow_is_not_shown_as_unavailable(
    app: App,
    world: World,
    serving: ModelApi,
    airflow: Airflow,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
) -> None:
    at = app(world.alice)
    go_on = threading.Event()
    ask = board.airflow.Airflow._ask
    health = board.airflow.Airflow.health
    monkeypatch.setattr(
        board.airflow.Airflow, "_ask", lambda *a, **k: (go_on.wait(60), ask(*a, **k))[1]
    )
    monkeypatch.setattr(
        board.airflow.Airflow, "health", lambda self: (go_on.wait(60), health(self))[1]
    )
    monkeypatch.setattr(session, "WAIT_SECONDS", 0.5)
    at = fresh(app, at, page)
    text = shown(at)
    go_on.set()
    assert "Airflow is slow" in text and "No pipeline has run yet" not in text
    assert "**Unavailable**" not in text


def test_kept_answers_are_shown_while_mlflow_is_slow(
    app: App, gate: Gate, world: World, serving: ModelApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = app(world.alice)
    rows = len(at.dataframe[0].value)
    with held_back(gate, monkeypatch):
        at = at.button(key="refresh").click().run()
        assert "MLflow is slow" in at.warning[0].value and len(at.dataframe[0].value) == rows
        assert "**Slow**" in shown(at) and "**Healthy**" not in shown(at)


def test_a_slow_mlflow_is_not_reported_as_a_wrong_password(
    app: App, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board.tracking, "PATIENCE_SECONDS", 0.2)
    with held_back(gate, monkeypatch):
        at = sign_in(app(), *ADMIN)
        assert "MLflow is slow, so your login cannot be checked" in shown(at)


@contextmanager
def held_back(gate: Gate, monkeypatch: pytest.MonkeyPatch, part: str = "") -> Iterator[None]:
    """Hold back requests to MLflow with `part` in their path; pages wait half a second."""
    gate.held = part
    gate.go_on.clear()
    monkeypatch.setattr(session, "WAIT_SECONDS", 0.5)
    try:
        yield
    finally:
        gate.go_on.set()


def fresh(app: App, at: AppTest, page: str) -> AppTest:
    """Open the page again as a tab without loaded answers."""
    visit = at.session_state["lastro_session"]
    visit.release()
    visit.begin()
    return go(at, page)
