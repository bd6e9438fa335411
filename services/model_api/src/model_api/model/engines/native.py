"""Engines that use the models' own libraries."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from model_api.model.batch import Batch
from model_api.model.engines.answers import beyond_float32, places, table_of
from model_api.model.engines.base import MODEL_FOLDER, Engine
from model_api.model.engines.estimators import configure_thread, load_estimator, one_thread, tune
from model_api.model.engines.sessions import session
from model_api.model.program import narrow
from model_api.model.untyped import JsonObject, Prediction


class PyfuncEngine(Engine):
    """MLflow's pyfunc, including its checks of the input; it supports every flavor."""

    name = "pyfunc"
    takes_params = True

    def __init__(self, folder: Path, options: JsonObject) -> None:
        import mlflow.pyfunc

        self.model = mlflow.pyfunc.load_model(str(folder / MODEL_FOLDER))

    def predict(self, batch: Batch) -> Prediction:
        return self.model.predict(batch.native(), params=batch.params)

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        table = self.model.get_raw_model().predict_proba(batch.native())
        return self.predict(batch), np.asarray(table)


class SklearnEngine(Engine):
    """scikit-learn's own ``predict``, on an array if that gives the same answer as a frame.

    Options: ``input``, "array" or "frame"; ``method``, the function that predicts;
    ``file``, ``format``, ``trusted``: how the estimator is stored.
    """

    name = "sklearn"

    def __init__(self, folder: Path, options: JsonObject) -> None:
        self.estimator = load_estimator(folder, options)
        one_thread()
        self._frame = options["input"] == "frame"
        tune(self.estimator, keep_names=self._frame)
        self._predict = getattr(self.estimator, options["method"])

    def predict(self, batch: Batch) -> Prediction:
        configure_thread()
        return self._predict(batch.frame() if self._frame else batch.array())

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        configure_thread()
        rows = batch.frame() if self._frame else batch.array()
        return self._predict(rows), self.estimator.predict_proba(rows)


class _BoosterEngine(Engine):
    """Boosted trees in their library's core, without its wrapper in scikit-learn's style.

    Options: ``label``, see `places`; ``iterations``, the ones to predict with, or null for all;
    ``missing``, a further value that counts as missing, or null; ``bounded``, whether values beyond
    32 bits are refused; ``file``.
    """

    def __init__(self, folder: Path, options: JsonObject) -> None:
        self._label = options["label"]
        self.indexed = self._label is not None
        self._score = self._open(folder / MODEL_FOLDER, options)

    def _open(self, folder: Path, options: JsonObject) -> Callable[[Batch], np.ndarray]:
        raise NotImplementedError

    def predict(self, batch: Batch) -> Prediction:
        scores = self._score(batch)
        return places(scores, table_of(scores), self._label) if self.indexed else scores

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        scores = self._score(batch)
        table = table_of(scores)
        return places(scores, table, self._label), table


class XgboostEngine(_BoosterEngine):
    """XGBoost's booster, which predicts arrays in place."""

    name = "xgboost"

    def _open(self, folder: Path, options: JsonObject) -> Callable[[Batch], np.ndarray]:
        import xgboost

        booster = xgboost.Booster(model_file=str(folder / options["file"]))
        booster.set_param({"nthread": 1})
        span = (0, options["iterations"] or 0)
        missing = np.nan if options["missing"] is None else options["missing"]

        def score(batch: Batch) -> np.ndarray:
            rows = narrow(batch)
            if options["bounded"] and np.isinf(rows).any():
                raise beyond_float32(batch)
            scores: np.ndarray = booster.inplace_predict(
                rows, iteration_range=span, missing=missing, validate_features=False
            )
            return scores

        return score


class LightgbmEngine(_BoosterEngine):
    """LightGBM's booster."""

    name = "lightgbm"

    def _open(self, folder: Path, options: JsonObject) -> Callable[[Batch], np.ndarray]:
        import lightgbm

        if options["format"] == "text":
            booster = lightgbm.Booster(model_file=str(folder / options["file"]))
        else:
            booster = load_estimator(folder.parent, options).booster_

        def score(batch: Batch) -> np.ndarray:
            rows = batch.array()
            # LightGBM keeps 32 bits of whole numbers in an array, and 64 in a frame.
            scores: np.ndarray = booster.predict(
                rows if rows.dtype.kind == "f" else rows.astype(np.float64),
                num_iteration=options["iterations"],
                num_threads=1,
                validate_features=False,
            )
            return scores

        return score


class OnnxFlavorEngine(Engine):
    """ONNX Runtime on a model that was logged as ONNX; answers as MLflow's pyfunc does.

    Options: ``file``.
    """

    name = "onnx-flavor"

    def __init__(self, folder: Path, options: JsonObject) -> None:
        self._session = session(folder / MODEL_FOLDER / options["file"])
        self._inputs = {entry.name: entry.type for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def predict(self, batch: Batch) -> Prediction:
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
