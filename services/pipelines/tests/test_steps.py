"""The steps against a real MLflow server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple
from uuid import uuid4

import lastro_promotion
import mlflow.artifacts
import mlflow.sklearn
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from sklearn.dummy import DummyClassifier

from lastro_pipelines import candidates, data, evaluation, history, steps
from lastro_pipelines.candidates import CANDIDATES, Candidate


class Pipeline:
    """One pipeline run with its own experiment and model."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri, uri)
        self.experiment = f"wine-{uuid4().hex[:8]}"
        self.model = f"wine-classifier-{uuid4().hex[:8]}"
        self.run_id = "scheduled__2026-11-24T00:00:00+00:00"
        self.source: str | None = None
        self.trained: list[dict[str, Any]] = []

    def validate(self) -> dict[str, Any]:
        return steps.validate(self.run_id, source=self.source, experiment=self.experiment)

    def train(self, candidate: str, dataset_hash: str) -> dict[str, Any]:
        return steps.train(
            candidate,
            self.run_id,
            dataset_hash=dataset_hash,
            source=self.source,
            experiment=self.experiment,
        )

    def register(self, trained: list[dict[str, Any]], dataset_hash: str) -> dict[str, Any]:
        return steps.register_and_promote(
            trained,
            self.run_id,
            dataset_hash=dataset_hash,
            source=self.source,
            experiment=self.experiment,
            model_name=self.model,
        )

    def run(self, candidates: list[str]) -> dict[str, Any]:
        """Run every step; pass each result through JSON, as Airflow does."""
        dataset_hash = json.loads(json.dumps(self.validate()))["dataset_hash"]
        trained = [self.train(name, dataset_hash) for name in candidates]
        self.trained = json.loads(json.dumps(trained))
        return json.loads(json.dumps(self.register(self.trained, dataset_hash)))

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name(self.experiment)
        return list(self.client.search_runs([experiment.experiment_id]))

    def champion(self) -> str | None:
        return self.client.get_registered_model(self.model).aliases.get("champion")

    def history(self) -> list[tuple[str, str]]:
        """Who let which version serve, as (version, by), oldest first."""
        tags = self.client.get_registered_model(self.model).tags
        return [(move.version, move.by) for move in lastro_promotion.moves(tags, "champion")]

    def versions(self) -> list[Any]:
        return list(self.client.search_model_versions(f"name = '{self.model}'"))


@pytest.fixture(scope="module", autouse=True)
def _small_forest() -> Iterator[None]:
    """A tenth of the trees: the steps do the same with the model, in less time."""
    forest = CANDIDATES["random-forest"]
    small = replace(forest, params={**forest.params, "n_estimators": 10})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "CANDIDATES", {**CANDIDATES, "random-forest": small})
        yield


class FirstRun(NamedTuple):
    """A pipeline that has run once with every candidate, and what its steps returned."""

    pipeline: Pipeline
    summary: dict[str, Any]
    trained: list[dict[str, Any]]


@pytest.fixture(scope="module")
def first(mlflow_url: str) -> FirstRun:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        pipeline = Pipeline(mlflow_url)
        return FirstRun(pipeline, pipeline.run(list(CANDIDATES)), pipeline.trained)


@pytest.fixture
def pipeline(tracking: str) -> Pipeline:
    return Pipeline(tracking)


@pytest.fixture
def worse(monkeypatch: pytest.MonkeyPatch) -> str:
    """Add a candidate that guesses; return its name."""
    guess = Candidate(lambda **params: DummyClassifier(**params), {"strategy": "prior"})
    monkeypatch.setattr(candidates, "CANDIDATES", {**candidates.CANDIDATES, "guess": guess})
    return "guess"


