"""The model API's prediction log, read from S3: a bounded, even sample of a window of time.

Files lie at `model=<name>/version=<n>/date=<day>/<any>.parquet`; their columns are `at`
(timestamp, UTC), `request_id`, `row`, `alias`, one for each input, and `prediction`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self
from urllib.parse import quote, urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from dashboard.services import Away, Refused
from dashboard.settings import Settings

SERVICE = "Prediction log"
PREDICTION = "prediction"
MAX_ROWS = 20_000
"""Rows read for a window at most: more change no test's verdict, only its time."""

MAX_FILES = 120
MAX_DAYS = 31

_OWN = ("at", "request_id", "row", "alias")
_THREADS = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Logged rows of a window: the inputs and `prediction`.

    `files_read` of `files` were read, evenly spread over the window.
    """

    rows: pd.DataFrame
    files: int
    files_read: int


class PredictionLog:
    """The log below one address, read with the credentials of the dashboard's host.

    Every method may raise `Away`: S3 does not answer or refuses; the message says which.
    """

    def __init__(self, url: str, endpoint: str | None = None, region: str | None = None) -> None:
        """Nothing is sent yet.

        Args:
            url: `s3://bucket/prefix` or `file:///folder`.
            endpoint: where S3 is, when it is not AWS's own.
            region: the bucket's region.
        """
        self._url, self._endpoint, self._region = urlsplit(url), endpoint, region
        self._files: fs.FileSystem | None = None
        self._root = f"{self._url.netloc}{self._url.path}".rstrip("/")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The log, None when the settings name none."""
        if settings.prediction_log_url is None:
            return None
        return cls(settings.prediction_log_url, settings.aws_endpoint_url, settings.aws_region)

    def newest(self, model: str, version: str) -> datetime | None:
        """When the newest file of today or yesterday was written, None when there is none."""
        today = datetime.now(UTC).date()
        with self._errors():
            files = self._list(model, version, [today - timedelta(days=1), today])
        return max((file.mtime for file in files), default=None)

    def read(self, model: str, version: str, start: datetime, end: datetime) -> Sample:
        """`MAX_ROWS` rows at most, logged from `start` to before `end`, of `MAX_FILES` files.

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
            # A file holds what was predicted shortly before it was written.
            files = [file for file in self._list(model, version, days) if file.mtime >= start]
            chosen = _spread(sorted(files, key=lambda file: file.mtime), MAX_FILES)
            if not chosen:
                return Sample(pd.DataFrame(), 0, 0)
            share = -(-MAX_ROWS // len(chosen))
            with ThreadPoolExecutor(_THREADS) as pool:
                tables = pool.map(lambda file: self._rows(file.path, start, end, share), chosen)
                table = pa.concat_tables(tables, promote_options="permissive")
        return Sample(table.slice(0, MAX_ROWS).to_pandas(), len(files), len(chosen))

    def _rows(self, path: str, start: datetime, end: datetime, limit: int) -> pa.Table:
        data = ds.dataset(path, filesystem=self._filesystem(), format="parquet")
        at, kind = ds.field("at"), data.schema.field("at").type
        within = (at >= pa.scalar(start, kind)) & (at < pa.scalar(end, kind))
        columns = [name for name in data.schema.names if name not in _OWN]
        return data.scanner(columns=columns, filter=within).head(limit)

    def _list(self, model: str, version: str, days: Sequence[date]) -> list[fs.FileInfo]:
        base = f"{self._root}/model={quote(model, safe='')}/version={version}"

        def day(one: date) -> list[fs.FileInfo]:
            selector = fs.FileSelector(f"{base}/date={one}", allow_not_found=True)
            try:
                return self._filesystem().get_file_info(selector)
            except OSError as error:
                # Where nothing is listed, Arrow asks for an object of that name; S3 says of a
                # missing one that it is denied, to whom may list but a part of the bucket.
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
            _log.warning("the prediction log cannot be read: %s", error)
            if "ACCESS_DENIED" in str(error):
                raise Away(
                    f"{self._url.geturl()} may not be read by the dashboard's host: "
                    "allow its role s3:ListBucket and s3:GetObject there."
                ) from None
            raise Away(
                f"{self._url.geturl()} cannot be read. The reason is in the dashboard's log."
            ) from None


def read_reference(content: bytes) -> pd.DataFrame:
    """The rows of a Parquet file, at most `MAX_ROWS`, drawn evenly.

    Raises:
        Refused: it is no Parquet file.
    """
    try:
        rows = pq.read_table(io.BytesIO(content)).to_pandas()
    except pa.ArrowException:
        raise Refused("The run's reference is not a Parquet file.") from None
    return rows if len(rows) <= MAX_ROWS else rows.sample(MAX_ROWS, random_state=0)


def _spread[T](items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, evenly spread; all when there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
