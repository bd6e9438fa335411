"""The wine pipeline, one function per task: validate, train (per candidate), register and promote.

Arguments and results are JSON values, so that each step can run in its own process. The steps of
one pipeline run share a ``pipeline_run_id``: any name that is unique to the run, such as Airflow's
run id.
"""

from collections.abc import Sequence
from importlib.metadata import version

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import infer_signature

from lastro_pipelines import candidates, comparing, data, evaluation, history, tracking
from lastro_pipelines.results import Champion, Summary, Trained, Validated

EXPERIMENT = "wine"
MODEL_NAME = "wine-classifier"
ALIAS = "champion"

# Given the requirements, MLflow does not load the model again to infer them, which takes seconds.
_MODEL_REQUIREMENTS = ("numpy", "pandas", "scikit-learn", "skops")


class PipelineError(RuntimeError):
    """The steps do not fit together; the message says which ones, and what to do."""


def validate(
    pipeline_run_id: str, *, source: str | None = None, experiment: str = EXPERIMENT
) -> Validated:
    """Check the data and open the pipeline run.

    Args:
        pipeline_run_id: unique name of this run of the pipeline.
        source: a CSV file; see `data.load`.
        experiment: the MLflow experiment to write to.

    Returns:
        ``dataset_hash``, ``rows`` (per split) and ``parent_run_id``.

    Raises:
        data.DataError: the data cannot be used.
    """
    client, experiment_id = tracking.connect(experiment)
    parent = tracking.open_pipeline_run(client, experiment_id, pipeline_run_id)
    parent_id = parent.info.run_id
    with tracking.step_of(client, parent):
        frame = data.check(data.load(source))
        splits = data.split(frame)
        rows = {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        }
        dataset_hash = data.fingerprint(frame)
        client.set_tag(parent_id, tracking.DATASET_TAG, dataset_hash)
        client.log_dict(parent_id, {"dataset_hash": dataset_hash, "rows": rows}, "data.json")
    return {"dataset_hash": dataset_hash, "rows": rows, "parent_run_id": parent_id}


def train(
    candidate: str,
    pipeline_run_id: str,
    *,
    dataset_hash: str,
    source: str | None = None,
    experiment: str = EXPERIMENT,
) -> Trained:
    """Fit one candidate in a child run: parameters, metrics, figures and the model.

    A candidate that this pipeline run has already trained on the same data is not trained again.
    An interrupted attempt is marked as failed.

    Args:
        candidate: a name in `candidates.CANDIDATES`.
        pipeline_run_id: as given to `validate`.
        dataset_hash: as returned by `validate`.
        source: as given to `validate`.
        experiment: as given to `validate`.

    Returns:
        ``candidate``, ``run_id``, ``model_uri`` and ``metrics`` on the validation split.

    Raises:
        PipelineError: the data has changed since it was validated, or was never validated.
    """
    recipe = candidates.named(candidate)
    client, experiment_id = tracking.connect(experiment)
    parent = _parent(client, experiment_id, pipeline_run_id)
    with tracking.step_of(client, parent):
        splits = _splits(source, dataset_hash)
        tags = {
            tracking.PIPELINE_RUN_TAG: pipeline_run_id,
            tracking.CANDIDATE_TAG: candidate,
            tracking.DATASET_TAG: dataset_hash,
        }
        for run in tracking.find_runs(client, experiment_id, pipeline_run_id, tags):
            if run.info.status == RunStatus.to_string(RunStatus.FINISHED):
                return _trained(run, candidate)
            if run.info.status == RunStatus.to_string(RunStatus.RUNNING):
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))
        with mlflow.start_run(
            experiment_id=experiment_id,
            run_name=candidate,
            parent_run_id=parent.info.run_id,
            tags=tags,
        ) as active:
            _fit_and_log(recipe, splits)
        return _trained(client.get_run(active.info.run_id), candidate)