def test_the_first_run_makes_the_best_candidate_champion(tracking: str, first: FirstRun) -> None:
    pipeline, summary, _ = first
    assert summary["promoted"] is True
    assert summary["champion"] is None
    assert summary["metrics"]["accuracy"] > 0.9
    assert pipeline.champion() == summary["version"]

    by_candidate = {run.data.tags.get("candidate"): run for run in pipeline.runs()}
    parent = by_candidate.pop(None)
    assert by_candidate.keys() == CANDIDATES.keys()
    assert {run.info.status for run in (parent, *by_candidate.values())} == {"FINISHED"}
    lowest = min(by_candidate.values(), key=lambda run: run.data.metrics["log_loss"])
    assert summary["run_id"] == lowest.info.run_id
    for name, run in by_candidate.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params.keys() >= CANDIDATES[name].params.keys()
        assert run.data.metrics.keys() >= {"log_loss", "accuracy", "f1_macro"}
        files = {file.path for file in pipeline.client.list_artifacts(run.info.run_id)}
        assert {"confusion_matrix.png", "importance.png"} <= files
        reference = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="reference/reference.parquet"
        )
        rows = pd.read_parquet(reference)
        assert list(rows.columns) == [*data.FEATURES, "prediction", "_held_out"]
        splits = data.split(data.check(data.load()))
        unseen = pd.concat([splits.validation, splits.test])
        for held_out, expected in ((False, splits.train), (True, unseen)):
            pd.testing.assert_frame_equal(
                rows.loc[rows["_held_out"] == held_out, list(data.FEATURES)].reset_index(drop=True),
                expected[list(data.FEATURES)].reset_index(drop=True),
            )
        assert set(rows["prediction"]) <= set(data.CULTIVARS)
    assert lowest.data.metrics["test_log_loss"] == summary["metrics"]["log_loss"]
    files = {file.path for file in pipeline.client.list_artifacts(parent.info.run_id)}
    assert files == {"data.json", "summary.json"}

    [registered] = pipeline.versions()
    assert registered.run_id == summary["run_id"]
    assert registered.tags["pipeline_run_id"] == pipeline.run_id
    assert registered.tags["dataset_hash"] == parent.data.tags["dataset_hash"]
    # The reason is where people look for it.
    assert summary["reason"] == "promoted: there was no champion yet"
    for tags in (registered.tags, parent.data.tags, lowest.data.tags):
        assert tags["decision"] == summary["reason"]


def test_a_large_reference_is_drawn_always_the_same(pipeline: Pipeline) -> None:
    features = pd.DataFrame({"a": range(5000)})
    model = DummyClassifier(strategy="constant", constant=1).fit([[0]], [1])
    mlflow.set_experiment(pipeline.experiment)
    drawn = []
    for _ in range(2):
        with mlflow.start_run() as run:
            steps.tracking.log_reference(model, features, features.tail(1500) + 10_000)
        path = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="reference/reference.parquet"
        )
        drawn.append(pd.read_parquet(path))
    for held_out, rows in drawn[0].groupby("_held_out"):
        assert len(rows) == steps.tracking.REFERENCE_ROWS
        assert rows["a"].is_unique and ((rows["a"] >= 10_000) == held_out).all()
    assert drawn[0]["a"][~drawn[0]["_held_out"]].max() > 4000
    pd.testing.assert_frame_equal(*drawn)


def test_a_reference_names_its_columns_as_the_prediction_log_does(pipeline: Pipeline) -> None:
    model = DummyClassifier(strategy="constant", constant=1).fit([[0]], [1])
    mlflow.set_experiment(pipeline.experiment)
    with mlflow.start_run() as run:
        steps.tracking.log_reference(model, pd.DataFrame({"row": [7], "prediction": [8]}))
        with pytest.raises(ValueError, match="'_held_out' has a reserved name"):
            steps.tracking.log_reference(model, pd.DataFrame({"_held_out": [1]}))
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="reference/reference.parquet"
    )
    assert pd.read_parquet(path).to_dict("records") == [
        {"input_row": 7, "input_prediction": 8, "prediction": 1, "_held_out": False}
    ]


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_logged_model_says_what_it_takes(tracking: str, first: FirstRun, candidate: str) -> None:
    [trained] = [one for one in first.trained if one["candidate"] == candidate]
    description = Model.load(trained["model_uri"])
    assert description.get_input_schema().input_names() == list(data.FEATURES)
    example = description.load_input_example(trained["model_uri"])
    assert list(example.columns) == list(data.FEATURES)
    loaded = mlflow.sklearn.load_model(trained["model_uri"])
    validation = data.split(data.check(data.load())).validation
    assert evaluation.measure(loaded, validation) == trained["metrics"]


