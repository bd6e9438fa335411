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

# What asking a failed batch row by row may cost: its sender waits, and others with him.
_BLAME_SECONDS = 0.5
_MEASURED_ROWS = 100
# Engines that run no code that came with the model.
OWN_CODE = COMPILED | {"xgboost", "lightgbm", "onnx-flavor"}


class Version:
    """A loaded version; any number of threads may use it.

    Args:
        folder: where it was prepared.
        manifest: what its preparation found out.
        engine: computes its answers.

    Attributes:
        name: of the registered model.
        number: of the version, as MLflow writes it.
        run_id: the run that trained it, if one did.
        decoder: reads requests for it.
        engine: the name of what computes its answers.
        compiled: whether it does without the library that it was made with, and so is small.
        engine_note: how that was found to answer as the original does, or why it is not compiled.
        classes: what its probabilities are of; None if it tells none.
        example: rows of its input example: a list of objects, or tensors as nested lists.
    """

    def __init__(self, folder: Path, manifest: Manifest, engine: Engine) -> None:
        self.folder = folder
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
        # Other code may wait for what is elsewhere, which no measurement foretells.
        self._own_code = self.engine in OWN_CODE
        if self.classes is not None:
            self._labels = [msgspec.json.encode(label) for label in self.classes]
            self._of_classes = probability_encoder(self.classes)

    def predict(self, batch: Batch, probabilities: bool = False) -> bytes:
        """Return the answer as members of a JSON object, without its braces.

        ``"predictions":[...]``, with probabilities also ``,"probabilities":[{class: p}, ...]``;
        what is not finite is null.

        Raises:
            InvalidRows: the model refuses the values of some rows.
            NoProbabilities: it tells none.
            Exception: whatever the model raises.
        """
        try:
            return self.compute(batch, probabilities)
        except RequestError:
            raise
        except Exception as error:
            # It may be the error itself, which is not to be its own cause: such a cycle would keep
            # the version.
            raise self.blame(batch, error)  # noqa: B904

    def compute(self, batch: Batch, probabilities: bool = False) -> bytes:
        """Return the same, but do not look for the rows at fault when the model fails."""
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
        """Tell whether the original answers a batch: it has gaps that the engine may not fill."""
        return (
            bool(self.manifest["gaps"])
            and not self.manifest["engine_fills_gaps"]
            and not isinstance(self._engine, PyfuncEngine)
            and batch.gaps()
        )

    def original(self) -> Pyfunc:
        """Return MLflow's pyfunc of the model, loaded when it is first wanted."""
        if isinstance(self._engine, PyfuncEngine):
            return self._engine.model
        with self._opening:
            if self._original is None:
                import mlflow.pyfunc

                self._original = mlflow.pyfunc.load_model(str(self.folder / MODEL_FOLDER))
            return self._original

    def metadata(self) -> MlflowModel:
        """Return MLflow's ``Model``: what its ``MLmodel`` file says."""
        from mlflow.models import Model

        return Model.load(str(self.folder / MODEL_FOLDER))

    def _ask_original(self, batch: Batch) -> Any:
        return self.original().predict(batch.native(), params=batch.params)

    def _try(self, batch: Batch) -> None:
        """Raise what whoever answers the batch raises."""
        if self.by_original(batch):
            self._ask_original(batch)
        else:
            self._engine.predict(batch)

    def answer(self, batch: Batch) -> Prediction:
        """Return one prediction a row: an array, a list, a frame or a dict.

        Raises:
            Exception: whatever the engine, or the original, raises.
        """
        if self.by_original(batch):
            return self._ask_original(batch)
        answer = self._engine.predict(batch)
        if self._engine.indexed and self.classes is not None:
            return np.array(self.classes)[answer]
        return answer

    def predict_frame(self, frame: "pd.DataFrame") -> Prediction:
        """Return one prediction for each row of a frame, without the way through JSON.

        Raises:
            ValueError: the frame does not fit the signature; the message names column and row.
        """
        return self.answer(self.decoder.batch(frame))

    def seconds(self, rows: int) -> float:
        """Return how long a prediction of so many rows takes, by those so far.

        It is without bound where the model's own code runs, which never is to hold up others.
        """
        return self._pace.seconds(rows) if self._own_code else math.inf

    def describe(self) -> JsonObject:
        """Return what is known of the version, as JSON."""
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
        """Predict the input example, as a request would.

        Returns:
            the example.

        Raises:
            VersionError: the example does not come out as one prediction a row.
        """
        body = self.manifest["request"].encode()
        try:
            batch = self.decoder.decode(body, 10**9)
            probabilities = self.classes is not None and not self.by_original(batch)
            self.predict(batch, probabilities)
        except Exception as error:
            raise VersionError(f"it fails on its own input example: {first_line(error)}") from error
        # The first prediction of all is slower than any other.
        self._pace = Pace(*self.manifest["seconds"])
        return batch

    def measure(self) -> tuple[float, float]:
        """Return the seconds that a prediction takes: what each has, and what each row adds.

        To be asked where nothing is answered meanwhile: it computes for some hundredths of a
        second, which in a service are those of requests.
        """
        batch = self.warm()
        one, many = batch.row(0), batch.take([i % batch.rows for i in range(_MEASURED_ROWS)])
        try:
            single, hundred = (shortest(partial(self.predict, b)) for b in (one, many))
        except Exception:
            # A model that takes only batches of one size.
            single = hundred = shortest(lambda: self.predict(batch))
        each = max(0.0, hundred - single) / (_MEASURED_ROWS - 1)
        return max(0.0, single - each), each

    def _members(self, answer: Any, rows: int) -> bytes:
        if self._engine.indexed:
            found = b",".join(map(self._labels.__getitem__, answer.tolist()))
            return b'"predictions":[%b]' % found
        return members(answer, rows)

    def blame(self, batch: Batch, error: Exception) -> Exception:
        """Return the error of the rows at fault; the error itself if it is the model's own.

        It asks the model row by row, and may take half a second.

        Args:
            batch: that the model failed on.
            error: that it raised.
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
        """Return the only column that makes the model refuse a row, if there is one."""
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
    """Load a prepared version, and have it predict its input example, which warms it.

    Raises:
        VersionError: it was prepared by another release, or fails on its input example.
        Exception: whatever the model's own code raises.
    """
    manifest = read_manifest(folder)
    engine = open_engine(manifest["engine"], folder, manifest["options"])
    version = Version(folder, manifest, engine)
    version.warm()
    return version