def register_and_promote(
    trained: Sequence[Trained],
    pipeline_run_id: str,
    *,
    dataset_hash: str,
    source: str | None = None,
    experiment: str = EXPERIMENT,
    model_name: str = MODEL_NAME,
    margin: float = comparing.MARGIN,
    significance: float = comparing.SIGNIFICANCE,
) -> Summary:
    """Register the best candidate; make it champion if it beats the serving one on the test split.

    The best candidate has the lowest log loss on the validation split. A run is registered only
    once. `comparing.compare` decides whether it beats the champion: a lower log loss alone can be
    chance. The reason is written to the tag ``decision`` of both runs and of the version, and to
    standard output, which is the task's log.

    Args:
        trained: the results of `train`, one per candidate.
        pipeline_run_id: as given to `validate`.
        dataset_hash: as returned by `validate`.
        source: as given to `validate`.
        experiment: as given to `validate`.
        model_name: the registered model.
        margin: how much lower than the champion's the log loss must be, in nats per row.
        significance: of the paired test, between 0 and 1.

    Returns:
        ``model``, ``version``, ``run_id``, ``candidate``, ``metrics`` on the test split,
        ``champion`` (``version`` and ``metrics`` of the version that it was compared with, or
        None), ``comparison`` (see `comparing.Comparison`; None if there was nothing to compare),
        ``promoted`` and ``reason``.

    Raises:
        PipelineError: nothing was trained, or the serving champion cannot be measured.
    """
    if not trained:
        raise PipelineError("no candidate was trained: there is nothing to register")
    client, experiment_id = tracking.connect(experiment)
    parent = _parent(client, experiment_id, pipeline_run_id)
    with tracking.step_of(client, parent):
        test = _splits(source, dataset_hash).test
        best = min(trained, key=lambda result: (result["metrics"]["log_loss"], result["candidate"]))
        challenger = _register(
            client,
            model_name,
            best,
            {
                tracking.PIPELINE_RUN_TAG: pipeline_run_id,
                tracking.CANDIDATE_TAG: best["candidate"],
                tracking.DATASET_TAG: dataset_hash,
            },
        )
        model = mlflow.sklearn.load_model(best["model_uri"])
        metrics = evaluation.measure(model, test)
        champion, champion_losses = _champion(client, model_name, test)
        comparison = None
        measured = champion is not None and champion["version"] != challenger.version
        if measured and champion_losses is not None:
            comparison = comparing.compare(
                evaluation.losses(model, test),
                champion_losses,
                margin=margin,
                significance=significance,
            )
        left = history.rolled_back(client, model_name, ALIAS)
        promoted, reason = _decide(challenger.version, metrics, champion, comparison, left)
        if promoted:
            moved_by_others = history.promote(
                client,
                model_name,
                ALIAS,
                challenger.version,
                before=champion["version"] if champion else None,
                by=f"airflow: {pipeline_run_id}",
            )
            if moved_by_others:
                promoted, reason = False, moved_by_others
        reason = f"{'promoted' if promoted else 'not promoted'}: {reason}"
        print(f"Version {challenger.version} of {model_name}, {best['candidate']}: {reason}")
        summary: Summary = {
            "model": model_name,
            "version": challenger.version,
            "run_id": best["run_id"],
            "candidate": best["candidate"],
            "metrics": metrics,
            "champion": champion,
            "comparison": comparison.as_dict() if comparison else None,
            "promoted": promoted,
            "reason": reason,
        }
        for name, value in metrics.items():
            client.log_metric(best["run_id"], f"test_{name}", value)
        for run_id in (best["run_id"], parent.info.run_id):
            client.set_tag(run_id, "decision", reason)
        client.set_model_version_tag(model_name, challenger.version, "decision", reason)
        client.log_dict(parent.info.run_id, summary, "summary.json")
    client.set_terminated(parent.info.run_id, RunStatus.to_string(RunStatus.FINISHED))
    return summary


def _parent(client: MlflowClient, experiment_id: str, pipeline_run_id: str) -> Run:
    run = tracking.find_pipeline_run(client, experiment_id, pipeline_run_id)
    if run is None:
        raise PipelineError(f"unknown pipeline run {pipeline_run_id!r}: run validate first")
    return run


