"""The page Drift: the verdict on all columns, the table, the plots, and the compared data."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Gate, MLflow, ModelApi, World, go, log_predictions, shown, wines
from streamlit.testing.v1 import AppTest

from dashboard import drift

App = Callable[..., AppTest]

MODEL = "wine-classifier"


def parquet(rows: pd.DataFrame) -> bytes:
    """A Parquet file of these rows."""
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


@pytest.fixture
def reference(mlflow: MLflow, world: World, serving: ModelApi) -> str:
    """A run of alice with a logged reference; the serving version comes from it."""
    experiment = mlflow.call(
        world.alice, "GET", "experiments/get-by-name", params={"experiment_name": "wine"}
    )["experiment"]["experiment_id"]
    run = mlflow.create_run(world.alice, experiment, "with-reference", {}, start=-1)
    path = "reference/reference.parquet"
    mlflow.log_artifact(world.alice, run, path, parquet(wines(800, seed=1)))
    serving.models[0]["versions"]["1"]["run_id"] = run
    yield run
    mlflow.call(world.alice, "POST", "runs/delete", json={"run_id": run})


def verdicts(at: AppTest) -> dict[str, str]:
    """Feature -> verdict, as the page's table shows them."""
    table = at.dataframe[0].value
    return {row.feature: row.verdict.split(" ", 1)[1] for row in table.itertuples()}


def test_only_the_column_that_changed_has_drifted(
    app: App, world: World, reference: str, log: Path
) -> None:
    now = datetime.now(UTC) - timedelta(minutes=5)
    log_predictions(log, MODEL, "1", now, wines(400, alcohol=14.0, seed=2), files=3)
    at = go(app(world.alice), "drift")
    assert not at.exception
    assert verdicts(at) == {"alcohol": "drifted", "colour": "stable", "prediction": "stable"}
    table = at.dataframe[0].value.set_index("feature")
    assert table.loc["alcohol", "why"].startswith("PSI 1.")
    assert (table.loc["alcohol", "reference"], table.loc["alcohol", "recent"]) == (800, 400)
    assert table.loc["alcohol", "p"] == "< 0.0001"
    assert "1 of 3 columns drifted:** alcohol" in at.warning[0].value
    # One plot over time and one per column.
    assert len(at.get("vega_lite_chart")) == 4 and "400 logged rows" in shown(at)
    assert "predictions are compared with those on the training rows" in shown(at)


def test_the_page_reports_no_drift_in_unchanged_data(
    app: App, world: World, reference: str, log: Path
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(400, seed=3))
    at = go(app(world.alice), "drift")
    assert set(verdicts(at).values()) == {"stable"}
    assert "No drift** in 3 columns" in at.success[0].value


def test_the_window_selects_the_compared_predictions(
    app: App, world: World, reference: str, log: Path
) -> None:
    now = datetime.now(UTC)
    log_predictions(log, MODEL, "1", now - timedelta(minutes=5), wines(250, seed=4))
    log_predictions(log, MODEL, "1", now - timedelta(days=2), wines(400, 16.0, red=0.1, seed=5))
    at = go(app(world.alice), "drift")
    assert set(verdicts(at).values()) == {"stable"}
    at = at.button_group(key="drift_window").set_value("Last week").run()
    assert verdicts(at)["alcohol"] == verdicts(at)["colour"] == "drifted"
    at = at.button_group(key="drift_window").set_value("Custom").run()
    day = (now - timedelta(days=2)).date()
    at = at.date_input(key="drift_days").set_value((day, day)).run()
    assert "400 logged rows" in shown(at)


def test_an_earlier_window_replaces_a_missing_reference(
    app: App, world: World, serving: ModelApi, log: Path
) -> None:
    now = datetime.now(UTC)
    log_predictions(log, MODEL, "1", now - timedelta(minutes=5), wines(250, seed=8))
    at = go(app(world.alice), "drift")
    assert "compared with its own earlier predictions" in at.info[0].value
    assert "Its run logged no reference data" in shown(at)
    assert "Not tested: no earlier predictions" in shown(at)
    log_predictions(log, MODEL, "1", now - timedelta(hours=30), wines(250, red=0.05, seed=9))
    at = at.button(key="refresh").click().run()
    assert verdicts(at)["colour"] == "drifted" and verdicts(at)["alcohol"] == "stable"


def test_too_few_predictions_are_not_tested_and_never_green(
    app: App, world: World, reference: str, log: Path
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(25))
    at = go(app(world.alice), "drift")
    assert set(verdicts(at).values()) == {"not tested"} and not at.success
    text = shown(at)
    assert "None of 3 columns could be tested" in text
    assert "Too few rows: 25 recent with a value; at least" in text
    assert "every part of this window has too few rows" in text


