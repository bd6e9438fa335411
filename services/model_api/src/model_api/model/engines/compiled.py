"""The engines of compiled models, which do not need the models' own libraries."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model_api.model.batch import Batch
from model_api.model.engines.answers import OF_TABLE, beyond_float32, linked, places, table_of
from model_api.model.engines.base import ARRAYS, Engine
from model_api.model.engines.sessions import session
from model_api.model.program import Program
from model_api.model.untyped import JsonObject, Prediction


class _Compiled(Engine):
    """A program, which computes the predictor's input, and the predictor.

    Options: ``program``, see `model_api.model.program`; ``link``, see `linked`; ``label``, see
    `places`; ``parts``, the number of trees that a forest averages. Its arrays are in
    ``compiled.npz``.
    """

    def __init__(self, folder: Path, options: JsonObject) -> None:
        # numpy reads arrays from it on demand; the open file outlives its name.
        self._arrays = np.load(folder / ARRAYS)
        self._program = Program(options["program"], self._arrays)
        self._link: str | None = options["link"]
        self._label: str | None = options["label"]
        self._parts: int = options.get("parts", 1)
        self.indexed = self._label is not None

    def _raw(self, batch: Batch) -> np.ndarray:
        """Return the sums (rows, outputs) behind labels and probabilities."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Prediction:
        raw = self._raw(batch)
        if not self.indexed:
            return self._values(raw)
        rule = self._label
        of_sums = OF_TABLE.get(rule or "")
        if of_sums is not None and (self._link == "share" or len(undecided(raw))):
            return places(raw, self._table(raw), rule)
        # If the sums differ enough, the probabilities have the same order.
        return places(raw, raw, of_sums or rule)

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        raw = self._raw(batch)
        table = self._table(raw)
        return places(raw, table, self._label), table

    def _table(self, raw: np.ndarray) -> np.ndarray:
        return table_of(linked(raw, self._link, self._parts))

    def _values(self, raw: np.ndarray) -> np.ndarray:
        """Return the answer of a model without labels."""
        values = linked(raw, self._link, self._parts)
        return values.reshape(-1) if values.shape[1] == 1 else values


class LinearEngine(_Compiled):
    """A linear model: one product of matrices, as scikit-learn computes it."""

    name = "numpy"

    def __init__(self, folder: Path, options: JsonObject) -> None:
        super().__init__(folder, options)
        # A view, as in scikit-learn: a product with another memory layout rounds differently.
        self._coefficients = self._arrays["coefficients"].T
        self._intercept = self._arrays["intercept"]

    def _raw(self, batch: Batch) -> np.ndarray:
        rows = self._program.rows(batch)
        if not np.isfinite(rows).all():
            raise ValueError("Input X contains NaN or infinity")
        sums: np.ndarray = rows @ self._coefficients + self._intercept
        return sums

    def _values(self, raw: np.ndarray) -> np.ndarray:
        # A target with two dimensions gets an answer with two.
        return raw


class CompiledOnnxEngine(_Compiled):
    """Trees of scikit-learn by ONNX Runtime.

    It sums in 64 bits and answers in 32. If two classes are so close that this could decide between
    them, the sums are repeated here in 64 bits, in scikit-learn's order.

    Further options: ``graph``, the file; ``missing``, whether it takes missing values.
    """

    name = "onnx"

    def __init__(self, folder: Path, options: JsonObject) -> None:
        super().__init__(folder, options)
        self._session = session(folder / options["graph"])
        self._missing: bool = options["missing"]
        self._exact: ExactTrees | None = None

    def _raw(self, batch: Batch) -> np.ndarray:
        given = self._program.rows(batch)
        rows = _narrowed(batch, given, self._missing).astype(np.float64)
        [found] = self._session.run(None, {"rows": rows})
        sums: np.ndarray = found.astype(np.float64)
        if self.indexed:
            near = undecided(sums)
            if len(near):
                if self._exact is None:
                    self._exact = ExactTrees(self._arrays)
                sums[near] = self._exact.sums(rows[near])
        return sums


class TreeliteEngine(_Compiled):
    """treelite's interpreter of trees, which sums in the order and precision of the libraries.

    Further options: ``trees``, the file; ``dtype``, the type to which rows are rounded;
    ``bounded``, whether values beyond that type are refused.
    """

    name = "treelite"

    def __init__(self, folder: Path, options: JsonObject) -> None:
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
            raise beyond_float32(batch)
        sums: np.ndarray = self._run(self._model, rows, nthread=1, pred_margin=True)[:, 0, :]
        return sums


class ExactTrees:
    """Trees of scikit-learn, summed in its order: slow, and the same to the last bit.

    Args:
        arrays: those of `model_api.preparing.compiling.trees.Table`.
    """

    _ROWS_AT_ONCE = 128

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._roots = arrays["roots"]
        self._feature, self._threshold = arrays["feature"], arrays["threshold"]
        self._left, self._right = arrays["left"], arrays["right"]
        self._missing_left, self._weights = arrays["missing_left"], arrays["weights"]
        self._base = arrays["base"]

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Return the sums (rows, outputs) of rows that are rounded to 32 bits."""
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

    A single output is compared with zero.
    """
    if len(sums) == 1:
        # Most requests have one row, for which Python is faster than numpy.
        *_, second, top = sorted([0.0, *sums[0].tolist()] if sums.shape[1] == 1 else sums[0])
        return _NONE if top - second > _NEAR * (1 + abs(top)) else _FIRST
    if sums.shape[1] == 1:
        top, second = np.abs(sums[:, 0]), 0.0
    else:
        second, top = np.partition(sums, -2, axis=1)[:, -2:].T
    return np.flatnonzero(~(top - second > _NEAR * (1 + np.abs(top))))


# The rounding errors of 32-bit sums are far smaller.
_NEAR = 1e-6
_NONE, _FIRST = np.array([], np.intp), np.array([0])


def _narrowed(batch: Batch, rows: np.ndarray, missing: bool) -> np.ndarray:
    """Return rows in 32 bits; values beyond their range are refused, as in scikit-learn.

    Args:
        batch: the batch of the rows.
        rows: as the model takes them.
        missing: whether NaN is allowed.
    """
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float32, order="C", copy=False)
    if np.isfinite(rounded).all():
        return rounded
    if np.isinf(rounded).any():
        raise beyond_float32(batch)
    if not missing:
        raise ValueError("Input X contains NaN")
    return rounded
