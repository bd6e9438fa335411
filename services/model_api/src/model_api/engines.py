"""What computes a model's answers: the library that it was made with, or what it was compiled to.

An engine is opened from the folder of a prepared version and the options that were found good for
it when it was prepared. Nothing heavy is imported before an engine needs it: a compiled model
brings neither scikit-learn, nor pandas, nor MLflow into the process.
"""

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from model_api.batch import Batch
from model_api.checking import ERRORS_SHOWN, invalid_rows
from model_api.program import Program, narrow

MODEL_FOLDER = "model"
ARRAYS = "compiled.npz"


class Engine:
    """Computes the answers of one model.

    Args:
        folder: of the prepared version.
        options: as they stand in its manifest.

    Attributes:
        indexed: whether ``predict`` answers with places in the list of classes, not with labels.
        takes_params: whether ``predict`` heeds the parameters of a request. A model that has any
            is answered only by an engine that does.
    """

    name: ClassVar[str]
    indexed: bool = False
    takes_params: ClassVar[bool] = False

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def predict(self, batch: Batch) -> Any:
        """Return one answer a row: an array, a list, a frame or, of tensors, a dict of arrays."""
        raise NotImplementedError

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        """Return the same and the probabilities (rows, classes)."""
        raise NotImplementedError(f"{self.name} tells no probabilities")


def open_engine(name: str, folder: Path, options: dict[str, Any]) -> Engine:
    """Return the engine of that name for a prepared version."""
    # OpenMP reads it when the first library brings it in.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return ENGINES[name](folder, options)


# ---- the libraries that models are made with ----------------------------------------------------


class PyfuncEngine(Engine):
    """MLflow's pyfunc, its checks of the input included: takes every flavor."""

    name = "pyfunc"
    takes_params = True

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        import mlflow.pyfunc

        self.model = mlflow.pyfunc.load_model(str(folder / MODEL_FOLDER))

    def predict(self, batch: Batch) -> Any:
        return self.model.predict(batch.native(), params=batch.params)

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        table = self.model.get_raw_model().predict_proba(batch.native())
        return self.predict(batch), np.asarray(table)


class SklearnEngine(Engine):
    """scikit-learn's own ``predict``, on an array where that answers the same as on a frame.

    Options: ``input``, "array" or "frame"; ``method``, the function that predicts;
    ``file``, ``format``, ``trusted``: how the estimator is stored.
    """

    name = "sklearn"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.estimator = load_estimator(folder, options)
        one_thread()
        self._frame = options["input"] == "frame"
        tune(self.estimator, keep_names=self._frame)
        self._predict = getattr(self.estimator, options["method"])

    def predict(self, batch: Batch) -> Any:
        _configure_thread()
        return self._predict(batch.frame() if self._frame else batch.array())

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        _configure_thread()
        rows = batch.frame() if self._frame else batch.array()
        return self._predict(rows), self.estimator.predict_proba(rows)


class _BoosterEngine(Engine):
    """Boosted trees by their library's core, without its wrapper in scikit-learn's style.

    Options: ``label``, see `places`; ``iterations``, those that predict, or null; ``missing``, what
    stands for a missing value besides null, or null; ``bounded``, whether what 32 bits cannot hold
    is refused; ``file``.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self._label = options["label"]
        self.indexed = self._label is not None
        self._score = self._open(folder / MODEL_FOLDER, options)

    def _open(self, folder: Path, options: dict[str, Any]) -> Callable[[Batch], np.ndarray]:
        raise NotImplementedError

    def predict(self, batch: Batch) -> Any:
        scores = self._score(batch)
        return places(scores, table_of(scores), self._label) if self.indexed else scores

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        scores = self._score(batch)
        table = table_of(scores)
        return places(scores, table, self._label), table


class XgboostEngine(_BoosterEngine):
    """XGBoost's booster, which predicts arrays in place."""

    name = "xgboost"

    def _open(self, folder: Path, options: dict[str, Any]) -> Callable[[Batch], np.ndarray]:
        import xgboost

        booster = xgboost.Booster(model_file=str(folder / options["file"]))
        booster.set_param({"nthread": 1})
        span = (0, options["iterations"] or 0)
        missing = np.nan if options["missing"] is None else options["missing"]

        def score(batch: Batch) -> np.ndarray:
            rows = narrow(batch)
            if options["bounded"] and np.isinf(rows).any():
                raise _beyond_float32(batch)
            return booster.inplace_predict(
                rows, iteration_range=span, missing=missing, validate_features=False
            )

        return score


