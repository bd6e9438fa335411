"""How long to wait before something that failed is tried again."""


def back_off(first: float, failures: int, longest: float) -> float:
    """Return the seconds to wait: they double with each failure in a row, up to a limit.

    Args:
        first: after one failure.
        failures: so far, in a row.
        longest: the limit.
    """
    # A float overflows after 1024 doublings. After 60 any wait is beyond any limit.
    return min(first * 2.0 ** min(max(failures - 1, 0), 60), longest)
