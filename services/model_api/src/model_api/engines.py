"""What computes a model's answers: the library that it was made with, or what it was compiled to.

An engine is opened from the folder of a prepared version and the options that were found good for
it when it was prepared. Nothing heavy is imported before an engine needs it: a compiled model
brings neither scikit-learn, nor pandas, nor MLflow into the process.
"""

import os
import pickle
import threading
from collections.abc import Callable
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from model_api.batch import Batch
from model_api.checking import ERRORS_SHOWN, invalid_rows

MODEL_FOLDER = "model"


class Engine:
    """Computes the answers of one model.

    Args:
        folder: of the prepared version.
        options: as they stand in its manifest.

    Attributes:
        indexed: whether ``predict`` answers with places in the list of classes, not with labels.
    """

    name: ClassVar[str]
    indexed: bool = False

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

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        import mlflow.pyfunc

        self._model = mlflow.pyfunc.load_model(str(folder / MODEL_FOLDER))

    def predict(self, batch: Batch) -> Any:
        return self._model.predict(batch.native(), params=batch.params)


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

    Options: ``output``, "index" for classifiers, else "values"; ``iterations``, those of the best
    score, or null; ``file``.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.indexed = options["output"] == "index"
        self._score = self._open(folder / MODEL_FOLDER, options)

    def _open(self, folder: Path, options: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        raise NotImplementedError

    def predict(self, batch: Batch) -> Any:
        scores = self._score(batch.array())
        return table_of(scores).argmax(axis=1) if self.indexed else scores

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        table = table_of(self._score(batch.array()))
        return table.argmax(axis=1), table


class XgboostEngine(_BoosterEngine):
    """XGBoost's booster, which predicts arrays in place."""

    name = "xgboost"

    def _open(self, folder: Path, options: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        import xgboost

        booster = xgboost.Booster(model_file=str(folder / options["file"]))
        booster.set_param({"nthread": 1})
        span = (0, options["iterations"] or 0)
        return lambda rows: booster.inplace_predict(
            rows, iteration_range=span, validate_features=False
        )


class LightgbmEngine(_BoosterEngine):
    """LightGBM's booster."""

    name = "lightgbm"

    def _open(self, folder: Path, options: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        import lightgbm

        if options["format"] == "text":
            booster = lightgbm.Booster(model_file=str(folder / options["file"]))
        else:
            booster = load_estimator(folder.parent, options).booster_
        return lambda rows: booster.predict(
            rows, num_iteration=options["iterations"], num_threads=1, validate_features=False
        )


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
    """Options: ``file``; ``scaling``, what is done to the values first, operation by operation;
    ``dtype`` that they are then rounded to; ``output``, "index", "labels" or
    "values"; ``flat``, whether one value a row answers, not a list of one.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self._dtype = np.dtype(options["dtype"])
        self._flat = options["flat"]
        self._scaling = [
            (getattr(np, operation), np.array(values)) for operation, values in options["scaling"]
        ]
        self.indexed = options["output"] == "index"

    def _rows(self, batch: Batch) -> np.ndarray:
        rows = batch.array()
        for operation, values in self._scaling:
            rows = operation(rows, values)
        if rows.dtype == self._dtype:
            return np.ascontiguousarray(rows)
        return self._rounded(batch, rows, self._dtype)

    @staticmethod
    def _rounded(batch: Batch, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        with np.errstate(over="ignore"):
            rounded = values.astype(dtype, order="C")
        if dtype == np.float32 and np.isinf(rounded).any():
            raise _beyond_float32(batch)
        return rounded

    def _shaped(self, answer: np.ndarray) -> np.ndarray:
        return answer.reshape(len(answer)) if self._flat else answer.reshape(len(answer), -1)


class CompiledOnnxEngine(_Compiled):
    """ONNX Runtime.

    Further options: ``result``, the name of the output that answers; ``inputs``, by name the place
    and the type of the column, where columns come one by one.
    """

    name = "onnx"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        super().__init__(folder, options)
        self._session = session(folder / options["file"])
        self._result = [options["result"]]
        self._inputs = options.get("inputs")
        self._input = self._session.get_inputs()[0].name

    def _run(self, batch: Batch) -> np.ndarray:
        return self._session.run(self._result, self._feeds(batch))[0]

    def _feeds(self, batch: Batch) -> dict[str, np.ndarray]:
        if self._inputs is None:
            return {self._input: self._rows(batch)}
        columns = list(zip(*batch.tuples(), strict=True))
        feeds = {}
        for name, (place, kind) in self._inputs.items():
            values = np.array(columns[place], np.float64 if kind == "float32" else kind)
            if kind == "float32":
                values = self._rounded(batch, values, np.dtype(np.float32))
            feeds[name] = values.reshape(-1, 1)
        return feeds

    def predict(self, batch: Batch) -> Any:
        answer = self._run(batch)
        return answer.argmax(axis=1) if self.indexed else self._shaped(answer)

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        table = self._run(batch)
        # Floats of 32 bits sum up to a little more than 1.
        return table.argmax(axis=1), np.minimum(table, 1, out=table)


class TreeliteEngine(_Compiled):
    """treelite's interpreter of trees, which sums in double precision as the libraries do."""

    name = "treelite"

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        import treelite

        super().__init__(folder, options)
        self._model = treelite.Model.deserialize(folder / options["file"])
        self._run = treelite.gtil.predict

    def predict(self, batch: Batch) -> Any:
        answer = self._run(self._model, self._rows(batch), nthread=1)
        return table_of(answer[:, 0, :]).argmax(axis=1) if self.indexed else self._shaped(answer)

    def predict_both(self, batch: Batch) -> tuple[Any, np.ndarray]:
        answer = self._run(self._model, self._rows(batch), nthread=1)
        table = table_of(answer[:, 0, :])
        return table.argmax(axis=1), table


ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        PyfuncEngine,
        SklearnEngine,
        XgboostEngine,
        LightgbmEngine,
        OnnxFlavorEngine,
        CompiledOnnxEngine,
        TreeliteEngine,
    )
}

COMPILED = frozenset((CompiledOnnxEngine.name, TreeliteEngine.name))


# ---- what they share ----------------------------------------------------------------------------


def table_of(scores: np.ndarray) -> np.ndarray:
    """Return the probabilities (rows, classes) of scores that may tell only that of class 1."""
    if scores.ndim == 1:
        scores = scores.reshape(-1, 1)
    return np.hstack([1 - scores, scores]) if scores.shape[1] == 1 else scores


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


def tune(estimator: Any, keep_names: bool) -> None:
    """Make an estimator, and all within it, answer one request with as little ado as possible.

    Args:
        estimator: changed in place.
        keep_names: whether frames come, whose names it should go on to check.
    """
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
            if not keep_names:
                # Else each call warns that the array has no names.
                part.__dict__.pop("feature_names_in_", None)
            if "n_jobs" in part.__dict__:
                # The service has as many processes as it is to use; threads for a row cost more
                # than they save.
                part.n_jobs = 1
            if "verbose" in part.__dict__:
                part.verbose = 0
            waiting.extend(part.__dict__.values())


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
    detail = "is beyond the range of the 32 bits that the model computes with"
    first = nsmallest(ERRORS_SHOWN, places, key=itemgetter(0))
    errors = [{"row": row, "field": name, "detail": detail} for row, name in first]
    return invalid_rows(errors, len(places))