def test_the_same_data_gives_the_same_model_which_is_not_promoted(
    tracking: str, first: FirstRun, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, before, _ = first
    # Other tests check the first run of this pipeline.
    pipeline.run_id = "second"
    second = pipeline.run(list(CANDIDATES))
    assert second["version"] != before["version"]
    assert second["metrics"] == before["metrics"]
    assert second["champion"] == {"version": before["version"], "metrics": before["metrics"]}
    assert second["promoted"] is False
    assert second["reason"].startswith("not promoted: log loss ")
    assert "the gain of 0 per row is not shown to exceed the margin of 0.01" in second["reason"]
    assert second["comparison"]["p"] == 1.0
    assert second["reason"] in capsys.readouterr().out
    assert pipeline.client.get_run(second["run_id"]).data.tags["decision"] == second["reason"]
    assert pipeline.champion() == before["version"]


def test_a_better_model_takes_the_alias_and_a_worse_one_does_not(
    pipeline: Pipeline, worse: str
) -> None:
    first_run = pipeline.run_id
    guess = pipeline.run([worse])
    assert pipeline.champion() == guess["version"]
    pipeline.run_id = "better"
    better = pipeline.run([worse, "random-forest"])
    assert better["candidate"] == "random-forest"
    assert better["promoted"] is True
    assert pipeline.champion() == better["version"]
    pipeline.run_id = "worse-again"
    again = pipeline.run([worse])
    assert again["promoted"] is False
    assert pipeline.champion() == better["version"]
    # The record, for a rollback.
    assert pipeline.history() == [
        (guess["version"], f"airflow: {first_run}"),
        (better["version"], "airflow: better"),
    ]


def test_a_way_back_leads_also_to_what_somebody_else_promoted(
    pipeline: Pipeline, worse: str
) -> None:
    guess = pipeline.run([worse])
    for key in pipeline.client.get_registered_model(pipeline.model).tags:
        pipeline.client.delete_registered_model_tag(pipeline.model, key)
    tag = "lastro.history.champion"
    pipeline.client.set_registered_model_tag(pipeline.model, tag, "no list")
    pipeline.run_id = "better"
    better = pipeline.run([worse, "random-forest"])
    assert pipeline.history() == [
        (guess["version"], "unknown"),
        (better["version"], "airflow: better"),
    ]


def test_a_task_that_is_tried_again_does_not_undo_a_rollback(
    pipeline: Pipeline, worse: str
) -> None:
    guess = pipeline.run([worse])
    pipeline.run_id = "better"
    better = pipeline.run(["logistic-regression"])
    assert pipeline.champion() == better["version"]
    tags = pipeline.client.get_registered_model(pipeline.model).tags
    back = lastro_promotion.record(
        tags, "champion", guess["version"], before=better["version"], by="ana", back=True
    )
    pipeline.client.set_registered_model_alias(pipeline.model, "champion", guess["version"])
    pipeline.client.set_registered_model_tag(pipeline.model, back.key, back.value)
    again = pipeline.register(pipeline.trained, pipeline.validate()["dataset_hash"])
    assert again["promoted"] is False and "champion was rolled back from it" in again["reason"]
    assert pipeline.champion() == guess["version"]


def test_people_who_promote_at_the_same_time_are_all_on_record(tracking: str) -> None:
    client, model = MlflowClient(tracking, tracking), f"crowded-{uuid4().hex[:8]}"
    client.create_registered_model(model)
    for _ in range(5):
        client.create_model_version(model, "s3://nowhere/model")
    # MLflow refuses one of two callers that set a new alias.
    client.set_registered_model_alias(model, "champion", "5")
    together = Barrier(4)

    def promote(version: int) -> None:
        together.wait()
        history.promote(client, model, "champion", str(version), before="5", by=f"p{version}")

    # All have seen the same champion; the late ones find another one, and change nothing.
    read = client.get_registered_model
    seen = read(model)
    client.get_registered_model = lambda _: seen  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(promote, range(1, 5)))
    client.get_registered_model = read  # type: ignore[method-assign]
    told = lastro_promotion.moves(read(model).tags, "champion")
    assert (told[0].version, told[0].by) == ("5", "unknown")
    assert sorted((m.version, m.by) for m in told[1:]) == [(str(v), f"p{v}") for v in range(1, 5)]
    current = read(model).aliases["champion"]
    refused = history.promote(client, model, "champion", "5", before="5", by="late")
    assert refused == f"somebody else moved champion meanwhile: it now points to version {current}"
    assert read(model).aliases["champion"] == current


