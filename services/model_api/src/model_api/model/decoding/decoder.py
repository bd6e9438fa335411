"""The decoder of a model's requests."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from model_api.model.batch import Batch, series_from, series_of
from model_api.model.decoding.explaining import Explainer
from model_api.model.decoding.reading import Reader
from model_api.model.errors import InvalidBody, TooManyRows

if TYPE_CHECKING:
    import pandas as pd


class Decoder(Reader):
    """Checks requests against a signature, and converts them to the model's input; see `Reader`."""

    def decode(self, body: bytes, max_rows: int) -> Batch:
        """Return the rows of a request's body.

        Raises:
            InvalidJson: the body is not JSON, not UTF-8, or nested too deeply.
            InvalidBody: it is JSON, but not a request.
            InvalidRows: its rows do not fit; it has the first 20 errors and the number of all.
            TooManyRows: it has more rows than ``max_rows``.
        """
        batch, plain = self._tried(body), body
        if batch is None and (changed := self._with_null_for_nan(body)) is not None:
            plain = changed
            batch = self._tried(plain) if self.nullable else None
        if batch is None:
            batch = Explainer(self, max_rows).explain(plain, body)
        if batch.rows > max_rows:
            raise TooManyRows(batch.rows, max_rows)
        if batch.rows == 0:
            raise InvalidBody("the body has no rows: send at least one")
        return batch

    def _tried(self, body: bytes) -> Batch | None:
        try:
            return self.read(body)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
            return None

    def _with_null_for_nan(self, body: bytes) -> bytes | None:
        """Return the body with null instead of NaN, which means the same in columns.

        Returns None if there is no NaN, or if it could be text.
        """
        if self.tensors or self.params or b"\\" in body:
            return None
        # numpy searches several times as fast as the methods of bytes.
        read = np.frombuffer(body, np.uint8)
        begins = np.flatnonzero(read[:-2] == ord("N"))
        begins = begins[(read[begins + 1] == ord("a")) & (read[begins + 2] == ord("N"))]
        if not begins.size or begins[0] == 0:
            return None
        # Without escapes, each quote begins or ends a text.
        quotes = (read[: begins[-1]] == ord('"')).view(np.uint8)
        odd = np.bitwise_xor.reduceat(quotes, [0, *begins[:-1]])
        if np.bitwise_xor.accumulate(odd).any():
            return None
        return b"null".join(body.split(b"NaN"))

    def batch(self, frame: "pd.DataFrame") -> Batch:
        """Return the rows of a frame, for batch scoring, which has no request.

        Raises:
            ValueError: the frame lacks a column, or has values that the model does not take; the
                message names the column and the first such row, by its label in the index.
        """
        import pandas as pd

        if self.tensors:
            raise ValueError("the model takes tensors: a frame cannot hold them")
        series = {}
        for label, column in zip(self.layout.labels, self.columns, strict=True):
            if label not in frame:
                if column.required:
                    raise ValueError(f"the frame lacks the column {column.name!r}")
                series[label] = series_of(column, [None] * len(frame))
                continue
            series[label] = series_from(column, frame[label])
        return Batch(self.layout, len(frame), frame=pd.DataFrame(series))
