"""Chooses a version's engine: the fastest candidate that answers as the original does."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import FunctionTransformer

from model_api.model.answers import count
from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.engines import COMPILED, MODEL_FOLDER, Engine, open_engine
from model_api.model.engines.estimators import load_estimator, one_thread, parts
from model_api.model.layout import Layout
from model_api.model.pace import shortest
from model_api.model.untyped import Estimator, JsonObject, MlflowModel, Pyfunc, Value
from model_api.model.words import first_line
from model_api.preparing import sampling
from model_api.preparing.compiling import convert
from model_api.preparing.compiling.boosted_models import booster
from model_api.preparing.compiling.categories import known_categories, vocabulary
from model_api.preparing.compiling.compare import Answers, agree, enough
from model_api.preparing.compiling.convert import within
from model_api.preparing.compiling.rules import NotCompiled, tampered

_TIMING_SECONDS = 0.05
# The library that a compiled model does not need costs 150 MB and seconds of loading: it must be
# twice as fast, for one row and for a hundred, to be worth that.
_NATIVE_HANDICAP = 4
_MOST_BEHIND = 6

_NAMES = {
    "numpy": "NumPy",
    "onnx": "ONNX Runtime",
    "treelite": "treelite",
    "sklearn": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "onnx-flavor": "ONNX Runtime",
    "pyfunc": "MLflow's pyfunc",
}

logger = logging.getLogger(__name__)


@dataclass
class Chosen:
    """The chosen engine of a version, and why."""

    engine: str
    options: JsonObject
    note: str
    classes: list[Value] | None
    categories: dict[str, list[Value]]


@dataclass
class Candidate:
    """An engine to try."""

    engine: str
    options: JsonObject = field(default_factory=dict)

    @property
    def compiled(self) -> bool:
        """Whether it does not need the model's own library."""
        return self.engine in COMPILED


@dataclass
class Trial:
    """A candidate that answers as the original does, with its agreement and its times."""

    candidate: Candidate
    agreed: str
    # Seconds for one row, and for a hundred rows together.
    one: float
    hundred: float

    def cost(self) -> float:
        """Return the cost, lowest for the fastest; one row and a hundred count equally."""
        handicap = 1 if self.candidate.compiled else _NATIVE_HANDICAP
        return self.one * self.hundred * handicap


def choose(
    work: Path,
    description: MlflowModel,
    decoder: Decoder,
    example: Batch,
    original: Pyfunc,
    compiled: bool = True,
) -> Chosen:
    """Return the fastest candidate that agrees with the original.

    Args:
        work: the folder of the version, which contains ``model`` and gets the compiled files.
        description: MLflow's ``Model``.
        decoder: the decoder of the model's signature.
        example: the input example.
        original: MLflow's pyfunc of the model.
        compiled: whether it may be compiled.
    """
    one_thread()
    source = _Source(work, description)
    if decoder.params:
        # Engines other than pyfunc would ignore the parameters of a request.
        note = "served by MLflow's pyfunc, as logged: its answers depend on parameters"
        return Chosen("pyfunc", {}, note, source.classes, {})
    categories = known_categories(source.estimator, decoder) if source.estimator is not None else {}
    if categories:
        decoder = Decoder(description.signature.inputs.to_dict(), None, categories)
    words = vocabulary(source.estimator, decoder) if source.estimator is not None else {}
    with warnings.catch_warnings():
        answers = _ask_original(decoder, example, original, source, words)
    tried: list[Trial] = []
    for candidate in _native(source, decoder):
        try:
            tried.append(_try(candidate, work, answers, source, example))
        except Exception as error:
            logger.info("%s is not used: %s", candidate.engine, first_line(error))
    reason = None
    if compiled and source.estimator is not None:
        try:
            candidate = _compile(source, decoder, work)
            enough(answers, words)
            tried.append(_try(candidate, work, answers, source, example))
        except Exception as error:
            reason = first_line(error).split(". ")[0].rstrip(".")
            logger.info("it is not compiled: %s", reason)
    best = _fastest(tried) if tried else None
    if best is None or not best.candidate.compiled:
        for file in work.glob("compiled.*"):
            file.unlink()
    if best is None:
        note = f"served by MLflow's pyfunc, as logged{_because(reason)}"
        return Chosen("pyfunc", {}, note, source.classes, categories)
    note = _note(best, tried, source, sum(answer.batch.rows for answer in answers), reason)
    return Chosen(best.candidate.engine, best.candidate.options, note, source.classes, categories)


