"""One version of a model, prepared on disk, opened in memory."""

import math
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from model_api.model.answers import members, probability_encoder
from model_api.model.batch import Batch
from model_api.model.engines import COMPILED, MODEL_FOLDER, Engine, PyfuncEngine, open_engine
from model_api.model.errors import InvalidRows, NoProbabilities, RequestError
from model_api.model.faults import ERRORS_SHOWN
from model_api.model.manifest import Manifest, VersionError, decoder_of, read_manifest
from model_api.model.pace import Pace, shortest
from model_api.model.untyped import JsonObject, MlflowModel, Prediction, Pyfunc, Value
from model_api.model.words import first_line

if TYPE_CHECKING:
    import pandas as pd

# Limit for trying a failed batch row by row: the client waits, and others with it.
_BLAME_SECONDS = 0.5
_MEASURED_ROWS = 100
# Engines that run no code that came with the model.
OWN_CODE = COMPILED | {"xgboost", "lightgbm", "onnx-flavor"}


class NeedsOriginal(Exception):
    """Only the original model can answer, and only a runner may load it."""


class Elsewhere(Engine):
    """Replaces an engine that must not be loaded in this process."""

    name = "elsewhere"

    def __init__(self) -> None:
        pass

    def predict(self, batch: Batch) -> Prediction:
        raise NeedsOriginal

    def predict_both(self, batch: Batch) -> tuple[Prediction, np.ndarray]:
        raise NeedsOriginal


