"""Finds what answers fastest as the original does: compiled, native, or MLflow's pyfunc.

Every candidate answers the input example and thousands of drawn rows; one that disagrees with the
original is not used, and the note that goes to the manifest says so.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_api import sampling
from model_api.batch import Batch
from model_api.decoding import Decoder
from model_api.engines import (
    COMPILED,
    MODEL_FOLDER,
    Engine,
    load_estimator,
    one_thread,
    open_engine,
)
from model_api.version import count, first_line, shortest

# How far probabilities may lie from the original's: sums of some hundred floats of 32 bits.
PROBABILITY_TOLERANCE = 5e-6
# Two classes whose probabilities are no farther apart are tied, up to the order of a sum.
TIE = 1e-9
RELATIVE_TOLERANCE = 1e-5
# Fewer rows than these prove too little.
FEWEST_ROWS = 500
# skl2onnx converts some 15,000 nodes a second, and needs a kilobyte for each; treelite takes more.
MOST_NODES = 300_000
# The newest that skl2onnx writes for all of its models.
_TARGET_OPSET = {"": 21, "ai.onnx.ml": 3}
# What scalers do to numbers, in their order, and by which of their attributes.
_SCALERS = {
    "StandardScaler": (("subtract", "mean_"), ("divide", "scale_")),
    "RobustScaler": (("subtract", "center_"), ("divide", "scale_")),
    "MaxAbsScaler": (("divide", "scale_"),),
    "MinMaxScaler": (("multiply", "scale_"), ("add", "min_")),
}
_TIMING_SECONDS = 0.05
# A library that a compiled model does without costs 150 MB and seconds of loading: it must be twice
# as fast, at one row and at a hundred, to be worth that.
_NATIVE_HANDICAP = 4
_MOST_BEHIND = 6

_NAMES = {
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
    """What serves a version, and why."""

    engine: str
    options: dict[str, Any]
    note: str
    classes: list[Any] | None
    categories: dict[str, list[Any]]


@dataclass
class Candidate:
    """An engine to try; ``failure`` says why there is none."""

    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None

    @property
    def compiled(self) -> bool:
        """Whether it does without the library that the model was made with."""
        return self.engine in COMPILED

    @property
    def label(self) -> str:
        """Its name, for users."""
        dtype = self.options.get("dtype") if self.compiled else None
        return _NAMES[self.engine] + (f" ({dtype})" if dtype else "")


@dataclass
class Tried:
    """A candidate that answers as the original does: how well, and how slowly."""

    candidate: Candidate
    agreed: str
    # Seconds of one row alone, and of a hundred together.
    one: float
    hundred: float

    def cost(self) -> float:
        """Return what the fastest has least of: one row and a hundred count alike."""
        handicap = 1 if self.candidate.compiled else _NATIVE_HANDICAP
        return self.one * self.hundred * handicap


@dataclass
class Answers:
    """What the original answers to one batch; table has the probabilities, if it tells any."""

    batch: Batch
    predictions: Any
    table: np.ndarray | None


class Disagreement(Exception):
    """A candidate answers otherwise than the original; the message says how."""


def choose(
    work: Path,
    description: Any,
    decoder: Decoder,
    example: Batch,
    original: Any,
    compiled: bool = True,
) -> Chosen:
    """Return the fastest candidate that agrees with the original.

    Args:
        work: the folder of the version: ``model`` lies in it, compiled files are put beside.
        description: MLflow's ``Model``.
        decoder: of the model's signature.
        example: the input example.
        original: MLflow's pyfunc of the model.
        compiled: whether it may be compiled.
    """
    one_thread()
    source = _Source(work, description)
    categories = known_categories(source.estimator, decoder) if source.estimator is not None else {}
    if categories:
        decoder = Decoder(
            description.signature.inputs.to_dict(),
            description.signature.params.to_dict() if description.signature.params else None,
            categories,
        )
    with warnings.catch_warnings():
        answers = _ask_original(decoder, example, original, source)
    rows = sum(answer.batch.rows for answer in answers)
    failures: dict[str, list[str]] = {}
    tried: list[Tried] = []
    candidates = list(_native(source, decoder))
    if compiled:
        candidates += _compiled(source, decoder, answers, work)
    for candidate in candidates:
        try:
            if candidate.failure is not None:
                raise Disagreement(candidate.failure)
            if candidate.compiled and rows < FEWEST_ROWS:
                raise Disagreement(f"only {rows} rows to compare on")
            engine = open_engine(candidate.engine, work, candidate.options)
            agreed = agree(engine, answers, source.classes)
            tried.append(Tried(candidate, agreed, *_times(engine, example)))
        except Exception as error:
            logger.info("%s is not used: %s", candidate.engine, first_line(error))
            if candidate.compiled:
                failures.setdefault(_first_sentence(error), []).append(candidate.label)
    if tried:
        best = _fastest(tried)
        chosen, note = best.candidate, _note(best, tried, source, rows, failures)
    else:
        chosen = Candidate("pyfunc")
        note = f"served by MLflow's pyfunc, as logged{_because(failures)}"
    keep = chosen.options.get("file") if chosen.compiled else None
    for file in work.glob("compiled-*"):
        if file.name != keep:
            file.unlink()
    return Chosen(
        chosen.engine,
        chosen.options,
        note,
        source.classes if chosen.engine != "pyfunc" else None,
        categories,
    )


class _Source:
    """The model as logged: its kind, where its parts lie, the estimator itself."""

    def __init__(self, work: Path, description: Any) -> None:
        pyfunc = description.flavors.get("python_function", {})
        self.work = work
        self.method: str = pyfunc.get("predict_fn") or "predict"
        module = pyfunc.get("loader_module", "")
        kind = module.removeprefix("mlflow.")
        self.kind = {"onnx": "onnx-flavor"}.get(kind, kind)
        self.conf = description.flavors.get(kind, {})
        self.estimator: Any = None
        self.options: dict[str, Any] = {}
        self.classes: list[Any] | None = None
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
            self.estimator = self.load()
        elif self.kind == "xgboost":
            import mlflow.xgboost

            self.estimator = mlflow.xgboost.load_model(str(self.work / MODEL_FOLDER))
        elif self.kind == "lightgbm":
            import mlflow.lightgbm

            self.estimator = mlflow.lightgbm.load_model(str(self.work / MODEL_FOLDER))
            if conf.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
                self.options["format"] = "text"
        labels = getattr(self.estimator, "classes_", None)
        if (
            self.method == "predict"
            and hasattr(self.estimator, "predict_proba")
            and getattr(labels, "ndim", 0) == 1
        ):
            self.classes = labels.tolist()

    def load(self) -> Any:
        """Return a fresh copy of an estimator of scikit-learn."""
        return load_estimator(self.work, self.options)


def _ask_original(
    decoder: Decoder, example: Batch, original: Any, source: _Source
) -> list[Answers]:
    answers = [_ask(example, original, source)]
    # Of logarithms of negative numbers, and of arrays without names: what is drawn may be odd.
    warnings.simplefilter("ignore")
    try:
        drawn = sampling.draw(decoder, example, source.estimator)
    except Exception as error:
        logger.info("no rows are drawn: %s", first_line(error))
        return answers
    for kind, batch in drawn.items():
        try:
            answers.append(_ask(batch, original, source))
        except Exception as error:
            # Such rows are none for this model: the logarithm of a negative number, say.
            logger.info("rows drawn %s are not compared: %s", kind, first_line(error))
    return answers


def _ask(batch: Batch, original: Any, source: _Source) -> Answers:
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


def _fastest(tried: list[Tried]) -> Tried:
    native = [one.hundred for one in tried if not one.candidate.compiled]
    # An interpreter of trees falls behind where there are many: then many rows would wait for long.
    most = _MOST_BEHIND * min(native, default=float("inf"))
    fit = [one for one in tried if not one.candidate.compiled or one.hundred <= most]
    return min(fit, key=Tried.cost)


def _note(
    best: Tried, tried: list[Tried], source: "_Source", rows: int, failures: dict[str, list[str]]
) -> str:
    if best.candidate.compiled:
        return (
            f"compiled to {_NAMES[best.candidate.engine]}: agrees with"
            f" {_NAMES.get(source.kind, source.kind)} on {rows} rows, {best.agreed}"
        )
    slower = [one.candidate.label for one in tried if one.candidate.compiled]
    failures = failures | ({"is slower": slower} if slower else {})
    return (
        f"served by {_NAMES[best.candidate.engine]} itself, which agrees with MLflow's pyfunc on"
        f" {rows} rows, {best.agreed}{_because(failures)}"
    )


def _because(failures: dict[str, list[str]]) -> str:
    reasons = [f"{' and '.join(labels)}: {reason}" for reason, labels in failures.items()]
    return f"; not compiled ({'; '.join(reasons)})" if reasons else ""


def _first_sentence(error: Exception) -> str:
    return first_line(error).split(". ")[0].rstrip(".")


# ---- agreement ----------------------------------------------------------------------------------


def agree(engine: Engine, answers: list[Answers], classes: list[Any] | None) -> str:
    """Compare an engine's answers with the original's.

    Returns:
        how well they agree, as the end of a sentence.

    Raises:
        Disagreement: they do not.
        Exception: the engine cannot answer.
    """
    farthest, ties, numbers = 0.0, 0, False
    usual = _usual([_plain(known.predictions) for known in answers])
    for known in answers:
        if known.table is not None:
            found, table = engine.predict_both(known.batch)
            if table.shape != known.table.shape:
                raise Disagreement(f"probabilities of shape {table.shape}")
            distance = float(np.abs(table - known.table).max(initial=0))
            if not distance <= PROBABILITY_TOLERANCE:
                raise Disagreement(f"probabilities differ by up to {distance:.1g}")
            farthest = max(farthest, distance)
            ties += _compare_labels(found, known, engine.indexed, classes)
            alone = engine.predict(known.batch)
            ties += _compare_labels(alone, known, engine.indexed, classes)
            continue
        found = engine.predict(known.batch)
        distance = _distance(_plain(found), _plain(known.predictions), usual)
        if distance is None:
            continue
        numbers = True
        farthest = max(farthest, distance)
    if classes is not None:
        apart = f"labels equal{', but for exact ties' if ties else ''}"
        return f"{apart}, probabilities {_within(farthest)}"
    return f"numbers {_within(farthest)}" if numbers else "answers equal"


def _within(distance: float) -> str:
    return "equal" if distance == 0 else f"within {distance:.1g}"


def _compare_labels(found: Any, known: Answers, indexed: bool, classes: list[Any] | None) -> int:
    """Return how many labels differ where two classes tie exactly."""
    labels = np.asarray(classes)[found] if indexed else np.asarray(found)
    different = np.flatnonzero(labels != np.asarray(known.predictions))
    if not len(different):
        return 0
    top = np.sort(known.table[different], axis=1)
    tied = top[:, -1] - top[:, -2] <= TIE
    if not tied.all():
        raise Disagreement(f"{int((~tied).sum())} of {known.batch.rows} labels differ")
    return len(different)


def _usual(answers: list[Any]) -> Any:
    """Return the usual size of numbers in answers, by name where they have names."""
    if isinstance(answers[0], dict):
        return {name: _usual([answer[name] for answer in answers]) for name in answers[0]}
    if answers[0].dtype.kind != "f":
        return 0.0
    sizes = [np.abs(answer[np.isfinite(answer)]) for answer in answers]
    return float(np.median([size.mean() for size in sizes if size.size] or [0.0]))


def _distance(ours: Any, theirs: Any, usual: Any) -> float | None:
    """Return the largest relative distance of numbers; None of what else is equal."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or ours.keys() != theirs.keys():
            raise Disagreement("other outputs")
        distances = [_distance(ours[name], theirs[name], usual[name]) for name in theirs]
        return max((d for d in distances if d is not None), default=None)
    if ours.shape != theirs.shape:
        raise Disagreement(f"answers of shape {ours.shape}, not {theirs.shape}")
    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        different = int((ours != theirs).sum())
        if different:
            raise Disagreement(f"{different} of {ours.size} answers differ")
        return None
    finite = np.isfinite(theirs)
    if (np.isfinite(ours) != finite).any():
        raise Disagreement("answers that are not finite differ")
    ours, theirs = ours[finite].astype(np.float64), theirs[finite].astype(np.float64)
    # What is small beside the usual answer is a difference of large numbers.
    scale = np.abs(theirs) + usual
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(ours == theirs, 0.0, np.abs(ours - theirs) / scale)
    distance = float(relative.max(initial=0))
    if not distance <= RELATIVE_TOLERANCE:
        raise Disagreement(f"numbers differ by up to {distance:.1g} of themselves")
    return distance


