"""How long to wait before a retry."""


def back_off(first: float, failures: int, longest: float) -> float:
    """Return the seconds to wait before the next try, which double with each failure in a row.

    Args:
        first: the wait after one failure.
        failures: the number of failures in a row so far.
        longest: the longest wait.
    """
    # A float overflows after 1024 doublings. After 60 any wait is beyond any limit.
    return min(first * 2.0 ** min(max(failures - 1, 0), 60), longest)
