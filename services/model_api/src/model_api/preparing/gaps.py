"""Gaps: null where a signature requires a number, in models that nevertheless answer the row.

From an input example without a gap, MLflow infers that a column is required. The model, such as an
imputer or trees, may nevertheless answer a row with a gap.
"""

import logging
import warnings
from pathlib import Path

import numpy as np

from model_api.model.answers import count
from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.engines import open_engine
from model_api.model.manifest import Manifest, decoder_of
from model_api.model.signature import Column
from model_api.model.untyped import Pyfunc
from model_api.model.words import first_line
from model_api.preparing import sampling

logger = logging.getLogger(__name__)


def columns_that_take(decoder: Decoder, example: Batch, original: Pyfunc) -> list[str]:
    """Return the required columns of floats in which the original answers null.

    Args:
        decoder: the model's decoder.
        example: the model's input example.
        original: MLflow's pyfunc of the model.
    """
    columns = [(place, column.name) for place, column in _required_floats(decoder)]
    if not columns:
        return []
    row = next(iter(example.tuples()))
    layout = relaxed(decoder).layout

    def answers(places: set[int]) -> bool:
        gapped = tuple(None if place in places else value for place, value in enumerate(row))
        batch = Batch(layout, 1, [gapped], params=example.params)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return count(original.predict(batch.native(), params=batch.params)) == 1
        except Exception:
            return False

    # One prediction instead of one per column, if all columns take null.
    if answers({place for place, _ in columns}):
        return [name for _, name in columns]
    return [name for place, name in columns if answers({place})]


def fills_alike(folder: Path, manifest: Manifest, example: Batch, original: Pyfunc) -> bool:
    """Tell whether a version's engine answers rows with gaps as the original does.

    Args:
        folder: the prepared version's folder.
        manifest: the version's manifest.
        example: the model's input example.
        original: MLflow's pyfunc of the model.
    """
    # It imports scikit-learn, which the follower must not load.
    from model_api.preparing.compiling.compare import Answers, agree

    def ask(batch: Batch) -> Answers:
        rows, table = batch.native(), None
        if classes is not None:
            table = np.asarray(original.get_raw_model().predict_proba(rows))
        return Answers(batch, original.predict(rows, params=batch.params), table)

    decoder, classes = decoder_of(manifest), manifest["classes"]
    # The same rows with the decoder that accepts gaps, so that sampling draws them.
    example = Batch(decoder.layout, example.rows, list(example.tuples()), params=example.params)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            drawn = sampling.draw(decoder, example)
            answers = [ask(drawn[kind]) for kind in ("near", "round")]
            agree(open_engine(manifest["engine"], folder, manifest["options"]), answers, classes)
    except Exception as error:
        logger.info("rows with gaps are left to the original: %s", first_line(error))
        return False
    return True


def relaxed(decoder: Decoder) -> Decoder:
    """Return a decoder of the same columns that takes null in all required columns of floats."""
    inputs = [column.spec for column in decoder.columns]
    names = [column.name for _, column in _required_floats(decoder)]
    return Decoder(inputs, decoder.params, gaps=names)


def _required_floats(decoder: Decoder) -> list[tuple[int, Column]]:
    return [
        (place, column)
        for place, column in enumerate(decoder.columns)
        if column.required and column.type in ("float", "double")
    ]