def _plain(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: np.asarray(values) for name, values in answer.items()}
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        return {str(name): answer[name].to_numpy() for name in answer.columns}
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return {str(name): np.asarray([row[name] for row in answer]) for name in answer[0]}
    return np.asarray(answer)


# ---- candidates ---------------------------------------------------------------------------------


def _native(source: _Source, decoder: Decoder) -> Iterator[Candidate]:
    """Yield the ways to use the model's own library, the best first."""
    options = source.options
    if source.kind == "sklearn":
        how = options | {"method": source.method}
        if decoder.layout.dtype is not None:
            yield Candidate("sklearn", how | {"input": "array"})
        if not decoder.tensors:
            yield Candidate("sklearn", how | {"input": "frame"})
    elif source.kind in ("xgboost", "lightgbm") and decoder.layout.dtype is not None:
        yield Candidate(
            source.kind,
            options
            | {
                "output": "index" if source.classes is not None else "values",
                "iterations": best_iterations(source.estimator),
            },
        )
    elif source.kind == "onnx-flavor":
        yield Candidate("onnx-flavor", options)


def best_iterations(model: Any) -> int | None:
    """Return how many of its trees a boosted model uses; None if all."""
    if getattr(model, "evals_result_", None) and hasattr(model, "get_booster"):
        best = getattr(model.get_booster(), "best_iteration", None)
        return None if best is None else best + 1
    return getattr(model, "best_iteration_", None) or None


