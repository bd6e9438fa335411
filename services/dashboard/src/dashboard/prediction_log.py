"""The model API's prediction log, read from S3: a bounded, even sample of a time window.

Files are at `model=<name>/version=<n>/date=<day>/<any>.parquet`. Their columns are `at`
(timestamp, UTC), `request_id`, `row`, `alias`, one for each input, and `prediction`. Inputs are
booleans, integers, floats, text (including bytes as base64 and arrays as JSON) and timestamps.
Predictions have the common Arrow type of their file, which may be a list or a struct.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import batched
from typing import Self
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from dashboard import even_sample
from dashboard.even_sample import EvenSample
from dashboard.services import Refused, Unavailable
from dashboard.settings import Settings

SERVICE = "Prediction log"
PREDICTION = "prediction"
HELD_OUT = "_held_out"
"""Column of a reference: true if the model was not trained on the row."""

MAX_FILES = 240
MAX_DAYS = 31

_OWN = ("at", "request_id", "row", "alias")
_THREADS = 16
_BATCH_ROWS = 4096
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Logged rows of a window: the inputs and `prediction`, in the order of time.

    `at` (UTC) is the time of each row's prediction and `requests` the id of its request. Of `files`
    files, `files_read` were read, spread evenly over the window. They have `logged` rows of the
    window, and each of these rows is in the sample with the same probability.
    """

    rows: pd.DataFrame
    files: int
    files_read: int
    logged: int = 0
    at: pd.DatetimeIndex = field(default_factory=lambda: pd.DatetimeIndex([], tz="UTC"))
    requests: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))


