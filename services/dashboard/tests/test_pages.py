"""Every page as a visitor sees it, with a real MLflow."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import (
    BEARER,
    Airflow,
    Gate,
    MLflow,
    ModelApi,
    World,
    alias,
    go,
    held,
    log_predictions,
    press,
    shown,
    wines,
)
from streamlit.testing.v1 import AppTest

from dashboard import tracking

App = Callable[..., AppTest]


def test_overview_shows_the_serving_version_its_engine_and_metrics(
    app: App, world: World, serving: ModelApi
) -> None:
    at = app(world.alice)
    text = shown(at)
    for part in ("champion", "serves v1", "onnx, compiled", "**0.91**"):
        assert part in text
    assert "polled MLflow 0 s ago" in text
    assert list(at.dataframe[0].value["Run"]) == ["broken", "large-forest", "small-forest"]


def test_overview_shows_the_health_of_every_service(
    app: App, world: World, serving: ModelApi, airflow: Airflow, log: Path
) -> None:
    now = datetime.now(UTC)
    log_predictions(log, "wine-classifier", "1", now, wines(3))
    airflow.health["triggerer"] = {"status": "unhealthy"}
    text = shown(app(world.alice))
    assert "1 model, 1 experiment" in text and "**Unhealthy**" in text
    assert ":red[●]&nbsp;triggerer" in text and ":green[●]&nbsp;dag&nbsp;processor" in text
    assert "**Readable**" in text and f"newest {now:%d %b}" in text


def test_overview_names_the_missing_settings(app: App, world: World, serving: ModelApi) -> None:
    text = shown(app(world.alice))
    assert "AIRFLOW_API_URL is not set" in text
    assert "DASHBOARD_PREDICTION_LOG_URL is not set" in text


def test_overview_shows_each_host_of_the_model_api(
    app: App, world: World, serving: ModelApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_API_HOSTS", f"{serving.url} http://127.0.0.1:9")
    serving.polled_at = datetime.now(UTC) - timedelta(minutes=5)
    text = shown(app(world.alice))
    assert "has not polled MLflow for 30" in text
    assert "Model API 127.0.0.1:9" in text and "The model API cannot be reached" in text


def test_a_failed_load_is_shown_at_the_top(app: App, world: World, serving: ModelApi) -> None:
    reason = "it fails on its own input example"
    serving.models[0]["aliases"]["champion"] = alias("1", "2", reason)
    at = app(world.alice)
    for page in (at, go(at, "models")):
        assert "champion points to version 2, which could not be loaded" in page.error[0].value
        assert reason in page.error[0].value and "Version 1 still serves" in page.error[0].value


def test_a_first_version_that_failed_to_load_is_not_shown_as_serving(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.models[0] |= {"aliases": {"champion": alias(None, "1", "no example")}, "versions": {}}
    at = app(world.alice)
    assert "does not serve" in shown(at) and "No version serves" in shown(at)
    assert "no version serves" in shown(go(at, "models"))
    assert "No model serves yet" in shown(go(at, "try_it"))


def test_overview_says_that_the_api_cannot_poll_mlflow(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.registry_error = "MLflow answered 401"
    text = shown(app(world.alice))
    assert "cannot poll MLflow right now" in text and "answered 401" not in text


def test_an_empty_overview_says_what_to_do(app: App, world: World) -> None:
    text = shown(app(world.carol))
    assert "No registered models yet" in text and "No runs yet" in text
    assert "Trigger the `wine` DAG" in text


def test_experiments_lists_runs_with_metrics_and_params(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments")
    table = at.dataframe[0].value.set_index("run")
    assert table.loc["large-forest", "metrics.accuracy"] == pytest.approx(0.97)
    assert table.loc["large-forest", "params.trees"] == "200"
    assert table.loc["broken", "status"] == "Failed"
    assert table.loc["small-forest", "seconds"] == pytest.approx(12.5)
    run = world.runs["large-forest"]
    assert table.loc["large-forest", "link"].startswith("https://mlflow.example.com/#/experiments/")
    assert table.loc["large-forest", "link"].endswith(run)


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("run_name", "FOREST", ["large-forest", "small-forest"]),
        ("run_query", "metrics.accuracy > 0.95", ["large-forest"]),
        ("run_query", "params.seed = '7'", ["broken"]),
        ("run_name", "%' or '", []),
    ],
)
def test_experiments_are_filtered(
    app: App, world: World, key: str, value: str, left: list[str]
) -> None:
    at = go(app(world.alice), "experiments")
    at = at.text_input(key=key).set_value(value).run()
    assert [name for table in at.dataframe for name in table.value["run"]] == left


def test_a_bad_search_is_explained(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments").text_input(key="run_query").set_value("nonsense").run()
    assert "MLflow cannot parse this search" in at.error[0].value
    assert "Invalid" in at.error[0].value and not at.exception


def test_experiments_says_that_no_run_matches(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments").text_input(key="run_name").set_value("zzz").run()
    assert "No run matches" in shown(at)


def test_a_visitor_without_experiments_is_told_what_to_do(app: App, world: World) -> None:
    assert "ask an MLflow admin" in shown(go(app(world.carol), "experiments"))


def test_experiments_filters_by_status_and_orders_by_a_metric(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments")
    at = at.selectbox(key="run_status").select("FINISHED").run()
    at = at.selectbox(key="run_order").select("metrics.`accuracy` ASC").run()
    assert list(at.dataframe[0].value["run"]) == ["small-forest", "large-forest"]


def test_experiments_reads_page_by_page(
    app: App, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.Tracking.runs, "__defaults__", ("", tracking.NEWEST, None, 2))
    at = go(app(world.alice), "experiments")
    assert list(at.dataframe[0].value["run"]) == ["broken", "large-forest"]
    assert "2, more on the next page" in shown(at) and at.button(key="runs_previous").disabled
    at = at.button(key="runs_next").click().run()
    assert list(at.dataframe[0].value["run"]) == ["small-forest"]
    assert at.button(key="runs_next").disabled
    at = at.button(key="runs_previous").click().run()
    assert list(at.dataframe[0].value["run"]) == ["broken", "large-forest"]


def test_selected_runs_are_compared(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments")
    assert "Tick runs in the table" in shown(at)
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [1, 2], "columns": []}}
    at = at.run()
    assert at.multiselect(key="compared_metrics").value == ["accuracy", "loss"]
    assert '"facet"' in spec(at)
    at = compare_by(at, "Parameters")
    params = at.dataframe[1].value
    assert list(params.columns) == ["large-forest", "small-forest"]
    assert list(params.loc["trees"]) == ["200", "20"]
    assert "1 of 1 parameters differ" in shown(at)
    assert "chosen" in spec(compare_by(at, "Scatter plot"))
    at = compare_by(at, "Learning curves")
    assert at.selectbox(key="curve_metric").options == ["loss"] and '"line"' in spec(at)


def test_runs_are_drawn_in_parallel_coordinates(app: App, world: World) -> None:
    at = compare_by(go(app(world.alice), "experiments"), "Parallel coordinates")
    assert at.multiselect(key="parallel_axes").value == [
        "params.trees",
        "metrics.accuracy",
        "metrics.loss",
    ]
    assert "pointerover" in spec(at)
    assert "2 of 3 runs on this page of the table have a value on every axis" in shown(at)
    at = at.multiselect(key="parallel_axes").set_value(["params.seed", "metrics.loss"]).run()
    assert "No run has a value on every axis" in shown(at) and not at.exception


def compare_by(at: AppTest, view: str) -> AppTest:
    """Open a tab of the comparison."""
    at.session_state["experiments_view"] = view
    at = at.run()
    assert not at.exception
    return at


def spec(at: AppTest) -> str:
    """The Vega-Lite specification of the only chart."""
    (chart,) = at.get("vega_lite_chart")
    return chart.proto.spec


def test_filters_stay_when_the_visitor_returns_to_the_page(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments").text_input(key="run_name").set_value("large").run()
    at = go(go(at, "models"), "experiments")
    assert list(at.dataframe[0].value["run"]) == ["large-forest"]


def test_models_lists_versions_and_marks_the_serving_one(
    app: App, world: World, serving: ModelApi
) -> None:
    at = go(app(world.alice), "models")
    table = at.dataframe[0].value.set_index("version")
    assert list(table.index) == [2, 1]
    assert list(table.loc[1, "aliases"]) == ["champion"] and table.loc[1, "serves"] == "● now"
    assert table.loc[2, "serves"] == "" and table.loc[2, "run"] == "large-forest"
    assert table.loc[2, "dataset"] == "cafe"
    assert table.loc[2, "metrics.accuracy"] == pytest.approx(0.97)
    assert "serves v1" in shown(at) and "answers as scikit-learn does" in shown(at)


def test_models_shows_a_version_that_is_being_loaded(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.models[0]["aliases"]["champion"] = alias("1", "2")
    assert "Version 2 is being loaded" in shown(go(app(world.alice), "models"))


def test_a_visitor_without_models_is_told_what_to_do(app: App, world: World) -> None:
    assert "No registered models yet" in shown(go(app(world.carol), "models"))


def test_the_form_follows_the_signature_and_predicts(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.answer = (200, prediction(world, probabilities=[{"barolo": 0.75, "grignolino": 0.25}]))
    at = go(app(world.alice), "try_it")
    asked = {field.label.replace("\\", ""): field.value for field in at.text_input}
    assert asked["alcohol"] == "14.23" and asked["bottles"] == "3"
    assert {"note (optional)", "bottled (optional)"} <= set(asked)
    assert at.selectbox[1].options == ["(no value)", "red", "white"]
    at.text_input[0].set_value("12.5")
    at.selectbox[1].select("white")
    at = press(at, "Predict")
    row = {"alcohol": 12.5, "bottles": 3, "colour": "white"}
    assert serving.sent == [
        {
            "path": "/models/wine-classifier/predict?probabilities=true",
            "body": {"inputs": [row]},
        }
    ]
    text = shown(at)
    assert "Prediction: barolo" in text and "champion, version 1" in text
    assert f"run {world.runs['small-forest'][:8]}" in text
    assert len(at.get("vega_lite_chart")) == 1


def test_the_shell_command_sends_the_same_request(
    app: App, world: World, serving: ModelApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.models[0]["versions"]["1"]["example"] = [{"alcohol": 1.5, "note": "it's"}]
    (command,) = (code.value for code in go(app(world.alice), "try_it").code)
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:2] == ["curl", f"{serving.url}/models/wine-classifier/predict"]
    assert json.loads(words[-1]) == {"inputs": [{"alcohol": 1.5, "note": "it's"}]}
    assert BEARER not in command and "Bearer $MODEL_API_KEY" in command


def test_champion_and_challenger_answer_side_by_side(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.models[0]["aliases"]["challenger"] = alias("2")
    serving.models[0]["versions"]["2"] = held("wine-classifier", "2", "c" * 32)
    serving.answer = (200, prediction(world))
    theirs = {"version": "2", "alias": "challenger", "run_id": "c" * 32}
    serving.answers["challenger"] = (200, {"predictions": ["dolcetto"], "model": theirs})
    at = go(app(world.alice), "try_it")
    at = at.button_group[0].set_value(["champion", "challenger"]).run()
    text = shown(press(at, "Predict"))
    assert "Prediction: barolo" in text and "Prediction: dolcetto" in text
    assert serving.sent[-1]["path"].startswith("/models/wine-classifier/aliases/challenger/predict")


def test_the_inputs_of_a_tensor_model_are_entered_as_json(
    app: App, world: World, serving: ModelApi
) -> None:
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]
    serving.models[0]["versions"]["1"] |= {
        "signature": {"inputs": tensor, "outputs": None, "params": None},
        "example": [[1.0, 2.0]],
    }
    serving.answer = (200, prediction(world))
    at = go(app(world.alice), "try_it")
    at = press(at, "Predict")
    assert serving.sent[-1]["body"] == {"inputs": [[1.0, 2.0]]}
    at.text_area[0].set_value("[[1,")
    assert "This is not JSON" in shown(press(at, "Predict"))
    assert len(serving.sent) == 1


def test_a_model_without_probabilities_predicts(app: App, world: World, serving: ModelApi) -> None:
    serving.answer = (200, prediction(world))
    serving.refusal_of_probabilities = (422, {"type": "urn:model-api:no-probabilities"})
    at = press(go(app(world.alice), "try_it"), "Predict")
    assert "Prediction: barolo" in shown(at) and not at.get("vega_lite_chart")


def test_the_api_s_error_is_shown_at_the_field(app: App, world: World, serving: ModelApi) -> None:
    serving.answer = (
        422,
        {
            "type": "urn:model-api:invalid-rows",
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "1 value(s) do not fit the inputs of 'wine-classifier'",
            "errors": [{"row": 0, "field": "alcohol", "detail": "must be finite"}],
        },
    )
    at = press(go(app(world.alice), "try_it"), "Predict")
    text = shown(at)
    assert "No prediction" in text
    assert "- 1 value(s) do not fit the inputs of 'wine-classifier'" in text
    assert "- alcohol: must be finite" in text
    assert ":red[:material/error: must be finite]" in text


def test_a_missing_required_value_is_reported_without_a_request(
    app: App, world: World, serving: ModelApi
) -> None:
    """Bob's model has no example, so its form starts empty."""
    at = press(go(app(world.bob), "try_it"), "Predict")
    assert shown(at).count("Enter a value: this model requires it.") == 2
    assert serving.sent == []