def _compiled(
    source: _Source, decoder: Decoder, answers: list[Answers], work: Path
) -> Iterator[Candidate]:
    """Yield what the model can be compiled to; a compiler that refuses it says why."""
    if source.estimator is None:
        return
    if source.method != "predict":
        yield Candidate("onnx", failure=f"it predicts by {source.method}")
        return
    if not _categories_covered(source.estimator, decoder):
        yield Candidate("onnx", failure="it would take categories that the model itself refuses")
        return
    flat = np.ndim(answers[0].predictions) == 1
    if source.kind != "sklearn":
        yield from _treelite(source, source.estimator, [], work, flat)
        return
    whole = source.load()
    nodes = sampling.nodes(sampling.last_step(whole))
    if nodes > MOST_NODES:
        yield Candidate("onnx", failure=f"its trees have {nodes} nodes, too many to convert")
    else:
        yield from _onnx(source, whole, decoder, work, flat)
    trees, scaling = _trees_behind_scalers(whole)
    if trees is None or decoder.layout.dtype is None:
        return
    if scaling and 0 < nodes <= MOST_NODES:
        yield from _onnx(source, trees, decoder, work, flat, scaling)
    yield from _treelite(source, trees, scaling, work, flat)


def _trees_behind_scalers(estimator: Any) -> tuple[Any, list[tuple[str, list[float]]]]:
    """Return the trees of an estimator and the scaling before them, which is done apart.

    Trees that see numbers of 32 bits must see them scaled in 64, as scikit-learn scales them.
    """
    *scalers, (_, last) = getattr(estimator, "steps", None) or [("", estimator)]
    if not sampling.trees(last) and sampling.booster_of(last) is None:
        return None, []
    scaling: list[tuple[str, list[float]]] = []
    for _, scaler in scalers:
        attributes = _SCALERS.get(type(scaler).__name__)
        if attributes is None or getattr(scaler, "clip", False):
            return None, []
        for operation, attribute in attributes:
            if (values := getattr(scaler, attribute)) is not None:
                scaling.append((operation, values.tolist()))
    return last, scaling