def test_retries_leave_what_one_run_leaves(pipeline: Pipeline) -> None:
    candidate = "logistic-regression"
    validated = pipeline.validate()
    assert pipeline.validate() == validated
    dataset_hash = validated["dataset_hash"]
    trained = pipeline.train(candidate, dataset_hash)
    assert pipeline.train(candidate, dataset_hash) == trained
    first = pipeline.register([trained], dataset_hash)
    second = pipeline.register([trained], dataset_hash)
    assert second["version"] == first["version"]
    assert second["promoted"] is True
    assert len(pipeline.versions()) == 1
    assert len(pipeline.runs()) == 2


def test_an_interrupted_attempt_is_repeated(pipeline: Pipeline) -> None:
    validated = pipeline.validate()
    parent = pipeline.client.get_run(validated["parent_run_id"])
    cut = pipeline.client.create_run(
        parent.info.experiment_id,
        tags={
            "pipeline_run_id": pipeline.run_id,
            "candidate": "logistic-regression",
            "dataset_hash": validated["dataset_hash"],
            "mlflow.parentRunId": parent.info.run_id,
        },
    )
    trained = pipeline.train("logistic-regression", validated["dataset_hash"])
    assert trained["run_id"] != cut.info.run_id
    assert pipeline.client.get_run(cut.info.run_id).info.status == "FAILED"


def test_bad_data_fails_the_run_and_good_data_repairs_it(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    frame = data.load()
    path = tmp_path / "wine.csv"
    pipeline.source = str(path)
    frame.assign(hue=frame["hue"].where(frame.index != 5)).to_csv(path, index=False)
    with pytest.raises(data.DataError, match="column 'hue', row 5"):
        pipeline.validate()
    [run] = pipeline.runs()
    assert run.info.status == "FAILED"
    frame.to_csv(path, index=False)
    assert pipeline.run(["logistic-regression"])["promoted"] is True
    assert pipeline.client.get_run(run.info.run_id).info.status == "FINISHED"


def test_data_that_changes_between_steps_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "wine.csv"
    pipeline.source = str(path)
    frame = data.load()
    frame.to_csv(path, index=False)
    dataset_hash = pipeline.validate()["dataset_hash"]
    pd.concat([frame, frame.head(1)]).to_csv(path, index=False)
    with pytest.raises(steps.PipelineError, match="changed since it was validated"):
        pipeline.train("logistic-regression", dataset_hash)


def test_a_champion_that_cannot_be_measured_is_named(pipeline: Pipeline) -> None:
    mlflow.set_experiment(pipeline.experiment)
    with mlflow.start_run():
        stranger = DummyClassifier().fit([[0], [1]], ["cat", "dog"])
        info = mlflow.sklearn.log_model(stranger, name="model", pip_requirements=["scikit-learn"])
    mlflow.register_model(info.model_uri, pipeline.model)
    pipeline.client.set_registered_model_alias(pipeline.model, "champion", "1")
    with pytest.raises(steps.PipelineError, match=r"version 1 .* Point the alias"):
        pipeline.run(["logistic-regression"])
    assert pipeline.champion() == "1"


def test_steps_out_of_order_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(steps.PipelineError, match="run validate first"):
        pipeline.train("logistic-regression", "0" * 16)
    with pytest.raises(steps.PipelineError, match="no candidate was trained"):
        pipeline.register([], "0" * 16)
    with pytest.raises(ValueError, match="Choose one of: logistic-regression, random-forest"):
        pipeline.train("perceptron", "0" * 16)


@pytest.mark.parametrize("run_id", ["", "it's", "a`b", "x" * 300])
def test_unusable_run_ids_are_refused(pipeline: Pipeline, run_id: str) -> None:
    pipeline.run_id = run_id
    with pytest.raises(ValueError, match="pipeline_run_id"):
        pipeline.validate()


def test_without_a_server_nothing_is_written_to_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RuntimeError, match="MLFLOW_TRACKING_URI is not set"):
        steps.validate("run")
    assert list(tmp_path.iterdir()) == []


def test_the_command_runs_every_step(tracking: str) -> None:
    name = f"by-command-{uuid4().hex[:8]}"
    result = subprocess.run(
        [sys.executable, "-m", "lastro_pipelines", "--model-name", name, "--experiment", name],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    summary = json.loads(result.stdout)
    assert (summary["model"], summary["version"]) == (name, "1")
