"""Every page, against a real MLflow, as a visitor sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conftest import Gate, MLflow, ModelApi, go, shown
from streamlit.testing.v1 import AppTest

App = Callable[..., AppTest]
Login = tuple[str, str]


@dataclass(frozen=True)
class World:
    """Two users with work of their own, and one with none."""

    alice: Login
    bob: Login
    carol: Login
    runs: dict[str, str]


@pytest.fixture(scope="session")
def world(mlflow: MLflow) -> World:
    alice, bob, carol = (mlflow.create_user(name) for name in ("alice", "bob", "carol"))
    wine = mlflow.create_experiment(alice, "wine")
    runs = {
        name: mlflow.create_run(alice, wine, name, metrics, params, start, status)
        for start, (name, metrics, params, status) in enumerate(
            [
                (
                    "small-forest",
                    {"accuracy": [0.91], "loss": [0.4, 0.3, 0.2]},
                    {"trees": "20"},
                    "FINISHED",
                ),
                (
                    "large-forest",
                    {"accuracy": [0.97], "loss": [0.3, 0.2, 0.1]},
                    {"trees": "200"},
                    "FINISHED",
                ),
                ("broken", {}, {"trees": "-1", "seed": "7"}, "FAILED"),
            ]
        )
    }
    mlflow.create_model(
        alice,
        "wine-classifier",
        [runs["small-forest"], runs["large-forest"]],
        example={"alcohol": 14.23, "bottles": 3, "note": None},
    )
    mlflow.set_alias(alice, "wine-classifier", "champion", "1")
    study = mlflow.create_experiment(bob, "bobs-study")
    mine = mlflow.create_run(bob, study, "bobs-run", {"r2": [0.5]})
    mlflow.create_model(bob, "bobs-model", [mine])
    return World(alice, bob, carol, runs)


@pytest.fixture
def serving(world: World, model_api: ModelApi) -> ModelApi:
    """The model API with one model of alice's and one of bob's."""
    columns = [
        {"name": "alcohol", "type": "double", "required": True},
        {"name": "bottles", "type": "long", "required": True},
        {"name": "note", "type": "string", "required": False},
    ]
    common = {
        "version": "1",
        "since": "2026-09-01T10:00:00+00:00",
        "wanted_version": "1",
        "last_error": None,
        "signature": columns,
    }
    model_api.models = [
        {
            **common,
            "name": "wine-classifier",
            "run_id": world.runs["small-forest"],
        },
        {**common, "name": "bobs-model", "run_id": "b" * 32},
    ]
    return model_api


def test_overview_tells_what_serves_and_its_metrics(
    app: App, world: World, serving: ModelApi
) -> None:
    at = app(world.alice)
    text = shown(at)
    assert {m.label: m.value for m in at.metric} == {
        "Registered models": "1",
        "Serving now": "1",
        "MLflow": "Healthy",
        "Model API": "Ready",
    }
    assert "serves v1" in text and "champion → v1" in text and "**0.91**" in text
    assert list(at.dataframe[0].value["Run"]) == ["broken", "large-forest", "small-forest"]


def test_overview_tells_of_a_failed_load(app: App, world: World, serving: ModelApi) -> None:
    failure = {"version": "2", "reason": "it fails on its own input example"}
    serving.models[0] |= {"wanted_version": "2", "last_error": failure}
    at = app(world.alice)
    assert "version 2: it fails on its own input example" in shown(at)
    assert "Version 1 goes on serving" in shown(at) and "1 failed to load" in shown(at)
    assert "it fails on its own input example" in shown(go(at, "models"))


def test_a_first_version_that_failed_to_load_is_not_said_to_serve(
    app: App, world: World, serving: ModelApi
) -> None:
    none = dict.fromkeys(("version", "run_id", "since", "signature"))
    serving.models[0] |= none | {"last_error": {"version": "1", "reason": "no example"}}
    at = app(world.alice)
    assert "does not serve" in shown(at) and "None serves" in shown(at)
    assert "No version serves" in shown(go(at, "models"))
    assert "No model serves yet" in shown(go(at, "try_it"))


def test_overview_tells_when_the_api_cannot_follow_mlflow(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.registry_error = "MLflow answered 401"
    text = shown(app(world.alice))
    assert "cannot follow MLflow right now" in text and "answered 401" not in text


def test_overview_without_anything_says_what_to_do(app: App, world: World) -> None:
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
    ],
)
def test_experiments_filters(app: App, world: World, key: str, value: str, left: list[str]) -> None:
    at = go(app(world.alice), "experiments")
    at = at.text_input(key=key).set_value(value).run()
    assert list(at.dataframe[0].value["run"]) == left


def test_experiments_explains_a_bad_search(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments").text_input(key="run_query").set_value("nonsense").run()
    assert "MLflow cannot read this search" in at.error[0].value
    assert "Invalid" in at.error[0].value and not at.exception


def test_experiments_says_when_no_run_matches(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments").text_input(key="run_name").set_value("zzz").run()
    assert "No run matches" in shown(at)


def test_experiments_without_any_says_what_to_do(app: App, world: World) -> None:
    assert "ask an MLflow admin" in shown(go(app(world.carol), "experiments"))


def test_selected_runs_are_compared(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments")
    assert "Tick runs in the table" in shown(at)
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [1, 2], "columns": []}}
    at = at.run()
    params = at.dataframe[1].value
    assert list(params.columns) == ["large-forest", "small-forest"]
    assert list(params.loc["trees"]) == ["200", "20"]
    assert at.multiselect(key="compared_metrics").value == ["accuracy", "loss"]
    assert at.selectbox(key="curve_metric").options == ["loss"]
    bars, scatter, curves = (chart.proto.spec for chart in at.get("vega_lite_chart"))
    assert '"facet"' in bars and "chosen" in scatter and '"line"' in curves
    assert not at.exception


def test_filters_stay_when_the_visitor_comes_back(app: App, world: World) -> None:
    at = go(app(world.alice), "experiments").text_input(key="run_name").set_value("large").run()
    at = go(go(at, "models"), "experiments")
    assert list(at.dataframe[0].value["run"]) == ["large-forest"]


def test_models_lists_versions_with_what_serves(app: App, world: World, serving: ModelApi) -> None:
    at = go(app(world.alice), "models")
    table = at.dataframe[0].value.set_index("version")
    assert list(table.index) == [2, 1]
    assert list(table.loc[1, "aliases"]) == ["champion"] and table.loc[1, "serves"] == "● now"
    assert table.loc[2, "serves"] == "" and table.loc[2, "run"] == "large-forest"
    assert table.loc[2, "metrics.accuracy"] == pytest.approx(0.97)
    assert "Serves: Version 1" in shown(at)


def test_models_tells_of_a_version_on_its_way(app: App, world: World, serving: ModelApi) -> None:
    serving.models[0]["wanted_version"] = "2"
    assert "points at version 2: it is being loaded" in shown(go(app(world.alice), "models"))


def test_models_without_any_says_what_to_do(app: App, world: World) -> None:
    assert "No registered models yet" in shown(go(app(world.carol), "models"))


def test_the_form_comes_from_the_signature_and_predicts(
    app: App, world: World, serving: ModelApi
) -> None:
    serving.answer = (200, prediction(world, probabilities=[{"barolo": 0.75, "grignolino": 0.25}]))
    at = go(app(world.alice), "try_it")
    assert [(f.label, f.value) for f in at.number_input] == [("alcohol", 14.23), ("bottles", 3)]
    assert at.text_input[0].label.replace("\\", "") == "note (optional)"
    at.number_input[0].set_value(12.5)
    at = press(at, "Predict")
    assert serving.sent == [
        {
            "path": "/models/wine-classifier/predict?probabilities=true",
            "body": {"inputs": [{"alcohol": 12.5, "bottles": 3}]},
        }
    ]
    text = shown(at)
    assert "Prediction: barolo" in text and "Model version: 1" in text
    assert f"Run: {world.runs['small-forest'][:8]}" in text
    assert len(at.get("vega_lite_chart")) == 1


def test_a_model_without_probabilities_predicts(app: App, world: World, serving: ModelApi) -> None:
    serving.answer = (200, prediction(world))
    serving.refusal_of_probabilities = (422, {"type": "urn:model-api:no-probabilities"})
    at = press(go(app(world.alice), "try_it"), "Predict")
    assert "Prediction: barolo" in shown(at) and not at.get("vega_lite_chart")


def test_the_api_s_refusal_is_shown_line_by_line(app: App, world: World, serving: ModelApi) -> None:
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
    text = shown(press(go(app(world.alice), "try_it"), "Predict"))
    assert "No prediction" in text
    assert "- 1 value(s) do not fit the inputs of 'wine-classifier'" in text
    assert "- alcohol: must be finite" in text


def test_a_missing_required_value_is_named_without_asking_the_api(
    app: App, world: World, serving: ModelApi
) -> None:
    """Bob's model was logged without an input example, so its form starts empty."""
    at = press(go(app(world.bob), "try_it"), "Predict")
    assert "alcohol is empty" in shown(at) and "bottles is empty" in shown(at)
    assert serving.sent == []