class Version:
    """A loaded version; any number of threads may use it.

    Args:
        folder: its prepared folder.
        manifest: the manifest of its preparation.
        engine: computes its answers.
        confined: whether code that came with the model must not run in this process.

    Attributes:
        name: the registered model's name.
        number: the version's number, as MLflow writes it.
        run_id: the run that trained it, if any.
        decoder: reads requests for it.
        engine: the name of the engine that computes its answers.
        elsewhere: whether only a runner can answer.
        compiled: whether it does not need the library of the model, and is therefore small.
        engine_note: how well the engine agrees with the original, or why it is not compiled.
        classes: the classes of its probabilities; None if it provides none.
        example: rows of its input example: a list of objects, or tensors as nested lists.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, engine: Engine, confined: bool = False
    ) -> None:
        self.folder = folder
        self.elsewhere = isinstance(engine, Elsewhere)
        self._confined = confined
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.number: str = manifest["version"]
        self.run_id: str | None = manifest["run_id"]
        self.engine: str = manifest["engine"]
        self.engine_note: str = manifest["engine_note"]
        self.compiled = self.engine in COMPILED
        self.classes: list[Value] | None = manifest["classes"]
        self.example: Value = manifest["example"]
        self.decoder = decoder_of(manifest)
        self._engine = engine
        self._original: Any = None
        self._opening = threading.Lock()
        self._pace = Pace(*manifest["seconds"])
        # Other code may wait for something external, which no measurement predicts.
        self._own_code = self.engine in OWN_CODE
        if self.classes is not None:
            self._labels = [msgspec.json.encode(label) for label in self.classes]
            self._of_classes = probability_encoder(self.classes)

    def predict(self, batch: Batch, probabilities: bool = False) -> bytes:
        """Return the answer as members of a JSON object, without its braces.

        ``"predictions":[...]``, with probabilities also ``,"probabilities":[{class: p}, ...]``;
        non-finite numbers are null.

        Raises:
            InvalidRows: the model refuses the values of some rows.
            NoProbabilities: it provides none.
            Exception: any error of the model.
        """
        try:
            return self.compute(batch, probabilities)
        except (RequestError, NeedsOriginal):
            raise
        except Exception as error:
            # The result may be the error itself, which must not be its own cause: such a cycle
            # would keep the version.
            raise self.blame(batch, error)  # noqa: B904

    def compute(self, batch: Batch, probabilities: bool = False) -> bytes:
        """Like `predict`, but do not search for the rows at fault if the model fails."""
        start = time.perf_counter()
        try:
            return self._compute(batch, probabilities)
        finally:
            self._pace.took(batch.rows, time.perf_counter() - start)

    def _compute(self, batch: Batch, probabilities: bool) -> bytes:
        if not probabilities:
            if self.by_original(batch):
                return members(self._ask_original(batch), batch.rows)
            return self._members(self._engine.predict(batch), batch.rows)
        if self.classes is None:
            raise NoProbabilities(
                f"version {self.number} of {self.name!r} does not provide probabilities"
            )
        if self.by_original(batch):
            raise NoProbabilities(
                "for rows with a missing value this model gives predictions only: fill the gaps,"
                " or leave probabilities out",
            )
        answer, table = self._engine.predict_both(batch)
        return b'%b,"probabilities":%b' % (
            self._members(answer, batch.rows),
            self._of_classes(table),
        )

    def by_original(self, batch: Batch) -> bool:
        """Tell whether the original answers a batch: its engine may not fill the batch's gaps."""
        return (
            bool(self.manifest["gaps"])
            and not self.manifest["engine_fills_gaps"]
            and not isinstance(self._engine, PyfuncEngine)
            and batch.gaps()
        )

    def original(self) -> Pyfunc:
        """Return MLflow's pyfunc of the model, loaded on first use."""
        if isinstance(self._engine, PyfuncEngine):
            return self._engine.model
        if self._confined:
            raise NeedsOriginal
        with self._opening:
            if self._original is None:
                import mlflow.pyfunc

                self._original = mlflow.pyfunc.load_model(str(self.folder / MODEL_FOLDER))
            return self._original

    def metadata(self) -> MlflowModel:
        """Return MLflow's ``Model``: the content of its ``MLmodel`` file."""
        from mlflow.models import Model

        return Model.load(str(self.folder / MODEL_FOLDER))

    def _ask_original(self, batch: Batch) -> Any:
        return self.original().predict(batch.native(), params=batch.params)

    def _try(self, batch: Batch) -> None:
        """Raise the error of the engine, or of the original, that answers the batch."""
        if self.by_original(batch):
            self._ask_original(batch)
        else:
            self._engine.predict(batch)

    def answer(self, batch: Batch) -> Prediction:
        """Return one prediction per row: an array, a list, a frame or a dict.

        Raises:
            Exception: any error of the engine or the original.
        """
        if self.by_original(batch):
            return self._ask_original(batch)
        answer = self._engine.predict(batch)
        if self._engine.indexed and self.classes is not None:
            return np.array(self.classes)[answer]
        return answer

    def predict_frame(self, frame: "pd.DataFrame") -> Prediction:
        """Return one prediction per row of a frame, without JSON.

        Raises:
            ValueError: the frame does not fit the signature; the message names column and row.
        """
        return self.answer(self.decoder.batch(frame))

    def seconds(self, rows: int) -> float:
        """Return the expected seconds of a prediction with this many rows, from earlier ones.

        It is infinite if the model's own code runs, which must never block others.
        """
        return self._pace.seconds(rows) if self._own_code else math.inf

    def describe(self) -> JsonObject:
        """Return a description of the version, as JSON."""
        return {
            "name": self.name,
            "version": self.number,
            "run_id": self.run_id,
            "signature": self.manifest["signature"],
            "example": self.example,
            "example_note": self.manifest["example_note"],
            "classes": self.classes,
            "engine": self.engine,
            "engine_note": self.engine_note,
            "requirements": self.manifest["requirements"],
            "categories": self.manifest["categories"],
            "prepared_at": self.manifest["prepared_at"],
        }

    def warm(self) -> Batch:
        """Predict the input example like a request.

        Returns:
            the example.

        Raises:
            VersionError: the example does not result in one prediction per row.
        """
        body = self.manifest["request"].encode()
        try:
            batch = self.decoder.decode(body, 10**9)
            probabilities = self.classes is not None and not self.by_original(batch)
            self.predict(batch, probabilities)
        except Exception as error:
            raise VersionError(f"it fails on its own input example: {first_line(error)}") from error
        # The first prediction is slower than all others.
        self._pace = Pace(*self.manifest["seconds"])
        return batch

    def measure(self) -> tuple[float, float]:
        """Return the seconds of a prediction: a fixed part, and a part per row.

        It is not for processes that answer requests, which it would delay by some hundredths of a
        second.
        """
        batch = self.warm()
        one, many = batch.row(0), batch.take([i % batch.rows for i in range(_MEASURED_ROWS)])
        try:
            single, hundred = (shortest(partial(self.predict, b)) for b in (one, many))
        except Exception:
            # The model takes only batches of one size.
            single = hundred = shortest(lambda: self.predict(batch))
        each = max(0.0, hundred - single) / (_MEASURED_ROWS - 1)
        return max(0.0, single - each), each

    def _members(self, answer: Any, rows: int) -> bytes:
        if self._engine.indexed:
            found = b",".join(map(self._labels.__getitem__, answer.tolist()))
            return b'"predictions":[%b]' % found
        return members(answer, rows)

    def blame(self, batch: Batch, error: Exception) -> Exception:
        """Return an error that names the rows at fault; the given error if no row is.

        It calls the model row by row, and may take half a second.

        Args:
            batch: the batch on which the model failed.
            error: the error that it raised.
        """
        example = self.decoder.decode(self.manifest["request"].encode(), 10**9)
        if not self._answers(example):
            return error
        deadline = time.monotonic() + _BLAME_SECONDS
        errors: list[dict[str, Any]] = []
        for row in range(batch.rows):
            single = batch.row(row)
            try:
                self._try(single)
            except Exception as refusal:
                field = self._field(single, example, deadline)
                detail = f"the model rejects it: {first_line(refusal)}"
                errors.append({"row": row, "field": field, "detail": detail})
            if len(errors) == ERRORS_SHOWN or time.monotonic() > deadline:
                break
        return InvalidRows(errors, len(errors)) if errors else error

    def _field(self, single: Batch, example: Batch, deadline: float) -> str | None:
        """Return the single column that makes the model refuse a row, if there is one."""
        if single.tensors() is not None:
            return None
        [given], good = tuple(single.tuples()), next(iter(example.tuples()))
        for place, column in enumerate(self.decoder.columns):
            if time.monotonic() > deadline:
                return None
            mended = (*given[:place], good[place], *given[place + 1 :])
            if self._answers(Batch(self.decoder.layout, 1, [mended], params=single.params)):
                return column.name
        return None

    def _answers(self, batch: Batch) -> bool:
        try:
            self._try(batch)
        except Exception:
            return False
        return True


def open_version(folder: Path) -> Version:
    """Load a prepared version, and warm it by predicting its input example.

    Raises:
        VersionError: another release prepared it, or it fails on its input example.
        Exception: any error of the model's own code.
    """
    return _opened(folder, read_manifest(folder))


def open_confined(folder: Path) -> Version:
    """Load a prepared version without running code that came with it: only a compiled one answers.

    Raises:
        VersionError: see `open_version`.
    """
    manifest = read_manifest(folder)
    if manifest["engine"] not in COMPILED:
        return Version(folder, manifest, Elsewhere(), confined=True)
    return _opened(folder, manifest, confined=True)


def _opened(folder: Path, manifest: Manifest, confined: bool = False) -> Version:
    engine = open_engine(manifest["engine"], folder, manifest["options"])
    version = Version(folder, manifest, engine, confined)
    version.warm()
    return version
