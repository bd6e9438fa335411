"""A record of the state that a request touched, which is saved before the answer.

moto's backends change each other (RDS creates secrets, load balancers create network interfaces),
so the service a request names does not say whose state it changed. Every access to another
service goes through moto's `AccountSpecificBackend`, so these accesses are recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from moto.core.base_backend import AccountSpecificBackend, BaseBackend

ACCOUNT_ID = "123456789012"


@dataclass
class Touched:
    """Everything a request may have changed; S3 is broken down, since its state is large.

    `objects` (bucket, key) were written or deleted, `fetched` ones may have been changed in place.
    """

    backends: set[BaseBackend] = field(default_factory=set)
    buckets: set[str] = field(default_factory=set)
    objects: set[tuple[str, str]] = field(default_factory=set)
    fetched: set[tuple[str, str]] = field(default_factory=set)
    uploads: set[tuple[str, str]] = field(default_factory=set)
    parts: set[tuple[str, str, int]] = field(default_factory=set)
    discarded_bodies: list[str] = field(default_factory=list)


_current: ContextVar[Touched | None] = ContextVar("touched", default=None)


@contextmanager
def track() -> Iterator[Touched]:
    """Record what the enclosed call touches in this thread."""
    touched = Touched()
    token = _current.set(touched)
    try:
        yield touched
    finally:
        _current.reset(token)


def current() -> Touched | None:
    """The record of the request being served in this thread, if any."""
    return _current.get()


def install() -> None:
    """Make moto report every backend it hands out (moto/core/base_backend.py)."""
    original = AccountSpecificBackend.__getitem__

    def getitem(self: AccountSpecificBackend, region_name: str) -> BaseBackend:
        backend = original(self, region_name)
        if (touched := _current.get()) is not None:
            touched.backends.add(backend)
        return backend

    AccountSpecificBackend.__getitem__ = getitem