def _onnx(
    source: _Source,
    estimator: Any,
    decoder: Decoder,
    work: Path,
    flat: bool,
    scaling: Sequence[tuple[str, list[float]]] = (),
) -> Iterator[Candidate]:
    from skl2onnx import to_onnx

    classifies = hasattr(estimator, "predict_proba")
    options = {id(estimator): {"zipmap": False}} if classifies else None
    # ONNX has no trees that answer in 64 bits.
    for dtype in ("float32",) if sampling.trees(estimator) else ("float32", "float64"):
        try:
            types, inputs = _onnx_inputs(estimator, decoder, dtype)
            graph = to_onnx(
                estimator, initial_types=types, options=options, target_opset=_TARGET_OPSET
            )
        except Exception as error:
            yield Candidate("onnx", {"dtype": dtype}, failure=first_line(error))
            continue
        file = work / f"compiled-{dtype}{'-scaled' if scaling else ''}.onnx"
        file.write_bytes(graph.SerializeToString())
        outputs = [output.name for output in graph.graph.output]
        indexed = source.classes is not None
        yield Candidate(
            "onnx",
            {
                "file": file.name,
                "dtype": dtype,
                "scaling": scaling,
                "output": "index" if indexed else "values",
                "result": outputs[1] if indexed else outputs[0],
                "inputs": inputs,
                "flat": flat,
            },
        )


