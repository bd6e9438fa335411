"""How fast this machine is: a fixed calculation, by which figures of another one can be scaled."""

from __future__ import annotations

import time


def calculation_seconds(rounds: int = 3) -> float:
    """The CPU time of one processor for a fixed calculation in plain Python, seconds.

    The shortest of a few rounds: what else runs only ever makes it longer.
    """
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        sum(i * i % 7 for i in range(5_000_000))
        times.append(time.thread_time() - began)
    return min(times)


if __name__ == "__main__":
    print(f"{calculation_seconds():.2f} s")