class _Source:
    """The model as logged: its kind, the paths of its parts, the estimator itself."""

    def __init__(self, work: Path, description: MlflowModel) -> None:
        pyfunc = description.flavors.get("python_function", {})
        self.work = work
        self.method: str = pyfunc.get("predict_fn") or "predict"
        module = pyfunc.get("loader_module", "")
        kind = module.removeprefix("mlflow.")
        self.kind = {"onnx": "onnx-flavor"}.get(kind, kind)
        self.conf = description.flavors.get(kind, {})
        self.estimator: Estimator = None
        self.options: JsonObject = {}
        self.classes: list[Value] | None = None
        if self.kind not in ("sklearn", "xgboost", "lightgbm", "onnx-flavor") or not self.conf:
            self.kind = "pyfunc"
            return
        self._open()

    def _open(self) -> None:
        conf = self.conf
        code = conf.get("code")
        self.options = {
            "file": conf.get("pickled_model") or conf.get("data"),
            "format": conf.get("serialization_format") or "cloudpickle",
            "trusted": conf.get("skops_trusted_types"),
            "code": [code] if code else [],
        }
        if self.kind == "sklearn":
            self.estimator = load_estimator(self.work, self.options)
        elif self.kind == "xgboost":
            import mlflow.xgboost

            self.estimator = mlflow.xgboost.load_model(str(self.work / MODEL_FOLDER))
        elif self.kind == "lightgbm":
            import mlflow.lightgbm

            self.estimator = mlflow.lightgbm.load_model(str(self.work / MODEL_FOLDER))
            if conf.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
                self.options["format"] = "text"
        labels: Any = getattr(self.estimator, "classes_", None)
        if (
            self.method == "predict"
            and hasattr(self.estimator, "predict_proba")
            and getattr(labels, "ndim", 0) == 1
            # Probabilities have the classes' names as keys, which must differ as text.
            and len(set(map(str, labels.tolist()))) == len(labels)
        ):
            self.classes = labels.tolist()


def _ask_original(
    decoder: Decoder,
    example: Batch,
    original: Pyfunc,
    source: _Source,
    words: dict[str, list[Any]],
) -> list[Answers]:
    answers = [_ask(example, original, source)]
    # Drawn rows may be odd: they cause warnings about logarithms of negative numbers, and others.
    warnings.simplefilter("ignore")
    try:
        drawn = sampling.draw(decoder, example, source.estimator, words)
    except Exception as error:
        logger.info("no rows are drawn: %s", first_line(error))
        return answers
    for kind, batch in drawn.items():
        try:
            answers.append(_ask(batch, original, source))
        except Exception as error:
            # This model cannot take such rows: they may need the logarithm of a negative number.
            logger.info("rows drawn %s are not compared: %s", kind, first_line(error))
    return answers


def _ask(batch: Batch, original: Pyfunc, source: _Source) -> Answers:
    predictions = original.predict(batch.native(), params=batch.params)
    if count(predictions) != batch.rows:
        raise ValueError("the original answers with another number of predictions")
    table = None
    if source.classes is not None:
        table = np.asarray(source.estimator.predict_proba(batch.native()))
    return Answers(batch, predictions, table)