def _splits(source: str | None, dataset_hash: str) -> data.Splits:
    frame = data.check(data.load(source))
    found = data.fingerprint(frame)
    if found != dataset_hash:
        raise PipelineError(
            f"the data has changed since it was validated: its hash is {found}, not {dataset_hash}."
            " Run the pipeline again from validate"
        )
    return data.split(frame)


def _fit_and_log(recipe: candidates.Candidate, splits: data.Splits) -> None:
    """Fit the candidate, and log its parameters, metrics, figures and model to the active run."""
    features = list(data.FEATURES)
    model = recipe.build(**recipe.params).fit(splits.train[features], splits.train[data.TARGET])
    mlflow.log_params({**recipe.params, "seed": candidates.SEED})
    mlflow.log_metrics(evaluation.measure(model, splits.validation))
    mlflow.log_figure(evaluation.confusion_figure(model, splits.validation), "confusion_matrix.png")
    mlflow.log_figure(evaluation.importance_figure(model, splits.validation), "importance.png")
    example = splits.validation[features].head(3)
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, model.predict(example)),
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in _MODEL_REQUIREMENTS],
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_SKOPS,
        skops_trusted_types=recipe.trusted_types,
    )
    held_out = pd.concat([splits.validation, splits.test])
    tracking.log_reference(model, splits.train[features], held_out[features])


def _trained(run: Run, candidate: str) -> Trained:
    if not run.outputs or not run.outputs.model_outputs:
        raise PipelineError(f"run {run.info.run_id} of {candidate!r} is finished but has no model")
    metrics = run.data.metrics
    return {
        "candidate": candidate,
        "run_id": run.info.run_id,
        "model_uri": f"models:/{run.outputs.model_outputs[0].model_id}",
        "metrics": {name: metrics[name] for name in ("log_loss", "accuracy", "f1_macro")},
    }


def _register(
    client: MlflowClient, model_name: str, best: Trained, tags: dict[str, str]
) -> ModelVersion:
    for registered in client.search_model_versions(f"run_id = '{best['run_id']}'"):
        if registered.name == model_name:
            return registered
    return mlflow.register_model(best["model_uri"], model_name, tags=tags)


def _champion(
    client: MlflowClient, model_name: str, test: pd.DataFrame
) -> tuple[Champion, comparing.Losses] | tuple[None, None]:
    """Measure the serving version on the test split; None if the alias points to no version yet.

    Returns:
        ``version`` and ``metrics``, and the log loss of each row.
    """
    serving = client.get_registered_model(model_name).aliases.get(ALIAS)
    if serving is None:
        return None, None
    try:
        # Not models:/<name>/<version>: MLflow cuts such an address at a "?" in the name.
        model = mlflow.sklearn.load_model(
            client.get_model_version_download_uri(model_name, serving)
        )
        metrics, losses = evaluation.measure(model, test), evaluation.losses(model, test)
    except Exception as error:
        raise PipelineError(
            f"version {serving} of {model_name!r}, the {ALIAS}, cannot be measured"
            f" ({error}). Point the alias at a version that works, or delete the alias"
        ) from error
    champion: Champion = {"version": serving, "metrics": metrics}
    return champion, losses


def _decide(
    challenger: str,
    metrics: dict[str, float],
    champion: Champion | None,
    comparison: comparing.Comparison | None,
    rolled_back: set[str],
) -> tuple[bool, str]:
    """Return whether the challenger gets the alias, and why."""
    if champion is not None and champion["version"] == challenger:
        return True, f"it is already the {ALIAS}"
    if challenger in rolled_back:
        # A retry of this task must not undo a rollback by a person.
        return False, f"{ALIAS} was rolled back from it. `make promote` lets it serve again"
    if champion is None or comparison is None:
        return True, f"there was no {ALIAS} yet"
    ours, theirs = metrics["log_loss"], champion["metrics"]["log_loss"]
    compared = f"log loss {ours:.6f}, version {champion['version']} has {theirs:.6f}"
    return comparison.better, f"{compared}: {comparison.reason()}"
