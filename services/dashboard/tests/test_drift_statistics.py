"""The statistics of drift: false alarms are rare, every kind of change is found and explained."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dashboard import drift
from dashboard.drift import Verdict
from dashboard.drift.checks import new_by_chance

Draw = Callable[[np.random.Generator, int], np.ndarray]

# Use the same examples each time. A rate of false alarms is a property of many samples, and a
# search for a seed that raises an alarm always succeeds.
ALWAYS_THE_SAME = settings(derandomize=True, deadline=None, database=None)


def verdict(before: object, after: object, **options: object) -> drift.Feature:
    """Compare one column."""
    columns = (pd.DataFrame({"x": values}) for values in (before, after))
    (feature,) = drift.compare(*columns, **options)
    return feature


# ---- false alarms ------------------------------------------------------------------------------


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda draw, n: draw.normal(size=n),
    "heavy tails": lambda draw, n: draw.standard_cauchy(n),
    "skewed": lambda draw, n: draw.lognormal(0, 2, n),
    "whole numbers": lambda draw, n: draw.poisson(30, n),
    "a rare flag": lambda draw, n: draw.random(n) < 0.03,
    "mostly zero": lambda draw, n: np.where(draw.random(n) < 0.9, 0.0, draw.exponential(9, n)),
    "with gaps": lambda draw, n: np.where(draw.random(n) < 0.2, np.nan, draw.normal(size=n)),
    "few categories": lambda draw, n: draw.choice(list("abc"), n, p=[0.7, 0.25, 0.05]),
    "many categories": lambda draw, n: np.minimum(draw.zipf(1.5, n), 5000).astype(str),
    "ids that repeat": lambda draw, n: draw.integers(0, 500, n).astype(str),
    "infinities": lambda draw, n: np.where(draw.random(n) < 0.05, np.inf, draw.normal(size=n)),
}


@settings(ALWAYS_THE_SAME, max_examples=12)
@given(
    kinds=st.lists(st.sampled_from(list(DISTRIBUTIONS)), min_size=1, max_size=6),
    sizes=st.tuples(*[st.sampled_from([60, 200, 1000])] * 2),
    rows_per_request=st.sampled_from([1, 1, 4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_unchanged_data_raise_no_more_alarms_than_documented(
    kinds: list[str], sizes: tuple[int, int], rows_per_request: int, seed: int
) -> None:
    draw, runs = np.random.default_rng(seed), 30
    alarms = 0
    for _ in range(runs):
        before, after = (
            pd.DataFrame({i: DISTRIBUTIONS[kind](draw, n) for i, kind in enumerate(kinds)})
            for n in sizes
        )
        requests = np.arange(sizes[1]) // rows_per_request
        found = drift.compare(before, after, requests)
        alarms += any(feature.verdict is Verdict.DRIFTED for feature in found)
    assert alarms <= stats.binom.isf(1e-6, runs, drift.SIGNIFICANCE)


def test_samples_of_two_hundred_rows_rarely_raise_a_false_alarm() -> None:
    draw, runs = np.random.default_rng(0), 400
    found = [verdict(*draw.normal(size=(2, 200))) for _ in range(runs)]
    assert np.mean([f.psi for f in found]) == pytest.approx(9 / 100, rel=0.1)
    assert {f.noise for f in found} == {9 / 100}
    assert sum(f.verdict is Verdict.DRIFTED for f in found) <= 0.02 * runs
    assert not any(f.verdict is Verdict.UNTESTED for f in found)


@pytest.mark.full
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_false_alarms_are_rare_over_thousands_of_samples(kind: str) -> None:
    draw, runs = np.random.default_rng(0), 3000
    alarms = sum(
        verdict(*(DISTRIBUTIONS[kind](draw, n) for n in (200, 200))).verdict is Verdict.DRIFTED
        for _ in range(runs)
    )
    assert alarms <= stats.binom.isf(1e-4, runs, drift.SIGNIFICANCE)


@pytest.mark.parametrize("alike", [0.1, 1.0])
def test_similar_rows_of_one_request_raise_no_alarm(alike: float) -> None:
    draw, alarms, runs = np.random.default_rng(0), 0, 60
    requests = np.repeat(np.arange(100), 20)
    for _ in range(runs):
        shared, own = draw.normal(size=100)[requests], draw.normal(size=2000)
        after = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
        alarms += verdict(draw.normal(size=1000), after, requests=requests).verdict == "drifted"
    assert alarms <= 2


@pytest.mark.parametrize(
    "of_normal",
    [lambda x: x, lambda x: x > 1.5, lambda x: np.where(x > 1.5, np.nan, 1.0)],
    ids=["numbers", "a rare flag", "missing values"],
)
def test_requests_with_a_single_value_raise_no_alarm(of_normal: Callable) -> None:
    """A rare value that no request of one sample has says little about its share."""
    draw, alarms, runs, batches = np.random.default_rng(0), 0, 100, (35, 40)
    requests = np.repeat(np.arange(batches[0]), batches[1])
    for _ in range(runs):
        single, batched, earlier = draw.normal(size=1000), *draw.normal(size=(2, batches[0]))
        after = of_normal(batched[requests])
        for before, groups in ((single, None), (earlier[requests], requests)):
            found = verdict(of_normal(before), after, requests=requests, reference_requests=groups)
            alarms += found.verdict is Verdict.DRIFTED
    assert alarms <= stats.binom.isf(1e-4, 2 * runs, drift.SIGNIFICANCE)


def _batches(draw: np.random.Generator, sizes: list[int], kind: str) -> np.ndarray:
    """Rows of requests of these sizes; some requests differ from the others."""
    requests = np.repeat(np.arange(len(sizes)), sizes)
    odd, values = draw.random(len(sizes)), draw.normal(size=len(requests))
    if kind == "missing in whole requests":
        return np.where((odd < 0.04)[requests], np.nan, values)
    if kind == "one class in whole requests":
        return np.where((odd < 0.05)[requests], "c", np.where(values < 0, "a", "b"))
    return values * np.where(odd < 0.03, 10 ** (1 + 3 * draw.random(len(sizes))), 1.0)[requests]


@pytest.mark.parametrize(
    ("kind", "sizes", "earlier"),
    [
        ("missing in whole requests", [50] * 20 + [1] * 400, [1] * 1000),
        ("one class in whole requests", [50] * 20 + [1] * 400, None),
        ("outliers in whole requests", [100] * 40, None),
    ],
)
def test_a_few_unusual_large_requests_raise_no_alarm(
    kind: str, sizes: list[int], earlier: list[int] | None
) -> None:
    draw, alarms, runs = np.random.default_rng(0), 0, 150
    earlier = earlier or sizes
    requests, old_requests = (np.repeat(np.arange(len(s)), s) for s in (sizes, earlier))
    for _ in range(runs):
        before, after = _batches(draw, earlier, kind), _batches(draw, sizes, kind)
        found = verdict(before, after, requests=requests, reference_requests=old_requests)
        alarms += found.verdict is Verdict.DRIFTED
    assert alarms <= stats.binom.isf(1e-3, runs, drift.SIGNIFICANCE)


@pytest.mark.parametrize(
    "changed",
    [
        lambda draw, x: x + 0.5,
        lambda draw, x: np.where(draw.random(len(x)) < 0.05, 9.0, x),
        lambda draw, x: np.where(draw.random(len(x)) < 0.1, np.nan, x),
    ],
    ids=["shifted", "outliers", "missing"],
)
def test_a_change_between_batches_of_independent_rows_is_found(changed: Callable) -> None:
    draw, requests = np.random.default_rng(0), np.repeat(np.arange(40), 100)
    before, after = draw.normal(size=(2, 4000))
    options = {"requests": requests, "reference_requests": requests}
    assert verdict(before, after, **options).verdict is Verdict.STABLE
    assert verdict(before, changed(draw, after), **options).verdict is Verdict.DRIFTED


def test_a_value_absent_from_a_small_reference_by_chance_raises_no_alarm() -> None:
    """Each of 20 equally frequent values is absent from 100 rows with a probability of 0.6%."""
    draw, runs = np.random.default_rng(0), 300
    found = [
        verdict(*(draw.integers(0, 20, n).astype(str) for n in (100, 10_000))) for _ in range(runs)
    ]
    significant = sum(f.check("new values").p < drift.SIGNIFICANCE for f in found)
    assert significant <= stats.binom.isf(1e-3, runs, drift.SIGNIFICANCE)


@settings(ALWAYS_THE_SAME, max_examples=10)
@given(
    counts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_probability_of_new_values_is_that_of_rows_assigned_at_random(
    counts: list[tuple[int, int]], seed: int
) -> None:
    old, new = np.array([*counts, (1, 1)]).T
    rows = old + new
    absent = np.random.default_rng(seed).random((20_000, len(rows))) < (new.sum() / rows.sum()) ** (
        rows
    )
    expected = ((absent * rows).sum(axis=1) >= new[old == 0].sum()).mean()
    assert new_by_chance(old, new) == pytest.approx(expected, abs=0.02)


def test_the_size_of_a_change_is_its_psi_above_chance() -> None:
    draw = np.random.default_rng(0)
    feature = verdict(draw.normal(size=200), draw.normal(0.5, 1, 200))
    assert feature.psi > drift.CHANGE and feature.noise > 0.08
    assert feature.check("values").size == feature.psi - feature.noise


def test_a_small_change_in_many_rows_is_not_drift() -> None:
    draw = np.random.default_rng(0)
    feature = verdict(draw.normal(0, 1, 20_000), draw.normal(0.1, 1, 20_000))
    assert feature.p < 1e-6 and feature.verdict is Verdict.STABLE


# ---- changes that must be found -----------------------------------------------------------------


def _flag(share: float) -> Draw:
    return lambda draw, n: (draw.random(n) < share).astype(int)


def _gaps(share: float) -> Draw:
    return lambda draw, n: np.where(draw.random(n) < share, np.nan, draw.normal(size=n))


def _mixed(share: float, other: float) -> Draw:
    return lambda draw, n: np.where(draw.random(n) < share, other, draw.normal(size=n))


def _names(prefix: str, count: int) -> Draw:
    return lambda draw, n: np.char.add(prefix, draw.integers(0, count, n).astype(str))


CHANGES: dict[str, tuple[Draw, Draw, str]] = {
    "a shift by a standard deviation": (
        lambda draw, n: draw.normal(size=n),
        lambda draw, n: draw.normal(1, 1, n),
        "PSI",
    ),
    "a wider spread": (
        lambda draw, n: draw.normal(size=n),
        lambda draw, n: draw.normal(0, 3, n),
        "PSI",
    ),
    "a narrower spread": (
        lambda draw, n: draw.normal(size=n),
        lambda draw, n: draw.normal(0, 0.3, n),
        "PSI",
    ),
    "skewed values times five": (
        lambda draw, n: draw.lognormal(0, 1, n),
        lambda draw, n: 5 * draw.lognormal(0, 1, n),
        "PSI",
    ),
    "a flag from 5 to 95 percent": (_flag(0.05), _flag(0.95), "PSI"),
    "a flag from 5 to 30 percent": (_flag(0.05), _flag(0.3), "PSI"),
    "zeros that vanish": (
        lambda draw, n: np.where(draw.random(n) < 0.93, 0.0, draw.exponential(100, n)),
        lambda draw, n: draw.exponential(100, n) + 1,
        "PSI",
    ),
    "most values at the maximum": (
        lambda draw, n: np.where(draw.random(n) < 0.1, draw.random(n), 1.0),
        lambda draw, n: np.where(draw.random(n) < 0.6, draw.random(n), 1.0),
        "PSI",
    ),
    "values that vanish below a frequent one": (
        lambda draw, n: np.where(draw.random(n) < 0.8, 5.0, 5 + draw.uniform(-1, 1, n)),
        lambda draw, n: np.where(draw.random(n) < 0.9, 5.0, 5 + draw.uniform(0, 1, n)),
        "PSI",
    ),
    "whole numbers that floats round to one": (
        lambda draw, n: draw.integers(2**62, 2**62 + 100, n),
        lambda draw, n: draw.integers(2**62 + 200, 2**62 + 300, n),
        f"outside the reference's range, {2**62}",
    ),
    "whole numbers beyond those of 64 bits, with gaps": (
        lambda draw, n: np.array([None] * 50 + [2**70 + int(i) for i in draw.integers(0, 5, n)]),
        lambda draw, n: np.array([None] * 50 + [2**70 + int(i) for i in draw.integers(5, 9, n)]),
        "the reference never had: 11805916207174113",
    ),
    "a day that goes on": (
        lambda draw, n: np.full(n, np.datetime64("2026-01-01", "us")),
        lambda draw, n: np.full(n, np.datetime64("2026-01-02", "us")),
        "the reference never had: 02 Jan 2026",
    ),
    "a constant that changes": (
        lambda draw, n: np.zeros(n),
        lambda draw, n: np.full(n, 5.0),
        "the reference never had: 5",
    ),
    "missing values from 0 to 75 percent": (_gaps(0), _gaps(0.75), "missing, 0% in the reference"),
    "missing values from 5 to 25 percent": (_gaps(0.05), _gaps(0.25), "missing"),
    "missing values that are filled": (_gaps(0.5), _gaps(0), "0% missing"),
    "all values missing": (_gaps(0), _gaps(1), "100% missing"),
    "one outlier in ten rows": (_mixed(0, 0), _mixed(0.1, 1e9), "outside the reference's range"),
    "infinities": (_mixed(0, 0), _mixed(0.1, np.inf), "outside the reference's range"),
    "a new category": (_names("a", 3), _names("a", 4), "the reference never had: a3"),
    "a category that vanishes": (_names("a", 3), _names("a", 2), "PSI"),
    "new names among many": (_names("a", 60), _names("b", 60), "the reference never had"),
    "ids that become one": (
        lambda draw, n: np.char.add("a", np.arange(n).astype(str)),
        lambda draw, n: np.full(n, "z"),
        "PSI",
    ),
    "a flag from 5 to 95 percent, as booleans": (
        lambda draw, n: draw.random(n) < 0.05,
        lambda draw, n: draw.random(n) < 0.95,
        "PSI",
    ),
    "times that go on": (
        lambda draw, n: pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.integers(0, 999, n), "h"),
        lambda draw, n: pd.Timestamp("2026-07-01") + pd.to_timedelta(draw.integers(0, 99, n), "h"),
        "outside the reference's range, 01 Jan 2026",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@settings(ALWAYS_THE_SAME, max_examples=6)
@given(before=st.integers(200, 1500), after=st.integers(200, 1500), seed=st.integers(0, 2**32 - 1))
def test_a_change_is_found_and_explained(change: str, before: int, after: int, seed: int) -> None:
    old, new, reason = CHANGES[change]
    draw = np.random.default_rng(seed)
    feature = verdict(old(draw, before), new(draw, after))
    assert feature.verdict is Verdict.DRIFTED and reason in feature.why, feature.why


def test_only_the_changed_one_of_many_columns_is_found() -> None:
    draw = np.random.default_rng(0)
    names = [f"x{i}" for i in range(200)]
    before = pd.DataFrame(draw.normal(size=(400, 200)), columns=names)
    after = pd.DataFrame(draw.normal(size=(400, 200)), columns=names)
    after["x7"] += 1
    found = drift.compare(before, after)
    assert [f.name for f in found if f.verdict is Verdict.DRIFTED] == ["x7"]
    assert found[0].name == "x7"
    assert sum(check.p < 0.05 for f in found for check in f.checks) > 5


def test_a_change_in_many_batches_outweighs_many_single_rows() -> None:
    draw = np.random.default_rng(0)
    requests = np.concatenate([np.repeat(np.arange(80), 500), 80 + np.arange(1000)])
    after = np.concatenate([draw.normal(5, 1, 40_000), draw.normal(0, 1, 1000)])
    assert verdict(draw.normal(size=1000), after, requests=requests).verdict is Verdict.DRIFTED


# ---- columns that cannot be tested --------------------------------------------------------------


@settings(ALWAYS_THE_SAME, max_examples=25)
@given(
    kind=st.sampled_from(["normal", "few categories", "whole numbers", "a rare flag"]),
    before=st.integers(1, 3000),
    after=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_stated_number_of_rows_suffices_for_a_test(
    kind: str, before: int, after: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    feature = verdict(DISTRIBUTIONS[kind](draw, before), DISTRIBUTIONS[kind](draw, after))
    if feature.verdict is not Verdict.UNTESTED:
        return
    if found := re.search(r"too few rows: \d+ recent with a value; at least (\d+)", feature.why):
        sizes = before, int(found[1])
    else:
        found = re.search(r"too few rows in the reference: .*; (\d+) in each", feature.why)
        sizes = (int(found[1]),) * 2
    # A larger sample may have more different values, which need more bins.
    sizes = [n + (50 if kind != "normal" else 0) for n in sizes]
    again = verdict(*(DISTRIBUTIONS[kind](draw, n) for n in sizes))
    assert again.verdict is Verdict.STABLE, again.why


def test_a_large_change_is_found_in_the_smallest_tested_sample() -> None:
    draw, runs, found = np.random.default_rng(0), 200, 0
    rows = int(np.ceil(2 * drift.rows_needed(2)))
    after = 0.5 + 0.2449
    assert drift.psi(np.array([5e8, 5e8]), np.array([1 - after, after]) * 1e9) == pytest.approx(
        drift.LARGE_CHANGE, abs=0.02
    )
    for _ in range(runs):
        feature = verdict(draw.random(rows) < 0.5, draw.random(rows) < after)
        found += feature.verdict is Verdict.DRIFTED
    assert found / runs >= drift.POWER - 0.1


UNTESTED = {
    "no rows": ([1.0] * 500, [], "no rows in the recent sample"),
    "no reference": ([], [1.0] * 500, "no rows in the reference"),
    "all missing": ([None] * 500, [None] * 500, "every value is missing in both samples"),
    "few values": (
        [1.0, 2.0] * 3 + [None] * 594,
        [1.0, 2.0] * 3 + [None] * 594,
        "too few rows in the reference: 6 with a value",
    ),
    "ids": (
        [f"a{i}" for i in range(1000)],
        [f"b{i}" for i in range(1000)],
        "too rare to compare, like ids",
    ),
    "arrays": ([[1, 2]] * 500, ["[1,2]"] * 500, "arrays are not compared"),
    "text and numbers": (
        ["1"] * 500,
        [1] * 500,
        "not comparable: text in the reference, numbers in the recent sample",
    ),
}


@pytest.mark.parametrize("case", UNTESTED)
def test_a_column_that_cannot_be_tested_says_why(case: str) -> None:
    before, after, reason = UNTESTED[case]
    feature = verdict(pd.Series(before, dtype=object), pd.Series(after, dtype=object))
    assert feature.verdict is Verdict.UNTESTED and reason in feature.why, feature.why


def test_a_column_that_the_reference_lacks_is_not_tested() -> None:
    before, after = pd.DataFrame({"only_here": [1] * 500}), pd.DataFrame({"new": [1] * 500})
    (feature,) = drift.compare(before, after)
    assert feature.verdict is Verdict.UNTESTED
    assert feature.why == "the reference has no such column"


def test_a_few_large_requests_are_not_tested() -> None:
    draw = np.random.default_rng(0)
    feature = verdict(
        draw.normal(size=1000), draw.normal(1, 1, 2000), requests=np.arange(2000) // 500
    )
    assert feature.verdict is Verdict.UNTESTED
    assert "2000 of 4 requests, worth 4 independent rows; at least" in feature.why


def test_a_constant_is_stable() -> None:
    feature = verdict([7] * 300, [7] * 300)
    assert (feature.verdict, feature.why) == (Verdict.STABLE, "always the same value")


# ---- kinds of values ----------------------------------------------------------------------------

MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
# Arrow type -> the value for a number, or None if the verdict is "not tested".
TYPES: dict[pa.DataType, Callable[[int], object] | None] = {
    pa.null(): None,
    pa.bool_(): lambda i: i < 30,
    **{getattr(pa, f"{sign}int{bits}")(): int for sign in ("", "u") for bits in (8, 16, 32, 64)},
    pa.float16(): lambda i: np.float16(i / 8),
    pa.float32(): lambda i: i / 10,
    pa.float64(): lambda i: i / 10,
    pa.decimal128(12, 2): lambda i: Decimal(i) / 4,
    pa.string(): lambda i: f"v{i % 7}",
    pa.large_string(): lambda i: f"v{i % 7}",
    pa.binary(): lambda i: b"v%d" % (i % 7),
    pa.dictionary(pa.int32(), pa.string()): lambda i: f"v{i % 7}",
    pa.date32(): lambda i: (MOMENT + dt.timedelta(days=i)).date(),
    pa.time64("us"): lambda i: dt.time(i % 24, i % 60),
    pa.timestamp("us"): lambda i: (MOMENT + dt.timedelta(hours=i)).replace(tzinfo=None),
    pa.timestamp("ms", "UTC"): lambda i: MOMENT + dt.timedelta(hours=i),
    pa.duration("us"): lambda i: dt.timedelta(hours=i),
    pa.list_(pa.float64()): None,
    pa.struct({"a": pa.int64()}): None,
}
NESTED = {pa.list_(pa.float64()): [1.0], pa.struct({"a": pa.int64()}): {"a": 1}}


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("gaps", [False, True])
def test_every_type_of_a_file_has_a_verdict(kind: pa.DataType, gaps: bool) -> None:
    make, draw = TYPES[kind], np.random.default_rng(0)

    def column(highest: int) -> pd.DataFrame:
        numbers = [int(i) for i in draw.integers(0, highest, 500)]
        values = [make(i) if make else NESTED.get(kind) for i in numbers]
        if gaps:
            values[::10] = [None] * 50
        file = io.BytesIO()
        pq.write_table(pa.table({"x": pa.array(values, kind)}), file)
        return pq.read_table(file).to_pandas()

    (same,) = drift.compare(column(60), column(60))
    assert same.verdict is (Verdict.STABLE if make else Verdict.UNTESTED), same.why
    assert same.why
    if make:
        (moved,) = drift.compare(column(60), column(3))
        assert moved.verdict is Verdict.DRIFTED


def test_a_float_of_lower_precision_in_the_log_is_not_drift() -> None:
    rows = np.array([0.1, 0.2, 0.3] * 200)
    assert verdict(rows, rows.astype("float32")).verdict is Verdict.STABLE


def test_flags_match_numbers_and_bytes_match_base64() -> None:
    assert verdict([True, False] * 300, [1.0, 0.0] * 300).verdict is Verdict.STABLE
    assert verdict([b"ab", b"cd"] * 300, ["YWI=", "Y2Q="] * 300).verdict is Verdict.STABLE


# ---- the numbers --------------------------------------------------------------------------------


def test_psi_agrees_with_a_calculation_by_hand() -> None:
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    found = drift.psi(np.array([5e6, 5e6]), np.array([8e6, 2e6]))
    assert found == pytest.approx(expected, rel=1e-5)
    assert drift.psi(np.array([10, 0]), np.array([0, 10])) > drift.LARGE_CHANGE


def test_drift_over_time_starts_where_the_values_change() -> None:
    draw = np.random.default_rng(0)
    at = pd.date_range("2026-01-01", periods=2400, freq="6min", tz="UTC")
    recent = pd.Series(np.where(np.arange(2400) < 1200, draw.normal(size=2400), 9.0))
    edges = pd.date_range("2026-01-01", periods=12, freq="D", tz="UTC")
    buckets = drift.over_time("x", pd.Series(draw.normal(size=900)), recent, at, edges)
    assert [bucket.feature.rows[1] for bucket in buckets] == [240] * 10 + [0]
    found = [bucket.feature.verdict for bucket in buckets]
    assert found == [Verdict.STABLE] * 5 + [Verdict.DRIFTED] * 5 + [Verdict.UNTESTED]
    assert (buckets[0].start, buckets[0].end) == (edges[0], edges[1])
