"""The page Pipelines: Airflow's DAG runs and their tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Airflow, World, go, shown
from streamlit.testing.v1 import AppTest

App = Callable[..., AppTest]


def dag_run(dag: str, run: str, state: str, minute: int, **more: object) -> dict[str, object]:
    """A DAG run as Airflow's API returns it."""
    return {
        "dag_id": dag,
        "dag_run_id": run,
        "state": state,
        "run_type": "manual",
        "start_date": f"2026-09-01T10:{minute:02}:00.000000Z",
        "end_date": f"2026-09-01T10:{minute:02}:42.500000Z",
        "triggering_user_name": "alice",
        **more,
    }


def task(name: str, state: str | None, second: int | None, **more: object) -> dict[str, object]:
    """A task instance as Airflow's API returns it."""
    start = None if second is None else f"2026-09-01T10:00:{second:02}Z"
    end = None if second is None else f"2026-09-01T10:00:{second + 2:02}Z"
    return {
        "task_id": name,
        "map_index": -1,
        "rendered_map_index": None,
        "state": state,
        "start_date": start,
        "end_date": end,
        "try_number": 1,
        **more,
    }


@pytest.fixture
def runs(airflow: Airflow) -> Airflow:
    """Runs of two DAGs; the newest has failed."""
    airflow.runs = [
        dag_run("wine", "manual__2", "failed", 30),
        dag_run("score", "scheduled__1", "success", 20, run_type="scheduled"),
        dag_run("wine", "manual__1", "success", 10),
    ]
    airflow.tasks = {
        "manual__2": [
            task("register_and_promote", "upstream_failed", None),
            task("train", "failed", 10, map_index=1, rendered_map_index="forest"),
            task("validate", "success", 1),
        ],
        "scheduled__1": [task("score", "success", 3)],
        "manual__1": [task("validate", "success", 2)],
    }
    return airflow


def test_runs_and_the_newest_run_s_tasks_are_shown(app: App, world: World, runs: Airflow) -> None:
    at = go(app(world.alice), "pipelines")
    table = at.dataframe[0].value
    assert list(table["Run"]) == ["manual__2", "scheduled__1", "manual__1"]
    assert table["state"].iloc[0] == "✖ Failed" and table["Duration"].iloc[0] == "42.5 s"
    assert table["link"].iloc[0] == "https://airflow.example.com/dags/wine/runs/manual__2"
    tasks = at.dataframe[1].value
    assert list(tasks["Task"]) == ["validate", "train [forest]", "register_and_promote"]
    assert list(tasks["State"]) == ["✔ Success", "✖ Failed", "✖ Upstream failed"]
    assert len(at.get("vega_lite_chart")) == 2 and not at.exception


def test_a_ticked_run_shows_its_own_tasks(app: App, world: World, runs: Airflow) -> None:
    at = go(app(world.alice), "pipelines")
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [1], "columns": []}}
    at = at.run()
    assert "Tasks of score" in shown(at) and list(at.dataframe[1].value["Task"]) == ["score"]


def test_runs_are_filtered(app: App, world: World, runs: Airflow) -> None:
    at = go(app(world.alice), "pipelines").selectbox(key="dag").select("wine").run()
    assert list(at.dataframe[0].value["Run"]) == ["manual__2", "manual__1"]
    at = at.button_group[0].set_value(["success"]).run()
    assert list(at.dataframe[0].value["Run"]) == ["manual__1"]


def test_an_expired_token_is_renewed(app: App, world: World, runs: Airflow) -> None:
    at = go(app(world.alice), "pipelines")
    assert len(runs.tokens) == 1
    runs.tokens[0] = "expired"
    at = at.button(key="refresh").click().run()
    assert len(at.dataframe[0].value) == 3 and len(runs.tokens) == 2


def test_loaded_runs_stay_while_airflow_is_unavailable(
    app: App, world: World, runs: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = go(app(world.alice), "pipelines")
    at.session_state["lastro_session"].airflow._http.base_url = "http://127.0.0.1:9"
    at = at.button(key="refresh").click().run()
    assert "Airflow is unavailable" in at.warning[0].value and len(at.dataframe[0].value) == 3
    monkeypatch.setenv("AIRFLOW_API_URL", "http://127.0.0.1:9")
    at = go(app(world.alice), "pipelines")
    assert "Airflow cannot be reached" in shown(at) and not at.exception
    assert "**Unavailable**" in shown(go(at, "overview"))


def test_a_wrong_login_is_reported_without_its_password(
    app: App, world: World, runs: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", "not-the-one")
    text = shown(go(app(world.alice), "pipelines"))
    assert "check AIRFLOW_API_USERNAME" in text and "not-the-one" not in text


def test_the_page_names_the_missing_settings(app: App, world: World) -> None:
    text = shown(go(app(world.alice), "pipelines"))
    assert "`AIRFLOW_API_URL` and `AIRFLOW_API_USERNAME` and `AIRFLOW_API_PASSWORD`" in text


def test_pipelines_without_runs_says_what_to_do(app: App, world: World, airflow: Airflow) -> None:
    assert "No pipeline has run yet" in shown(go(app(world.alice), "pipelines"))
