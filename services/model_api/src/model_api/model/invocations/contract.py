"""Answers to one version's requests in MLflow's contract."""

import csv
import logging
from typing import NamedTuple

import msgspec

from model_api.model.engines import PyfuncEngine
from model_api.model.errors import TooManyRows, UnsupportedMediaType
from model_api.model.invocations.bounds import bounded
from model_api.model.invocations.common import CommonReader, Rows
from model_api.model.invocations.stand_in import StandIn
from model_api.model.untyped import MlflowModel
from model_api.model.version import Version

# Types whose values MLflow reads in JSON as the strict decoder does.
_PLAIN = frozenset(("boolean", "integer", "long", "float", "double", "string"))
# The only way to write this character in JSON. Numpy's arrays drop it at the end of a text.
_NUL = rb"\u0000"


class Answered(NamedTuple):
    """The answer to a request in MLflow's contract.

    Attributes:
        content: members of a JSON object, without its braces; or the whole answer.
        whole: whether it is the whole answer: to a body of chat, completions or embeddings.
        body: the same rows in the strict contract's format, for the prediction log; None if that
            contract does not take them.
    """

    content: bytes
    whole: bool
    body: bytes | None


class Invocations:
    """Answers requests for one version in MLflow's contract; any number of threads may use it.

    It holds no reference to the version, which must be freed once the store drops it.

    Args:
        version: the version that answers.
    """

    def __init__(self, version: Version) -> None:
        self._metadata: MlflowModel = None
        decoder = version.decoder
        alike = all(column.type in _PLAIN for column in decoder.columns)
        # Only the original surely handles parameters, including their defaults.
        alike = alike and not (decoder.params and version.engine != PyfuncEngine.name)
        # If Python's type hints are the signature, MLflow passes the input on unchanged.
        alike = alike and not version.manifest["type_hints"]
        self._common = CommonReader(decoder, version.manifest) if alike else None

    def decode(self, body: bytes, max_rows: int) -> Rows | None:
        """Return the rows of a JSON body; None if only MLflow's own parsing may read it."""
        if self._common is None or _NUL in body:
            return None
        try:
            rows = self._common.common(body)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
            return None
        if rows is None or not rows.batch.rows:
            return None
        if rows.batch.rows > max_rows:
            raise TooManyRows(rows.batch.rows, max_rows)
        return rows

    def answer(self, version: Version, body: bytes, content_type: str, max_rows: int) -> Answered:
        """Return MLflow's own answer to a body; too slow for an event loop.

        Raises:
            InvalidInput: MLflow refuses the body.
            ModelRefuses: the model refuses its rows.
            TooManyRows: it has too many rows.
            TableTooLarge: it needs too much memory.
            UnsupportedMediaType: it is neither JSON nor CSV.
        """
        from mlflow.pyfunc import scoring_server

        if self._metadata is None:
            self._metadata = version.metadata()
        schema = self._metadata.get_input_schema()
        kind = content_type.partition(";")[0].strip()
        if kind == scoring_server.CONTENT_TYPE_PARQUET:
            raise UnsupportedMediaType("Parquet is not taken: a small file may unpack to gigabytes")
        model = StandIn(version, self._metadata, max_rows)
        try:
            response = scoring_server.invocations(
                bounded(body, kind, max_rows, version.decoder), content_type, model, schema
            )
        except Exception as error:
            raise model.refusal(error) from error
        if not model.answered:
            # MLflow refused the content type; it raises all other errors.
            raise UnsupportedMediaType(response.response.split(". ")[0])
        # The model's stand-in answered with an empty list: did MLflow add anything around it?
        whole = response.response == "[]"
        content = model.predictions if whole else b'"predictions":' + model.predictions
        return Answered(content, whole, model.body)


def load_mlflow() -> None:
    """Import MLflow, which costs a worker three seconds and 115 MiB at the first need."""
    import mlflow.models.utils
    import mlflow.pyfunc.scoring_server  # noqa: F401

    # A text in CSV may be as long as a body.
    csv.field_size_limit(2**31 - 1)
    # It warns about each unknown column and parameter, with names that clients choose.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
