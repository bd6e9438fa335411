"""Drift: a planted one is found, an absent one is not, and what is too little is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Gate, MLflow, ModelApi, World, go, log_predictions, shown, wines
from streamlit.testing.v1 import AppTest

from dashboard import drift, prediction_log
from dashboard.drift import Verdict
from dashboard.prediction_log import PredictionLog

App = Callable[..., AppTest]

MODEL = "wine-classifier"


def parquet(rows: pd.DataFrame) -> bytes:
    """A Parquet file of these rows."""
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


@pytest.fixture
def reference(mlflow: MLflow, world: World, serving: ModelApi) -> str:
    """A run of alice's that logged a reference; it made what serves."""
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


def test_a_planted_drift_is_found_and_only_that(
    app: App, world: World, reference: str, log: Path
) -> None:
    now = datetime.now(UTC) - timedelta(minutes=5)
    log_predictions(log, MODEL, "1", now, wines(400, alcohol=14.0, seed=2), files=3)
    at = go(app(world.alice), "drift")
    assert not at.exception
    assert verdicts(at) == {"alcohol": "large drift", "colour": "stable", "prediction": "stable"}
    table = at.dataframe[0].value.set_index("feature")
    assert table.loc["alcohol", "test"] == "Kolmogorov-Smirnov"
    assert table.loc["colour", "test"] == "chi-squared"
    assert (table.loc["alcohol", "reference"], table.loc["alcohol", "recent"]) == (800, 400)
    assert table.loc["alcohol", "adjusted"] >= table.loc["alcohol", "p"]
    assert "1 of 3 features drift:** alcohol" in at.warning[0].value
    assert len(at.get("vega_lite_chart")) == 3 and "400 logged rows" in shown(at)


def test_without_drift_the_page_says_so(app: App, world: World, reference: str, log: Path) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(400, seed=3))
    at = go(app(world.alice), "drift")
    assert set(verdicts(at).values()) == {"stable"}
    assert "No drift" in at.success[0].value


def test_the_window_chooses_what_is_compared(
    app: App, world: World, reference: str, log: Path
) -> None:
    now = datetime.now(UTC)
    log_predictions(log, MODEL, "1", now - timedelta(minutes=5), wines(250, seed=4))
    log_predictions(log, MODEL, "1", now - timedelta(days=2), wines(400, 16.0, red=0.1, seed=5))
    at = go(app(world.alice), "drift")
    assert set(verdicts(at).values()) == {"stable"}
    at = at.button_group[0].set_value("Last week").run()
    assert verdicts(at)["alcohol"] == verdicts(at)["colour"] == "large drift"
    at = at.button_group[0].set_value("Custom").run()
    day = (now - timedelta(days=2)).date()
    at = at.date_input(key="drift_days").set_value((day, day)).run()
    assert "400 logged rows" in shown(at)


def test_without_a_reference_an_earlier_window_stands_in(
    app: App, world: World, serving: ModelApi, log: Path
) -> None:
    now = datetime.now(UTC)
    log_predictions(log, MODEL, "1", now - timedelta(minutes=5), wines(250, seed=8))
    at = go(app(world.alice), "drift")
    assert "compared with its own earlier predictions" in at.info[0].value
    assert "its run logged no reference data" in shown(at)
    assert "Too few earlier predictions (0 of at least 200)" in shown(at)
    log_predictions(log, MODEL, "1", now - timedelta(hours=30), wines(250, red=0.05, seed=9))
    at = at.button(key="refresh").click().run()
    assert verdicts(at)["colour"] == "large drift" and verdicts(at)["alcohol"] == "stable"


def test_too_few_predictions_are_counted(
    app: App, world: World, serving: ModelApi, log: Path
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC), wines(42))
    assert "Too few predictions yet (42 of at least 200)" in shown(go(app(world.alice), "drift"))


def test_what_is_not_set_up_is_said(app: App, world: World, serving: ModelApi) -> None:
    text = shown(go(app(world.alice), "drift"))
    assert "`DASHBOARD_PREDICTION_LOG_URL`" in text


def test_an_unreadable_log_is_said_and_what_was_read_stays(
    app: App, world: World, reference: str, log: Path
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(250, seed=8))
    at = go(app(world.alice), "drift")
    before = verdicts(at)
    for file in log.rglob("*.parquet"):
        file.write_bytes(b"no Parquet")
    at = at.button(key="refresh").click().run()
    assert verdicts(at) == before and "Prediction log is away" in at.warning[0].value
    text = shown(go(app(world.alice), "drift"))
    assert "predictions cannot be read" in text and "log has" not in text


