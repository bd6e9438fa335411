"""Rate limits shared by processes, and limits for bodies."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import serving  # noqa: F401  (before prometheus_client)

from model_api.http.body import read_body
from model_api.http.executor import BREAK_SECONDS, PredictionExecutor
from model_api.http.keys import Caller
from model_api.http.problems import Problem
from model_api.http.rates import RateLimiter


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: RateLimiter, caller: Caller, clock: Clock) -> bool:
    try:
        rates.take(caller, clock)
    except Problem as problem:
        assert problem.status == 429
        return False
    return True


def test_a_burst_is_followed_by_the_rate(tmp_path: Path) -> None:
    rates, caller, clock = RateLimiter(tmp_path / "rates"), Caller("one", 10, 5), Clock()
    assert [taken(rates, caller, clock) for _ in range(7)] == [True] * 5 + [False] * 2
    clock.now += 0.1
    assert [taken(rates, caller, clock) for _ in range(2)] == [True, False]
    clock.now += 100
    assert [taken(rates, caller, clock) for _ in range(7)] == [True] * 5 + [False] * 2


def test_over_a_minute_the_rate_is_exact(tmp_path: Path) -> None:
    rates, caller, clock = RateLimiter(tmp_path / "rates"), Caller("one", 7, 3), Clock()
    count = 0
    for _ in range(6000):
        clock.now += 0.01
        count += taken(rates, caller, clock)
    assert abs(count - 7 * 60) <= 3


def test_each_key_has_its_own_limit(tmp_path: Path) -> None:
    rates, clock = RateLimiter(tmp_path / "rates"), Clock()
    assert taken(rates, Caller("one", 1, 1), clock)
    assert not taken(rates, Caller("one", 1, 1), clock)
    assert taken(rates, Caller("two", 1, 1), clock)
    assert all(taken(rates, Caller("free", None, 1), clock) for _ in range(100))


def test_a_time_from_another_boot_does_not_lock_a_key_out(tmp_path: Path) -> None:
    caller, clock = Caller("one", 1, 1), Clock()
    assert taken(RateLimiter(tmp_path / "rates"), caller, clock)
    clock.now = 1
    assert taken(RateLimiter(tmp_path / "rates"), caller, clock)


def _take(folder: Path, tries: int, results: Any) -> None:
    rates, caller = RateLimiter(folder), Caller("shared", 0.001, 50)
    results.put(sum(taken(rates, caller, Clock()) for _ in range(tries)))


def test_processes_share_a_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    folder = tmp_path / "rates"
    workers = [context.Process(target=_take, args=(folder, 200, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    counts = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    # Each process may let one more through while another decides.
    assert 50 <= sum(counts) <= 60


def messages(*parts: bytes) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield {"type": "http.request", "body": part, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


def test_the_event_loop_gets_a_pause_between_two_predictions() -> None:
    async def times() -> list[tuple[float, float]]:
        threads = PredictionExecutor(1, 10)

        def work() -> tuple[float, float]:
            start = time.perf_counter()
            time.sleep(0.002)
            return start, time.perf_counter()

        try:
            return await asyncio.gather(*(threads.run(work, 10) for _ in range(3)))
        finally:
            threads.stop()

    for (_, end), (start, _) in pairwise(asyncio.run(times())):
        assert start - end >= BREAK_SECONDS


def test_work_that_gets_no_thread_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = PredictionExecutor(1, 0)

    async def run() -> int:
        return await threads.run(lambda: 1, 10)

    def no_thread(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threads._executor, "submit", no_thread)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                asyncio.run(run())
    assert asyncio.run(run()) == 1
    threads.stop()


def test_a_body_beyond_the_limit_is_not_read_further() -> None:
    left = messages(*[b"x" * 10] * 1000)

    async def receive() -> dict[str, Any]:
        return next(left)

    with pytest.raises(Problem) as refused:
        asyncio.run(read_body(receive, None, 100, 5))
    assert refused.value.status == 413
    assert len(list(left)) == 1001 - 11


def test_a_body_that_declares_too_much_is_not_read_at_all() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError

    with pytest.raises(Problem) as refused:
        asyncio.run(read_body(receive, b"101", 100, 5))
    assert refused.value.status == 413


@pytest.mark.parametrize("parts", [[b"x" * 100], [b"x" * 50, b"x" * 50], [b"x"] * 100])
def test_a_body_of_exactly_the_limit_is_accepted(parts: list[bytes]) -> None:
    left = messages(*parts)

    async def receive() -> dict[str, Any]:
        return next(left)

    assert asyncio.run(read_body(receive, None, 100, 5)) == b"x" * 100