def test_rows_of_few_requests_are_not_tested(
    app: App, world: World, reference: str, log: Path
) -> None:
    now = datetime.now(UTC) - timedelta(minutes=5)
    log_predictions(log, MODEL, "1", now, wines(2000, 14.0), rows_per_request=500)
    at = go(app(world.alice), "drift")
    assert set(verdicts(at).values()) == {"not tested"}
    text = shown(at)
    assert "2,000 logged rows of 4 requests" in text and "worth 4 independent rows" in text


def test_the_page_says_that_a_window_has_no_predictions(
    app: App, world: World, serving: ModelApi, log: Path
) -> None:
    assert "No predictions in this window" in shown(go(app(world.alice), "drift"))


def test_drift_over_time_shows_the_check_that_raised_the_alarm(
    app: App, world: World, reference: str, log: Path
) -> None:
    now = datetime.now(UTC)
    for day in range(3):
        rows = wines(400, seed=20 + day)
        if day == 0:
            rows.loc[rows.index % 2 == 0, "alcohol"] = np.nan
        log_predictions(log, MODEL, "1", now - timedelta(days=day, minutes=5), rows)
    at = go(app(world.alice), "drift")
    at = at.button_group(key="drift_window").set_value("Last week").run()
    assert at.selectbox(key=f"drift_column_{MODEL}").value == "alcohol"
    (view,) = [group for group in at.button_group if group.label == "Shown"]
    assert view.value == "missing"
    drawn = next(iter(at.get("vega_lite_chart")))
    spec = json.loads(drawn.proto.spec)
    assert "Missing" in json.dumps(spec)
    assert "Each point compares a day with the training data" in shown(at)


# ---- the verdict on all columns -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("drifted", "stable", "untested", "color"),
    [
        (1, 5, 0, "warning"),
        (1, 0, 9, "warning"),
        (0, 3, 0, "success"),
        (0, 3, 1, "info"),
        (0, 1, 1, "not tested"),
        (0, 1, 9, "not tested"),
        (0, 0, 3, "not tested"),
    ],
)
def test_the_verdict_is_green_only_if_every_column_was_tested(
    drifted: int, stable: int, untested: int, color: str
) -> None:
    draw = np.random.default_rng(0)
    rows = 300
    before, after = {}, {}
    for i in range(drifted):
        before[f"d{i}"], after[f"d{i}"] = draw.normal(size=rows), draw.normal(9, 1, rows)
    for i in range(stable):
        before[f"s{i}"], after[f"s{i}"] = draw.normal(size=rows), draw.normal(size=rows)
    for i in range(untested):
        before[f"u{i}"] = after[f"u{i}"] = [None] * rows
    features = drift.compare(pd.DataFrame(before), pd.DataFrame(after))

    def script(features: list) -> None:
        from dashboard.views import drift as page

        page._verdict(features)

    at = AppTest.from_function(script, default_timeout=120, kwargs={"features": features}).run()
    assert not at.exception
    boxes = {name: len(at.get(name)) for name in ("success", "info", "warning", "error")}
    assert {name for name, count in boxes.items() if count} == {color} - {"not tested"}
    text = shown(at)
    assert (f"{untested} of" in text or "None of" in text) == (color == "not tested")
    assert ("not tested" in text.lower()) == (untested > 0)


# ---- services that are unavailable --------------------------------------------------------------


def test_the_page_names_the_missing_setting(app: App, world: World, serving: ModelApi) -> None:
    text = shown(go(app(world.alice), "drift"))
    assert "`DASHBOARD_PREDICTION_LOG_URL`" in text


def test_kept_rows_stay_while_the_log_cannot_be_read(
    app: App, world: World, reference: str, log: Path
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(250, seed=8))
    at = go(app(world.alice), "drift")
    before = verdicts(at)
    for file in log.rglob("*.parquet"):
        file.write_bytes(b"no Parquet")
    at = at.button(key="refresh").click().run()
    assert verdicts(at) == before and "Prediction log is unavailable" in at.warning[0].value
    text = shown(go(app(world.alice), "drift"))
    assert "predictions cannot be read" in text and "log has" not in text


def test_the_page_says_that_s3_is_unavailable(
    app: App, world: World, serving: ModelApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DASHBOARD_PREDICTION_LOG_URL": "s3://bucket/predictions",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    at = go(app(world.alice), "drift")
    assert "s3://bucket/predictions cannot be read" in shown(at) and not at.exception
    assert "**Unavailable**" in shown(go(at, "overview"))


def test_the_reference_stays_while_mlflow_is_unavailable(
    app: App, world: World, reference: str, log: Path, gate: Gate
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(250, seed=9))
    at = go(app(world.alice), "drift")
    gate.open = False
    at = at.button(key="refresh").click().run()
    assert "MLflow is unavailable" in at.warning[0].value and len(verdicts(at)) == 3