def _times(engine: Engine, example: Batch) -> tuple[float, float]:
    one, many = example.row(0), example.take([i % example.rows for i in range(100)])
    return (
        shortest(lambda: engine.predict(one), _TIMING_SECONDS),
        shortest(lambda: engine.predict(many), _TIMING_SECONDS),
    )


def _fastest(tried: list[Trial]) -> Trial:
    native = [one.hundred for one in tried if not one.candidate.compiled]
    # An interpreter of trees is slow with many trees: then many rows would take long.
    most = _MOST_BEHIND * min(native, default=float("inf"))
    fit = [one for one in tried if not one.candidate.compiled or one.hundred <= most]
    return min(fit, key=Trial.cost)


def _note(best: Trial, tried: list[Trial], source: "_Source", rows: int, reason: str | None) -> str:
    if best.candidate.compiled:
        return (
            f"compiled to {_NAMES[best.candidate.engine]}: agrees with"
            f" {_NAMES.get(source.kind, source.kind)} on {rows} rows, {best.agreed}"
        )
    for slower in (one.candidate for one in tried if one.candidate.compiled):
        reason = f"{_NAMES[slower.engine]} is slower"
    return (
        f"served by {_NAMES[best.candidate.engine]} itself, which agrees with MLflow's pyfunc on"
        f" {rows} rows, {best.agreed}{_because(reason)}"
    )


def _because(reason: str | None) -> str:
    return f"; not compiled ({reason})" if reason else ""


# ---- candidates ---------------------------------------------------------------------------------


def _try(
    candidate: Candidate, work: Path, answers: list[Answers], source: _Source, example: Batch
) -> Trial:
    engine = open_engine(candidate.engine, work, candidate.options)
    agreed = agree(engine, answers, source.classes)
    return Trial(candidate, agreed, *_times(engine, example))


def _native(source: _Source, decoder: Decoder) -> Iterator[Candidate]:
    """Yield the candidates with the model's own library, the best first."""
    options = source.options
    if source.kind == "sklearn":
        how = options | {"method": source.method}
        if decoder.tensors or array_will_do(source.estimator, decoder.layout):
            yield Candidate("sklearn", how | {"input": "array"})
        if not decoder.tensors:
            yield Candidate("sklearn", how | {"input": "frame"})
    elif source.kind in ("xgboost", "lightgbm"):
        if decoder.layout.dtype is None or source.method != "predict":
            return
        try:
            _, how = booster(source.estimator)
        except NotCompiled as error:
            logger.info("%s's core is not used: %s", source.kind, error)
            return
        yield Candidate(source.kind, options | how)
    elif source.kind == "onnx-flavor":
        yield Candidate("onnx-flavor", options)


def array_will_do(estimator: Estimator, layout: Layout) -> bool:
    """Tell whether an estimator treats an array of all columns like a frame.

    scikit-learn's own steps do if all columns have one type; other code may use names and types.
    """
    kinds = {column.type for column in layout.columns}
    dtype = layout.dtype
    if dtype is None or dtype.kind != "f" or not kinds <= {"float", "double", "integer", "long"}:
        return False
    for part in parts(estimator):
        home = type(part).__module__.partition(".")[0]
        if home not in ("sklearn", "xgboost", "lightgbm") or tampered(part):
            return False
        if type(part) is FunctionTransformer and part.func is not None:
            return False
        if home != "sklearn" and len(kinds) > 1:
            return False
    return True


def _compile(source: _Source, decoder: Decoder, work: Path) -> Candidate:
    """Return the candidate that a model is compiled to; NotCompiled says why it is not."""
    if source.method != "predict":
        raise NotCompiled(f"it predicts by {source.method}")
    convert_it = partial(convert.convert, source.estimator, decoder.layout, work)
    engine, options = within(convert.budget(), convert_it)
    if (options["label"] is None) != (source.classes is None):
        raise NotCompiled("its labels and its probabilities are not of one list of classes")
    return Candidate(engine, options)
