"""The guard keeps a loop alive, and its log shows a lasting fault."""

import asyncio
import logging

import pytest

from model_api.common.guard import REPEAT_SECONDS, Guard

logger = logging.getLogger("guarded")


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_exception_is_logged_with_its_traceback_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = Guard("counting", logger)
    with guard:
        raise ValueError("torn")
    assert guard.failures == 1
    [record] = caplog.records
    assert record.message == "counting: failed, will be retried"
    assert record.exc_info is not None and str(record.exc_info[1]) == "torn"


def test_a_fault_that_lasts_is_logged_once_a_minute_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    guard = Guard("counting", logger, clock)
    caplog.set_level(logging.INFO)
    passes = 601
    for number in range(passes):
        clock.now = number * REPEAT_SECONDS / 300
        with guard:
            raise ValueError
    assert len(caplog.records) == 3
    for _ in range(2):
        with guard:
            pass
    assert caplog.messages[3:] == [f"counting: works again, failed {passes} times"]
    with guard:
        raise ValueError
    assert len(caplog.records) == 5


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_an_exception_that_must_end_the_loop_ends_it(error: type[BaseException]) -> None:
    guard = Guard("counting", logger)
    with pytest.raises(error), guard:
        raise error
    assert guard.failures == 0