def prediction(world: World, **more: object) -> dict[str, object]:
    """The model API's answer for one row."""
    model = {"name": "wine-classifier", "version": "1", "alias": "champion"}
    run = {"run_id": world.runs["small-forest"]}
    return {"predictions": ["barolo"], "model": model | run, **more}


def test_nothing_to_try_says_what_to_do(app: App, world: World, model_api: ModelApi) -> None:
    assert "No model serves yet" in shown(go(app(world.alice), "try_it"))


@pytest.mark.parametrize("page", ["overview", "experiments", "models", "try_it"])
def test_visitors_never_see_what_mlflow_hides_from_them(
    app: App, world: World, serving: ModelApi, page: str
) -> None:
    """Two visitors take turns in one process: each sees their own work and nothing else."""
    hers, his = go(app(world.alice), page), go(app(world.bob), page)
    for _ in range(2):
        hers, his = hers.run(), his.run()
        assert "bob" not in shown(hers) and "wine-classifier" not in shown(his)
        assert "small-forest" not in shown(his)
    assert "bob" in shown(his)


@pytest.mark.parametrize("page", ["overview", "experiments", "models"])
def test_what_was_loaded_stays_while_mlflow_is_away(
    app: App, world: World, serving: ModelApi, gate: Gate, page: str
) -> None:
    at = go(app(world.alice), page)
    before = at.dataframe[0].value
    gate.open = False
    at = at.button(key="refresh").click().run()
    assert "MLflow is away" in at.warning[0].value and "Showing what was loaded at" in shown(at)
    assert len(at.dataframe[0].value) == len(before) and not at.exception
    asked = gate.seen
    at.run()
    assert gate.seen == asked, "a service that is away is not asked again at once"
    gate.open = True
    assert not at.button(key="refresh").click().run().warning


