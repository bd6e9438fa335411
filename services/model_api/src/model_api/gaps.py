"""Gaps: null where a signature requires a number, in models that answer such a row all the same.

MLflow infers that a column is required from an input example without a gap. The model behind it,
an imputer or trees, may well answer one.
"""

import logging
import warnings
from typing import Any

import numpy as np

from model_api import sampling
from model_api.batch import Batch
from model_api.decoding import Decoder
from model_api.version import Version, count, first_line

# As compiled models are compared with the original.
_TOLERANCE = 1e-5

logger = logging.getLogger(__name__)


def columns_that_take(decoder: Decoder, example: Batch, original: Any) -> list[str]:
    """Return the required columns of floats in which the original answers null.

    Args:
        decoder: of the model.
        example: the model's input example.
        original: MLflow's pyfunc of the model.
    """
    columns = [
        (place, column.name)
        for place, column in enumerate(decoder.columns)
        if column.required and column.type in ("float", "double")
    ]
    if not columns:
        return []
    row = next(iter(example.tuples()))
    relaxed = _relaxed(decoder, [name for _, name in columns])

    def answers(places: set[int]) -> bool:
        gapped = tuple(None if place in places else value for place, value in enumerate(row))
        batch = Batch(relaxed.layout, 1, [gapped], params=example.params)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return count(original.predict(batch.native(), params=batch.params)) == 1
        except Exception:
            return False

    # One question instead of one for each column, where the answer is yes.
    if answers({place for place, _ in columns}):
        return [name for _, name in columns]
    return [name for place, name in columns if answers({place})]


def fills_alike(version: Version, example: Batch, original: Any) -> bool:
    """Tell whether a version's engine answers rows with gaps as the original does."""
    # The same rows with the gaps that the version takes: sampling draws them for such columns.
    example = Batch(
        version.decoder.layout, example.rows, list(example.tuples()), params=example.params
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            drawn = sampling.draw(version.decoder, example)
            return all(
                _equal(
                    version.engine_answer(batch),
                    original.predict(batch.native(), params=batch.params),
                )
                for batch in (drawn["near"], drawn["round"])
            )
    except Exception as error:
        logger.info("rows with gaps are left to the original: %s", first_line(error))
        return False


def _relaxed(decoder: Decoder, gaps: list[str]) -> Decoder:
    inputs = [column.spec for column in decoder.columns]
    return Decoder(inputs, decoder.params, gaps=gaps)


def _equal(ours: Any, theirs: Any) -> bool:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        return False
    if ours.dtype.kind == theirs.dtype.kind == "f":
        return bool(np.allclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))
    return bool((ours == theirs).all())
