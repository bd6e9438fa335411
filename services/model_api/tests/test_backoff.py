"""The wait before a retry."""

import pytest

from model_api.common.backoff import back_off


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 2), (1, 2), (2, 4), (5, 32), (6, 60), (1023, 60), (1024, 60), (10**9, 60)],
)
def test_the_wait_doubles_up_to_its_limit_however_often_it_failed(
    failures: int, seconds: float
) -> None:
    assert back_off(2, failures, 60) == seconds