def test_a_page_never_loaded_says_that_mlflow_is_away(app: App, world: World, gate: Gate) -> None:
    at = app(world.alice)
    gate.open = False
    at = go(at.button(key="refresh").click().run(), "models")
    assert not at.exception
    assert "MLflow is away" in shown(at) and "Signed in as" in shown(at)


def test_model_api_away_leaves_the_rest_usable(
    app: App, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_API_URL", "http://127.0.0.1:9")
    at = app(world.alice)
    assert "What serves right now is unknown" in shown(at) and "Model API: Away" in shown(at)
    assert "wine-classifier" in shown(at)
    assert len(go(at, "models").dataframe[0].value) == 2
    assert "The model API cannot be reached" in shown(go(at, "try_it"))


def test_a_wrong_bearer_key_is_named(
    app: App, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "wrong")
    at = go(app(world.alice), "try_it")
    assert "MODEL_API_KEY differs" in shown(at) and "wrong" not in shown(at)


def test_api_that_is_not_ready_says_so(app: App, world: World, model_api: ModelApi) -> None:
    model_api.ready = False
    assert "Model API: Not ready" in shown(app(world.alice))


def test_markdown_in_names_stays_text(app: App, mlflow: MLflow) -> None:
    eve = mlflow.create_user("eve")
    run = mlflow.create_run(eve, mlflow.create_experiment(eve, "e"), "r", {"m": [1.0]})
    mlflow.create_model(eve, "![x](evil.example)", [run])
    at = app(eve)
    assert all("![x](" not in element.value for element in at.markdown)


def press(at: AppTest, label: str) -> AppTest:
    """Click the button with this label."""
    return next(button for button in at.button if button.label == label).click().run()
