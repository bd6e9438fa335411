"""Reading the prediction log: an even sample with bounded memory, for any content of the files."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import log_predictions, wines

from dashboard import even_sample, prediction_log
from dashboard.prediction_log import PredictionLog, Sample

NOW = datetime.now(UTC)


@pytest.fixture
def read(log: Path) -> Callable[..., Sample]:
    """Reads the rows logged in the last hours."""

    def read(hours: float = 1) -> Sample:
        end = NOW + timedelta(minutes=1)
        return PredictionLog(f"file://{log}").read("m", "1", end - timedelta(hours=hours), end)

    return read


def write(log: Path, rows: pd.DataFrame, **options: object) -> None:
    """Log these rows with a time some minutes ago."""
    log_predictions(log, "m", "1", NOW - timedelta(minutes=10), rows, **options)


def test_rows_of_large_and_small_files_are_sampled_evenly(
    log: Path, read: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even_sample, "MAX_ROWS", 2000)
    for i in range(50):
        busy = i % 10 == 0
        rows = 2000 if busy else 10
        write(log, pd.DataFrame({"busy": [float(busy)] * rows, "prediction": 0}))
    sample = read()
    assert (len(sample.rows), sample.logged) == (2000, 5 * 2000 + 45 * 10)
    # Two standard deviations of a share of 0.957 in 2,000 rows are 0.009.
    assert sample.rows["busy"].mean() == pytest.approx(10_000 / 10_450, abs=0.02)


def test_late_and_early_rows_of_a_file_are_sampled_evenly(
    log: Path, read: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even_sample, "MAX_ROWS", 1000)
    write(log, pd.DataFrame({"place": np.arange(20_000), "prediction": 0}))
    places = read().rows["place"]
    assert len(places) == 1000
    assert places.mean() == pytest.approx(10_000, rel=0.1)
    assert places.is_monotonic_increasing and places.is_unique


def test_periodic_files_are_not_missed() -> None:
    chosen = prediction_log._spread(range(2400), 240)
    assert len(set(chosen)) == 240 and chosen == sorted(chosen)
    assert 10 <= sum(item % 10 == 0 for item in chosen) <= 50
    assert max(np.diff(chosen)) < 20
    assert prediction_log._spread(range(5), 240) == [0, 1, 2, 3, 4]


def test_the_memory_of_wide_rows_is_bounded(
    log: Path, read: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even_sample, "MAX_BYTES", 1 << 20)
    for i in range(20):
        write(log, pd.DataFrame({"file": i, "text": ["x" * 1000] * 500, "prediction": 0}))
    sample = read()
    assert sample.logged == 10_000 and 500 < len(sample.rows) < 1100
    assert sample.rows["file"].value_counts().min() > 10


def test_integers_with_gaps_are_read_exactly(log: Path, read: Callable[..., Sample]) -> None:
    ids = pd.array([2**62 + 1, None, 2**62 + 2], dtype="Int64")
    write(log, pd.DataFrame({"id": ids, "prediction": 0}))
    assert sorted(read().rows["id"].dropna()) == [2**62 + 1, 2**62 + 2]
    file = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(ids)}), file)
    reference = prediction_log.read_reference(file.getvalue())
    assert list(reference["id"].dropna()) == [2**62 + 1, 2**62 + 2]


def test_a_sample_is_the_same_each_time(
    log: Path, read: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even_sample, "MAX_ROWS", 100)
    write(log, wines(1000), files=3)
    first, second = read(), read()
    pd.testing.assert_frame_equal(first.rows, second.rows)


def test_rows_come_with_their_time_and_request(log: Path, read: Callable[..., Sample]) -> None:
    write(log, wines(60), rows_per_request=20)
    sample = read()
    assert list(sample.rows) == ["alcohol", "colour", "prediction"]
    assert len(sample.at) == 60 and len(set(sample.requests)) == 3
    assert sample.at.min() == pd.Timestamp(NOW - timedelta(minutes=10)).floor("s")
    assert read(hours=0.01).rows.empty


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2], [0.5, 1.5], [1.0, 2.0, 0.5, 1.5]),
        ([[1.0]], [[2.0], [3.0]], [np.array([1.0]), np.array([2.0]), np.array([3.0])]),
        ([{"a": 1}], [{"a": 2}], [{"a": 1}, {"a": 2}]),
        ([1, 2], ["a", "b"], ["1", "2", "a", "b"]),
        ([[1, 2]], ["a"], ["[1, 2]", "a"]),
        ([{"a": 1}], [None], ['{"a": 1}', "nan"]),
        ([1, 2], [None], [1.0, 2.0, "nan"]),
        ([2**60 + 1], [0.5], None),
    ],
)
def test_files_with_predictions_of_different_types_are_read(
    log: Path, read: Callable[..., Sample], one: list, other: list, expected: list | None
) -> None:
    for values in (one, other):
        write(log, pd.DataFrame({"x": 1.0, "prediction": pd.Series(values, dtype=object)}))
    found = read().rows["prediction"].tolist()
    assert len(found) == len(one) + len(other)
    if expected:
        assert sorted(map(str, found)) == sorted(map(str, expected))


def test_a_long_log_is_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "MAX_FILES", 4)
    monkeypatch.setattr(even_sample, "MAX_ROWS", 40)
    now = datetime.now(UTC)
    for hours in range(8):
        at = now - timedelta(hours=hours)
        log_predictions(tmp_path, "a/b c", "1", at, wines(100).assign(hours=hours))
    log = PredictionLog(f"file://{tmp_path}")
    sample = log.read("a/b c", "1", now - timedelta(hours=9), now + timedelta(minutes=1))
    assert (len(sample.rows), sample.files, sample.files_read) == (40, 8, 4)
    assert sorted(hours // 2 for hours in sample.rows["hours"].unique()) == [0, 1, 2, 3]
    assert set(sample.rows) == {"alcohol", "colour", "prediction", "hours"}
    assert log.newest("a/b c", "1") > now - timedelta(minutes=1)
    assert log.newest("other", "1") is None
    with pytest.raises(ValueError, match="31 days"):
        log.read("a/b c", "1", now - timedelta(days=40), now)


def test_a_reference_of_any_parquet_types_is_read(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([1, 2]), "b": pa.array(["x", None]).dictionary_encode()})
    path = tmp_path / "reference.parquet"
    pa.parquet.write_table(table, path)
    assert list(prediction_log.read_reference(path.read_bytes())["b"]) == ["x", np.nan]