def prediction(world: World, **more: object) -> dict[str, object]:
    """The model API's answer for one row."""
    model = {"name": "wine-classifier", "version": "1", "alias": "champion"}
    run = {"run_id": world.runs["small-forest"]}
    return {"predictions": ["barolo"], "model": model | run, **more}


def test_try_it_without_a_serving_model_says_what_to_do(
    app: App, world: World, model_api: ModelApi
) -> None:
    assert "No model serves yet" in shown(go(app(world.alice), "try_it"))


@pytest.mark.parametrize("page", ["overview", "experiments", "models", "try_it", "drift"])
def test_visitors_never_see_data_that_mlflow_hides_from_them(
    app: App, world: World, serving: ModelApi, log: Path, page: str
) -> None:
    """Two visitors take turns in one process: each sees only their own work."""
    hers, his = go(app(world.alice), page), go(app(world.bob), page)
    for _ in range(2):
        hers, his = hers.run(), his.run()
        assert "bob" not in shown(hers) and "wine-classifier" not in shown(his)
        assert "small-forest" not in shown(his)
    assert "bob" in shown(his)


@pytest.mark.parametrize("page", ["overview", "experiments", "models"])
def test_loaded_data_stay_while_mlflow_is_unavailable(
    app: App, world: World, serving: ModelApi, gate: Gate, page: str
) -> None:
    at = go(app(world.alice), page)
    before = at.dataframe[0].value
    gate.open = False
    at = at.button(key="refresh").click().run()
    assert "MLflow is unavailable" in at.warning[0].value
    assert "Showing data loaded at" in shown(at)
    assert len(at.dataframe[0].value) == len(before) and not at.exception
    asked = gate.seen
    at.run()
    assert gate.seen == asked, "an unavailable service is called again immediately"
    gate.open = True
    assert not at.button(key="refresh").click().run().warning