class LightgbmEngine(_BoosterEngine):
    """LightGBM's booster."""

    name = "lightgbm"

    def _open(self, folder: Path, options: dict[str, Any]) -> Callable[[Batch], np.ndarray]:
        import lightgbm

        if options["format"] == "text":
            booster = lightgbm.Booster(model_file=str(folder / options["file"]))
        else:
            booster = load_estimator(folder.parent, options).booster_

        def score(batch: Batch) -> np.ndarray:
            rows = batch.array()
            # Of an array of whole numbers LightGBM keeps 32 bits, of a frame 64.
            return booster.predict(
                rows if rows.dtype.kind == "f" else rows.astype(np.float64),
                num_iteration=options["iterations"],
                num_threads=1,
                validate_features=False,
            )

        return score


class OnnxFlavorEngine(Engine):
    """ONNX Runtime on a model that was logged as ONNX; answers as MLflow's pyfunc does.

    Options: ``file``.
    """

    name = "onnx-flavor"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self._session = session(folder / MODEL_FOLDER / options["file"])
        self._inputs = {entry.name: entry.type for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def predict(self, batch: Batch) -> Any:
        feeds, as_table = self._feeds(batch)
        answers = self._session.run(self._outputs, feeds)
        if not as_table:
            return dict(zip(self._outputs, answers, strict=True))
        columns = [np.asarray(answer).reshape(-1).tolist() for answer in answers]
        rows = zip(*columns, strict=True)
        return [dict(zip(self._outputs, row, strict=True)) for row in rows]

    def _feeds(self, batch: Batch) -> tuple[dict[str, np.ndarray], bool]:
        tensors = batch.tensors()
        if tensors is not None:
            [*names] = self._inputs
            feeds = {name if name is not None else names[0]: t for name, t in tensors.items()}
        elif len(self._inputs) == 1:
            [name] = self._inputs
            feeds = {name: batch.array()}
        else:
            frame = batch.frame()
            feeds = {name: frame[name].to_numpy() for name in self._inputs}
        for name, kind in self._inputs.items():
            if kind == "tensor(float)" and feeds[name].dtype == np.float64:
                feeds[name] = feeds[name].astype(np.float32)
        return feeds, tensors is None


# ---- what models are compiled to ----------------------------------------------------------------


class _Compiled(Engine):
    """A program, which makes the rows what the predictor takes, and the predictor.

    Options: ``program``, see `model_api.program`; ``link``, see `linked`; ``label``, see
    `places`; ``parts``, how many trees a forest averages. Its arrays are in ``compiled.npz``.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        # Arrays are read from it when they are asked for; the open file outlives its name.
        self._arrays = np.load(folder / ARRAYS)
        self._program = Program(options["program"], self._arrays)
        self._link: str | None = options["link"]
        self._label: str | None = options["label"]
        self._parts: int = options.get("parts", 1)
        self.indexed = self._label is not None

    def _raw(self, batch: Batch) -> np.ndarray:
        """Return the sums (rows, outputs) that labels and probabilities are made of."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Any:
        raw = self._raw(batch)
        if not self.indexed:
            return self._values(raw)
        rule = self._label
        if rule in OF_TABLE and (self._link == "share" or len(undecided(raw))):
            return places(raw, self._table(raw), rule)
        # Of sums that are far apart, the probabilities have the same order.
        return places(raw, raw, OF_TABLE.get(rule, rule))

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        raw = self._raw(batch)
        table = self._table(raw)
        return places(raw, table, self._label), table

    def _table(self, raw: np.ndarray) -> np.ndarray:
        return table_of(linked(raw, self._link, self._parts))

    def _values(self, raw: np.ndarray) -> np.ndarray:
        """Return the answer of a model that tells no labels."""
        values = linked(raw, self._link, self._parts)
        return values.reshape(-1) if values.shape[1] == 1 else values


class LinearEngine(_Compiled):
    """A linear model: one product of matrices, as scikit-learn computes it."""

    name = "numpy"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        super().__init__(folder, options)
        # As scikit-learn has it, a view: products of another layout round otherwise.
        self._coefficients = self._arrays["coefficients"].T
        self._intercept = self._arrays["intercept"]

    def _raw(self, batch: Batch) -> np.ndarray:
        rows = self._program.rows(batch)
        if not np.isfinite(rows).all():
            raise ValueError("Input X contains NaN or infinity")
        return rows @ self._coefficients + self._intercept

    def _values(self, raw: np.ndarray) -> np.ndarray:
        # One target of two dimensions is answered in two.
        return raw


class CompiledOnnxEngine(_Compiled):
    """Trees of scikit-learn by ONNX Runtime.

    It sums in 64 bits and answers in 32. Where two classes are so near that this could decide
    between them, the sums are repeated here in 64 bits, in scikit-learn's order.

    Further options: ``graph``, the file; ``missing``, whether it takes missing values.
    """

    name = "onnx"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        super().__init__(folder, options)
        self._session = session(folder / options["graph"])
        self._missing: bool = options["missing"]
        self._exact: ExactTrees | None = None

    def _raw(self, batch: Batch) -> np.ndarray:
        given = self._program.rows(batch)
        rows = _narrowed(batch, given, self._missing).astype(np.float64)
        [sums] = self._session.run(None, {"rows": rows})
        sums = sums.astype(np.float64)
        if self.indexed:
            near = undecided(sums)
            if len(near):
                if self._exact is None:
                    self._exact = ExactTrees(self._arrays)
                sums[near] = self._exact.sums(rows[near])
        return sums


class TreeliteEngine(_Compiled):
    """treelite's interpreter of trees, which sums in the order and precision of the libraries.

    Further options: ``trees``, the file; ``dtype``, what the rows are rounded to; ``bounded``,
    whether what it cannot hold is refused.
    """

    name = "treelite"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        import treelite

        super().__init__(folder, options)
        self._dtype = np.dtype(options["dtype"])
        self._bounded: bool = options["bounded"]
        self._model = treelite.Model.deserialize(folder / options["trees"])
        self._run = treelite.gtil.predict

    def _raw(self, batch: Batch) -> np.ndarray:
        rows = self._program.rows(batch)
        with np.errstate(over="ignore"):
            rows = rows.astype(self._dtype, order="C", copy=False)
        if self._bounded and np.isinf(rows).any():
            raise _beyond_float32(batch)
        return self._run(self._model, rows, nthread=1, pred_margin=True)[:, 0, :]


class ExactTrees:
    """Trees of scikit-learn, summed in its order: slow, and the same to the last bit.

    Args:
        arrays: of `model_api.compiling.trees.Table`.
    """

    _ROWS_AT_ONCE = 128

    def __init__(self, arrays: Any) -> None:
        self._roots = arrays["roots"]
        self._feature, self._threshold = arrays["feature"], arrays["threshold"]
        self._left, self._right = arrays["left"], arrays["right"]
        self._missing_left, self._weights = arrays["missing_left"], arrays["weights"]
        self._base = arrays["base"]

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Return the sums (rows, outputs) of rows that were rounded to 32 bits."""
        step = self._ROWS_AT_ONCE
        parts = [self._sums(rows[start : start + step]) for start in range(0, len(rows), step)]
        return np.concatenate(parts)

    def _sums(self, rows: np.ndarray) -> np.ndarray:
        nodes = np.broadcast_to(self._roots, (len(rows), len(self._roots)))
        numbers = np.arange(len(rows))[:, None]
        while True:
            values = rows[numbers, self._feature[nodes]]
            goes_left = np.where(
                np.isnan(values), self._missing_left[nodes], values <= self._threshold[nodes]
            )
            following = np.where(goes_left, self._left[nodes], self._right[nodes])
            if (following == nodes).all():
                break
            nodes = following
        sums = np.tile(self._base, (len(rows), 1))
        for tree in range(len(self._roots)):
            sums += self._weights[nodes[:, tree]]
        return sums


def undecided(sums: np.ndarray) -> np.ndarray:
    """Return the rows in which rounding to 32 bits could change which output is the largest.

    One output alone is compared with zero.
    """
    if len(sums) == 1:
        # Most requests have one row, and for one Python is faster.
        *_, second, top = sorted([0.0, *sums[0].tolist()] if sums.shape[1] == 1 else sums[0])
        return _NONE if top - second > _NEAR * (1 + abs(top)) else _FIRST
    if sums.shape[1] == 1:
        top, second = np.abs(sums[:, 0]), 0.0
    else:
        second, top = np.partition(sums, -2, axis=1)[:, -2:].T
    return np.flatnonzero(~(top - second > _NEAR * (1 + np.abs(top))))


# Sums of 32 bits are rounded by less, by far.
_NEAR = 1e-6
_NONE, _FIRST = np.array([], np.intp), np.array([0])


def _narrowed(batch: Batch, rows: np.ndarray, missing: bool) -> np.ndarray:
    """Return rows in 32 bits; what these cannot hold is refused, as scikit-learn does.

    Args:
        batch: that the rows come of.
        rows: as the model takes them.
        missing: whether NaN is let pass.
    """
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float32, order="C", copy=False)
    if np.isfinite(rounded).all():
        return rounded
    if np.isinf(rounded).any():
        raise _beyond_float32(batch)
    if not missing:
        raise ValueError("Input X contains NaN")
    return rounded


ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        PyfuncEngine,
        SklearnEngine,
        XgboostEngine,
        LightgbmEngine,
        OnnxFlavorEngine,
        LinearEngine,
        CompiledOnnxEngine,
        TreeliteEngine,
    )
}

COMPILED = frozenset((LinearEngine.name, CompiledOnnxEngine.name, TreeliteEngine.name))


# ---- what they share ----------------------------------------------------------------------------


def table_of(scores: np.ndarray) -> np.ndarray:
    """Return the probabilities (rows, classes) of scores that may tell only that of class 1."""
    if scores.ndim == 1:
        scores = scores.reshape(-1, 1)
    return np.hstack([1 - scores, scores]) if scores.shape[1] == 1 else scores


def linked(raw: np.ndarray, link: str | None, parts: int) -> np.ndarray:
    """Return what a model's library makes of its sums: probabilities, or means.

    Args:
        raw: (rows, outputs); one output for two classes.
        link: None for the sums themselves; "logistic" or "softmax", with "32" where the library
            computes in 32 bits; "share", the mean of ``parts``.
        parts: see ``link``.
    """
    match link:
        case None:
            return raw
        case "share":
            return raw / parts
        case "logistic":
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(-raw))
        case "logistic32":
            # XGBoost adds 1e-16 to what it divides by, which 32 bits do not hold.
            power = np.exp(-np.maximum(raw, -88.7).astype(np.float64)).astype(np.float32)
            return np.float32(1) / (power + np.float32(1))
        case "softmax":
            powers = np.exp(raw - raw.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        case "softmax32":
            powers = np.exp((raw - raw.max(axis=1, keepdims=True)).astype(np.float64))
            powers = powers.astype(np.float32)
            total = powers.sum(axis=1, keepdims=True, dtype=np.float64)
            return powers / total.astype(np.float32)
    raise NotImplementedError(f"probabilities by {link}")


# Rules for probabilities, and what they come to for the sums.
OF_TABLE = {"largest-of-table": "largest", "above-half": "positive"}


def places(raw: np.ndarray, table: np.ndarray, rule: str | None) -> np.ndarray:
    """Return the places of the labels in the list of classes, by the rule of the model's library.

    Args:
        raw: (rows, outputs), or (rows) if there is one output.
        table: (rows, classes) of probabilities.
        rule: "largest" or "largest-of-table", the first of the largest; of two classes the second
            if the sum is "positive" or "not-negative", or its probability "above-half".
    """
    match rule:
        case "largest":
            return raw.argmax(axis=1)
        case "largest-of-table":
            return table.argmax(axis=1)
        case "above-half":
            return (table[:, 1] > 0.5).astype(np.intp)
        case "positive":
            return (raw.reshape(-1) > 0).astype(np.intp)
        case "not-negative":
            return (raw.reshape(-1) >= 0).astype(np.intp)
    raise NotImplementedError(f"labels by {rule}")


def session(path: Path) -> Any:
    """Return ONNX Runtime's session of a model, which computes in the thread that asks."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load_estimator(folder: Path, options: dict[str, Any]) -> Any:
    """Return the estimator of a prepared version, stored as ``options`` say.

    Loading runs the model's code; MLflow's own loader has let it pass when it was prepared.
    """
    path = folder / MODEL_FOLDER / options["file"]
    for code in options.get("code") or []:
        import mlflow.pyfunc.model  # noqa: F401
        from mlflow.utils.model_utils import _add_code_to_system_path

        _add_code_to_system_path(str(folder / MODEL_FOLDER / code))
    if options["format"] == "skops":
        import skops.io

        return skops.io.load(path, trusted=options["trusted"])
    with path.open("rb") as file:
        # cloudpickle writes what pickle reads.
        return pickle.load(file)


def parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and all estimators within it, wherever they are kept."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif hasattr(part, "get_params") and hasattr(part, "__dict__"):
            waiting.extend(part.__dict__.values())
            yield part


def tune(estimator: Any, keep_names: bool) -> None:
    """Make an estimator, and all within it, answer one request with as little ado as possible.

    Args:
        estimator: changed in place.
        keep_names: whether frames come, whose names it should go on to check.
    """
    for part in list(parts(estimator)):
        if not keep_names:
            # Else each call warns that the array has no names.
            part.__dict__.pop("feature_names_in_", None)
        if "n_jobs" in part.__dict__:
            # The service has as many processes as it is to use; threads for a row cost more than
            # they save.
            part.n_jobs = 1
        if "verbose" in part.__dict__:
            part.verbose = 0


_threads = threading.local()


def _configure_thread() -> None:
    """Switch off what scikit-learn checks of its parameters at each call, in this thread."""
    if not getattr(_threads, "configured", False):
        import sklearn

        # Infinities and NaN are still looked for: trees refuse what 32 bits cannot hold.
        sklearn.set_config(skip_parameter_validation=True)
        _threads.configured = True


def one_thread() -> None:
    """Have the libraries of linear algebra, once loaded, compute in the thread that asks."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _beyond_float32(batch: Batch) -> Exception:
    most = float(np.finfo(np.float32).max)
    places = [
        (row, name)
        for name, values in batch.columns().items()
        for row, value in enumerate(values)
        if isinstance(value, int | float) and abs(value) > most
    ]
    if not places:
        return ValueError("Input X contains a value too large for 32 bits, once it is scaled")
    detail = "is beyond the range of the 32 bits that the model computes with"
    first = nsmallest(ERRORS_SHOWN, places, key=itemgetter(0))
    errors = [{"row": row, "field": name, "detail": detail} for row, name in first]
    return invalid_rows(errors, len(places))