def _onnx_inputs(
    estimator: Any, decoder: Decoder, dtype: str
) -> tuple[list[tuple[str, Any]], dict[str, Any] | None]:
    """Return the graph's inputs: one array, or each column by its name where steps choose by it."""
    from skl2onnx.common import data_types as onnx_types

    number = {"float32": onnx_types.FloatTensorType, "float64": onnx_types.DoubleTensorType}[dtype]
    if decoder.tensors:
        [tensor] = decoder.tensors
        if len(tensor.shape) != 2:
            raise ValueError("only rows of one dimension are compiled")
        return [("rows", number([None, tensor.shape[1]]))], None
    if decoder.layout.dtype is not None and not _chooses_columns(estimator):
        return [("rows", number([None, len(decoder.columns)]))], None
    types, inputs = [], {}
    for place, column in enumerate(decoder.columns):
        if column.type == "string" and column.required:
            kind, plain = onnx_types.StringTensorType, "object"
        elif column.type in ("float", "double") or (column.numeric and not column.required):
            kind, plain = number, dtype
        elif column.type in ("integer", "long"):
            kind, plain = onnx_types.Int64TensorType, "int64"
        else:
            raise ValueError(f"column {column.name!r} of type {column.type} is not compiled")
        types.append((column.name, kind([None, 1])))
        inputs[column.name] = [place, plain]
    return types, inputs


