"""The state of every service but S3: one row per backend (service, account, region)."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

from moto.core.base_backend import BaseBackend
from moto.iam.models import AWSManagedPolicy, IAMBackend
from moto.s3.models import S3Backend

from . import pickles
from .store import Store

KIND = "backend"
ATTEMPTS = 5


class ControlState:
    """Loads backends at start, and finds what has to be written after a call.

    Its methods are not thread-safe: whoever changes backends and saves them holds one lock.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digests: dict[str, bytes] = {}
        self._references: dict[str, set[str]] = {}

    def load(self) -> None:
        """Load every saved backend.

        Raises:
            LookupError, pickle.UnpicklingError, ...: the state does not fit this moto.
        """
        for name, content in self._store.read(KIND):
            backend = pickles.backend_named(name)
            state, self._references[name] = pickles.loads(content)
            _restore(backend, cast(dict[str, Any], state))
            self._digests[name] = _digest(content)

    def changes(self, backends: Iterable[BaseBackend]) -> dict[tuple[str, str], bytes]:
        """The rows of those backends that are not what was last saved.

        Backends that these refer to, or referred to until now, are looked at as well: RDS
        reaches the secrets it manages that way.
        """
        rows = {}
        left = {pickles.backend_name(backend): backend for backend in _durable(backends)}
        seen: set[str] = set()
        while left:
            name, backend = left.popitem()
            seen.add(name)
            content, references = _pickled(backend)
            found = [
                pickles.backend_named(reference)
                for reference in references | self._references.get(name, set())
                if reference not in seen
            ]
            left |= {pickles.backend_name(backend): backend for backend in _durable(found)}
            self._references[name] = references
            digest = _digest(content)
            if self._digests.get(name) != digest:
                self._digests[name] = digest
                rows[KIND, name] = content
        return rows

    def forget(self, rows: Iterable[tuple[str, str]]) -> None:
        """These rows could not be written: the next call that touches them tries again."""
        for _, name in rows:
            self._digests.pop(name, None)

    def unsaved(self, backends: Iterable[BaseBackend]) -> list[BaseBackend]:
        """Backends that no row exists for: moto just created them, with random ids inside."""
        return [
            backend
            for backend in _durable(backends)
            if pickles.backend_name(backend) not in self._digests
        ]


def _durable(backends: Iterable[BaseBackend]) -> list[BaseBackend]:
    return [
        backend
        for backend in backends
        if isinstance(backend, BaseBackend) and not isinstance(backend, S3Backend)
    ]


def _pickled(backend: BaseBackend) -> tuple[bytes, set[str]]:
    for _ in range(ATTEMPTS):
        try:
            return pickles.dumps(_state(backend))
        except RuntimeError:  # a reading call grew a dict meanwhile: readers take no lock
            continue
    return pickles.dumps(_state(backend))


def _state(backend: BaseBackend) -> dict[str, Any]:
    # The factory of a defaultdict can be a lambda, which has no name to be saved under.
    state = {
        name: dict(value) if isinstance(value, defaultdict) else value
        for name, value in vars(backend).items()
    }
    if isinstance(backend, IAMBackend):
        # More than a thousand, 24 MB, the same for everyone: moto reads them at every start.
        del state["aws_managed_policies"]
        state["managed_policies"] = {
            arn: policy
            for arn, policy in backend.managed_policies.items()
            if not isinstance(policy, AWSManagedPolicy)
        }
    return state


def _restore(backend: BaseBackend, state: dict[str, Any]) -> None:
    if isinstance(backend, IAMBackend):
        state["managed_policies"] = backend.managed_policies | state["managed_policies"]
    for name, value in state.items():
        if isinstance(fresh := getattr(backend, name, None), defaultdict):
            fresh.clear()
            fresh.update(value)
        else:
            setattr(backend, name, value)
    if isinstance(backend, IAMBackend):
        for holders in (backend.roles, backend.users, backend.groups):
            for holder in holders.values():
                for policy in holder.managed_policies.values():
                    if isinstance(policy, AWSManagedPolicy):
                        policy.attachment_count += 1


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