def test_a_page_that_was_never_loaded_says_that_mlflow_is_unavailable(
    app: App, world: World, gate: Gate
) -> None:
    at = app(world.alice)
    gate.open = False
    at = go(at.button(key="refresh").click().run(), "models")
    assert not at.exception
    assert "MLflow is unavailable" in shown(at) and "Signed in as" in shown(at)


def test_the_pages_are_usable_while_the_model_api_is_unavailable(
    app: App, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_API_URL", "http://127.0.0.1:9")
    at = app(world.alice)
    assert "The serving versions are unknown right now" in shown(at) and "**Unavailable**" in shown(
        at
    )
    assert "wine-classifier" in shown(at)
    assert len(go(at, "models").dataframe[0].value) == 2
    assert "The model API cannot be reached" in shown(go(at, "try_it"))


def test_a_wrong_bearer_key_is_reported(
    app: App, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "wrong")
    at = go(app(world.alice), "try_it")
    assert "set MODEL_API_KEY to" in shown(at) and "wrong" not in shown(at)


def test_overview_shows_that_the_api_is_not_ready(
    app: App, world: World, model_api: ModelApi
) -> None:
    model_api.ready = False
    assert "**Not ready**" in shown(app(world.alice))


def test_markdown_in_names_is_not_rendered(app: App, mlflow: MLflow) -> None:
    eve = mlflow.create_user("eve")
    run = mlflow.create_run(eve, mlflow.create_experiment(eve, "e"), "r", {"m": [1.0]})
    mlflow.create_model(eve, "![x](evil.example)", [run])
    at = app(eve)
    assert all("![x](" not in element.value for element in at.markdown)