def _chooses_columns(estimator: Any) -> bool:
    return any(hasattr(part, "transformers_") for part in _parts(estimator))


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and its steps, at any depth."""
    yield estimator
    for _, step in getattr(estimator, "steps", None) or []:
        if step is not None and not isinstance(step, str):
            yield from _parts(step)
    for _, step, *_ in getattr(estimator, "transformers_", None) or []:
        if not isinstance(step, str):
            yield from _parts(step)


def _treelite(
    source: _Source,
    estimator: Any,
    scaling: Sequence[tuple[str, list[float]]],
    work: Path,
    flat: bool,
) -> Iterator[Candidate]:
    import treelite

    try:
        core = sampling.booster_of(estimator)
        if core is None:
            model = treelite.sklearn.import_model(estimator)
        elif type(core).__module__.startswith("xgboost"):
            best = best_iterations(estimator)
            model = treelite.frontend.from_xgboost(core if best is None else core[:best])
        else:
            model = treelite.frontend.from_lightgbm(core)
    except Exception as error:
        yield Candidate("treelite", failure=first_line(error))
        return
    file = work / "compiled-treelite.bin"
    model.serialize(file)
    # scikit-learn's trees, but for the histogram ones, and XGBoost's see numbers of 32 bits.
    for dtype in ("float32", "float64"):
        yield Candidate(
            "treelite",
            {
                "file": file.name,
                "dtype": dtype,
                "scaling": scaling,
                "output": "index" if source.classes is not None else "values",
                "flat": flat,
            },
        )


# ---- categories ---------------------------------------------------------------------------------


def known_categories(estimator: Any, decoder: Decoder) -> dict[str, list[Any]]:
    """Return, by column, the values that an estimator's encoders have seen and insist on."""
    if decoder.tensors:
        return {}
    columns = [column.name for column in decoder.columns]
    types = {column.name: column.type for column in decoder.columns}
    found: dict[str, list[Any]] = {}
    for encoder, names in _encoders(estimator, columns):
        if names is None or not _insists(encoder):
            continue
        for name, values in zip(names, encoder.categories_, strict=True):
            plain = [value for value in values.tolist() if isinstance(value, str | int)]
            if types.get(name) in ("string", "integer", "long") and plain:
                kept = found.get(name, plain)
                found[name] = [value for value in kept if value in plain]
    return found


def _insists(encoder: Any) -> bool:
    return hasattr(encoder, "categories_") and getattr(encoder, "handle_unknown", "") == "error"


def _encoders(part: Any, columns: list[str] | None) -> Iterator[tuple[Any, list[str] | None]]:
    """Yield encoders with the columns that they encode; None where those are not the request's."""
    if hasattr(part, "categories_"):
        names = columns if columns is not None and len(columns) == len(part.categories_) else None
        yield part, names
    for _, step in getattr(part, "steps", None) or []:
        if step is None or isinstance(step, str):
            continue
        yield from _encoders(step, columns)
        if type(step).__name__ != "SimpleImputer":
            columns = None
    for _, step, chosen in getattr(part, "transformers_", None) or []:
        if not isinstance(step, str):
            yield from _encoders(step, _selected(chosen, columns))


def _selected(chosen: Any, columns: list[str] | None) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(chosen, str | int):
        chosen = [chosen]
    if isinstance(chosen, slice):
        return columns[chosen] if isinstance(chosen.start, int | None) else None
    chosen = list(chosen)
    if chosen and all(isinstance(one, bool | np.bool_) for one in chosen):
        return [name for name, use in zip(columns, chosen, strict=True) if use]
    return [one if isinstance(one, str) else columns[one] for one in chosen]


def _categories_covered(estimator: Any, decoder: Decoder) -> bool:
    """Tell whether the decoder refuses whatever category the estimator would refuse."""
    known = {column.name for column in decoder.columns if column.categories is not None}
    names = None if decoder.tensors else [column.name for column in decoder.columns]
    return all(
        columns is not None and set(columns) <= known
        for encoder, columns in _encoders(estimator, names)
        if _insists(encoder)
    )