class PredictionLog:
    """The log below one address, read with the credentials of the dashboard's host.

    Every method may raise `Unavailable` if S3 does not answer or refuses; the message says which.
    """

    def __init__(self, url: str, endpoint: str | None = None, region: str | None = None) -> None:
        """Send nothing yet.

        Args:
            url: `s3://bucket/prefix` or `file:///folder`.
            endpoint: the address of S3 if it is not AWS.
            region: the bucket's region.
        """
        self._url, self._endpoint, self._region = urlsplit(url), endpoint, region
        self._files: fs.FileSystem | None = None
        self._root = f"{self._url.netloc}{self._url.path}".rstrip("/")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The log, or None if the settings have no address of one."""
        if settings.prediction_log_url is None:
            return None
        return cls(settings.prediction_log_url, settings.aws_endpoint_url, settings.aws_region)

    def newest(self, model: str, version: str) -> datetime | None:
        """The time of the newest file of today or yesterday, or None if there is none."""
        today = datetime.now(UTC).date()
        with self._errors():
            files = self._list(model, version, [today - timedelta(days=1), today])
        return max((file.mtime for file in files), default=None)

    def read(self, model: str, version: str, start: datetime, end: datetime) -> Sample:
        """An even sample of rows from `MAX_FILES` files, logged from `start` to before `end`.

        Raises:
            ValueError: the window is longer than `MAX_DAYS` days or ends before it starts.
        """
        if not timedelta(0) < end - start <= timedelta(days=MAX_DAYS):
            raise ValueError(
                f"Choose a window of at most {MAX_DAYS} days that ends after it starts."
            )
        days = [
            start.date() + timedelta(days=i) for i in range((end.date() - start.date()).days + 1)
        ]
        with self._errors():
            # A file holds predictions made shortly before it was written.
            files = [file for file in self._list(model, version, days) if file.mtime >= start]
            chosen = _spread(sorted(files, key=lambda file: file.mtime), MAX_FILES)
            kept = EvenSample()
            with ThreadPoolExecutor(_THREADS) as pool:
                # This limits the number of files in memory.
                for some in batched(chosen, _THREADS, strict=False):
                    for part in pool.map(
                        lambda file: self._rows(file.path, start, end, kept.below), some
                    ):
                        kept.merge(part)
        table = kept.table()
        if table.num_rows:
            table = table.sort_by("at")
        rows = table.drop_columns([name for name in _OWN if name in table.column_names])
        if not table.num_rows:
            return Sample(_as_frame(rows), len(files), len(chosen))
        return Sample(
            _as_frame(rows),
            len(files),
            len(chosen),
            kept.seen,
            pd.DatetimeIndex(table["at"].to_pandas()).tz_convert(UTC),
            table["request_id"].to_numpy(),
        )

    def _rows(self, path: str, start: datetime, end: datetime, below: float) -> EvenSample:
        data = ds.dataset(path, filesystem=self._filesystem(), format="parquet")
        at, kind = ds.field("at"), data.schema.field("at").type
        within = (at >= pa.scalar(start, kind)) & (at < pa.scalar(end, kind))
        columns = [name for name in data.schema.names if name not in ("row", "alias")]
        scanner = data.scanner(
            columns=columns, filter=within, batch_size=_BATCH_ROWS, batch_readahead=1
        )
        kept = EvenSample(below)
        # Seeded by the path, so that a page shows the same sample when it is drawn again.
        draw = np.random.default_rng(zlib.crc32(path.encode()))
        for batch in scanner.to_batches():
            if batch.num_rows:
                kept.add(pa.table(batch), draw.random(batch.num_rows))
        return kept

    def _list(self, model: str, version: str, days: Sequence[date]) -> list[fs.FileInfo]:
        base = f"{self._root}/model={quote(model, safe='')}/version={version}"

        def day(one: date) -> list[fs.FileInfo]:
            selector = fs.FileSelector(f"{base}/date={one}", allow_not_found=True)
            try:
                found: list[fs.FileInfo] = self._filesystem().get_file_info(selector)
                return found
            except OSError as error:
                # If the listing is empty, Arrow requests an object of that name. For a missing
                # object, S3 answers "access denied" to a role that may list only a part of the
                # bucket.
                if "ACCESS_DENIED during HeadObject" in str(error):
                    return []
                raise

        self._filesystem()
        with ThreadPoolExecutor(_THREADS) as pool:
            return [
                file
                for files in pool.map(day, days)
                for file in files
                if file.type == fs.FileType.File and file.path.endswith(".parquet")
            ]

    def _filesystem(self) -> fs.FileSystem:
        if self._files is None:
            self._files = fs.LocalFileSystem() if self._url.scheme == "file" else self._s3()
        return self._files

    def _s3(self) -> fs.FileSystem:
        where = urlsplit(self._endpoint) if self._endpoint else None
        options = {"endpoint_override": where.netloc, "scheme": where.scheme} if where else {}
        return fs.S3FileSystem(
            region=self._region,
            connect_timeout=1,
            request_timeout=2,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
            **options,
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            _log.warning("cannot read the prediction log: %s", error)
            if "ACCESS_DENIED" in str(error):
                raise Unavailable(
                    f"The dashboard's host may not read {self._url.geturl()}: "
                    "allow its role s3:ListBucket and s3:GetObject there."
                ) from None
            raise Unavailable(
                f"{self._url.geturl()} cannot be read. The reason is in the dashboard's log."
            ) from None


def _as_frame(table: pa.Table) -> pd.DataFrame:
    # By default, integers with gaps become floats, which round those beyond 2**53.
    return table.to_pandas(integer_object_nulls=True)


def read_reference(content: bytes) -> pd.DataFrame:
    """The rows of a Parquet file: an even sample of at most `even_sample.MAX_ROWS`.

    Raises:
        Refused: the content is not a Parquet file.
    """
    try:
        rows = _as_frame(pq.read_table(io.BytesIO(content)))
    except pa.ArrowException:
        raise Refused("The run's reference is not a Parquet file.") from None
    most = even_sample.MAX_ROWS
    return rows if len(rows) <= most else rows.sample(most, random_state=0)


def _spread[T](items: Sequence[T], count: int) -> list[T]:
    """One item from each of `count` equal parts; all items if there are no more than `count`.

    The choice within a part is random, so that periodic items are not missed, and the same each
    time.
    """
    if len(items) <= count:
        return list(items)
    places = (np.arange(count) + np.random.default_rng(0).random(count)) * len(items) / count
    return [items[int(place)] for place in places]