def test_s3_away_is_said(
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
    assert "**Away**" in shown(go(at, "overview"))


def test_mlflow_away_keeps_the_reference(
    app: App, world: World, reference: str, log: Path, gate: Gate
) -> None:
    log_predictions(log, MODEL, "1", datetime.now(UTC) - timedelta(minutes=5), wines(250, seed=9))
    at = go(app(world.alice), "drift")
    gate.open = False
    at = at.button(key="refresh").click().run()
    assert "MLflow is away" in at.warning[0].value and len(verdicts(at)) == 3


# ---- the statistics ---------------------------------------------------------------------------


def test_false_alarms_stay_rare_over_many_features() -> None:
    draw = np.random.default_rng(0)
    names = [f"x{i}" for i in range(200)]
    before = pd.DataFrame(draw.normal(size=(300, 200)), columns=names)
    after = pd.DataFrame(draw.normal(size=(300, 200)), columns=names)
    features = drift.compare(before, after)
    assert sum(f.p_raw < drift.SIGNIFICANCE for f in features) > 2
    assert sum(f.p < drift.SIGNIFICANCE for f in features) <= 1


def test_a_change_that_is_significant_but_small_is_no_drift() -> None:
    draw = np.random.default_rng(0)
    before = pd.DataFrame({"x": draw.normal(0, 1, 20_000)})
    (feature,) = drift.compare(before, pd.DataFrame({"x": draw.normal(0.1, 1, 20_000)}))
    assert feature.p < 1e-6 and feature.verdict is Verdict.STABLE


def test_missing_values_few_values_and_odd_columns() -> None:
    n = 600
    when = pd.date_range("2026-01-01", periods=n, freq="h")
    before = pd.DataFrame(
        {
            "gaps": [1.0, None] * (n // 2),
            "flag": [True, False] * (n // 2),
            "when": when,
            "id": [f"a{i}" for i in range(n)],
            "constant": [7] * n,
            "mostly_empty": [1.0] * 5 + [None] * (n - 5),
            "only_here": [1] * n,
            "prediction": [0, 1, 2] * (n // 3),
        }
    )
    after = before.assign(flag=[True] * n, when=when + pd.Timedelta(days=30), id="z")
    found = {f.name: f for f in drift.compare(before, after.drop(columns="only_here"))}
    assert "only_here" not in found
    assert found["gaps"].missing == (0.5, 0.5) and len(found["gaps"].reference) == n // 2
    assert found["flag"].test == "chi-squared" and found["flag"].verdict is Verdict.LARGE
    assert found["when"].verdict is Verdict.LARGE and found["when"].numeric
    assert found["constant"].verdict is Verdict.STABLE
    assert found["prediction"].test == "chi-squared"
    assert found["mostly_empty"].verdict is Verdict.UNTESTED
    assert "5 of at least 200" in found["mostly_empty"].why


def test_psi_by_hand() -> None:
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    found = drift.psi(np.array([5e6, 5e6]), np.array([8e6, 2e6]))
    assert found == pytest.approx(expected, rel=1e-5)
    assert drift.psi(np.array([10, 0]), np.array([0, 10])) > drift.LARGE_CHANGE


def test_a_long_log_is_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "MAX_FILES", 4)
    monkeypatch.setattr(prediction_log, "MAX_ROWS", 40)
    now = datetime.now(UTC)
    for hours in range(8):
        at = now - timedelta(hours=hours)
        log_predictions(tmp_path, "a/b c", "1", at, wines(100).assign(hours=hours))
    log = PredictionLog(f"file://{tmp_path}")
    sample = log.read("a/b c", "1", now - timedelta(hours=9), now + timedelta(minutes=1))
    assert (len(sample.rows), sample.files, sample.files_read) == (40, 8, 4)
    assert sorted(sample.rows["hours"].unique()) == [1, 3, 5, 7]
    assert set(sample.rows) == {"alcohol", "colour", "prediction", "hours"}
    assert log.newest("a/b c", "1") > now - timedelta(minutes=1)
    assert log.newest("other", "1") is None
    with pytest.raises(ValueError, match="31 days"):
        log.read("a/b c", "1", now - timedelta(days=40), now)
