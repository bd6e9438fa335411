"""How much memory there is, and how much of it processes use."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Files with a container's limit and use of memory: cgroups of version 2, then of version 1.
_GROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def half_of_memory() -> int:
    """Return half of the memory, in bytes, that this machine or this container has."""
    found = [_PAGE * os.sysconf("SC_PHYS_PAGES")]
    found += [limit for limit, _ in _limits()]
    return min(found) // 2


def free_memory() -> int:
    """Return the bytes that are free on this machine, and in this container."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    [available] = [line for line in lines if line.startswith("MemAvailable:")]
    found = [int(available.split()[1]) * 1024]
    found += [limit - taken for limit, taken in _limits()]
    return max(0, min(found))


def _limits() -> Iterator[tuple[int, int]]:
    """Yield the limit and use of each group that has a limit; cached files do not count as use."""
    for names in _GROUPS:
        limit, usage, stat = (Path("/sys/fs/cgroup", name) for name in names)
        # There is no such group, or it says "max".
        with suppress(OSError, ValueError):
            most, taken = int(limit.read_text()), int(usage.read_text())
            fields = dict(line.split() for line in stat.read_text().splitlines())
            yield most, taken - int(fields.get("inactive_file", 0))


class Usage(NamedTuple):
    """The resources of a process and all its descendants.

    Attributes:
        bytes: memory in use. Shared memory counts once: this is the sum of their proportional set
            sizes (proc_pid_smaps(5)), or of their resident sets where the kernel does not report
            those.
        processes: their number.
    """

    bytes: int
    processes: int


def usage_of(pid: int, most_bytes: int, seconds: float = 0.2) -> Usage:
    """Return the usage of a process and its descendants; zeros if it has ended.

    Args:
        pid: the process's number.
        most_bytes: the sum stops here.
        seconds: limit for adding up; if it takes longer, the usage counts as more than
            ``most_bytes``.
    """
    children = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                # The name in brackets can contain anything.
                fields = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()
                children[int(fields[1])].append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children[process]
    total, deadline = 0, time.monotonic() + seconds
    for process in found:
        total += _proportional(process)
        if total > most_bytes:
            break
        if time.monotonic() > deadline:
            total = most_bytes + 1
            break
    return Usage(total, len(found))


def _proportional(pid: int) -> int:
    folder = Path("/proc", str(pid))
    try:
        for line in (folder / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        with suppress(OSError):
            return int((folder / "statm").read_text().split()[1]) * _PAGE
    return 0
