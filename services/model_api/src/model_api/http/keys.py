"""The bearer keys and their rate limits.

The file is a JSON list of ``{"name", "key", "requests_per_second", "burst"}``. The last two are
optional; without them there is no limit. A key is valid only while the file contains it: an invalid
entry neither keeps another key valid nor disables one.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

MINIMUM_LENGTH = 32
# Only at the start of a word: a random key may contain one of these words by chance.
_PLACEHOLDER = re.compile(
    r"(?<![a-z0-9])(change|example|placeholder|secret|password|todo|xxxx|your)", re.IGNORECASE
)
_SHAPE = '{"name", "key", "requests_per_second", "burst"}'
_MAKE_ONE = "create one with `openssl rand -hex 32`"

logger = logging.getLogger(__name__)


class KeysError(ValueError):
    """The file of keys is invalid; the message contains no key."""


class Caller(msgspec.Struct, frozen=True):
    """The holder of a key.

    Attributes:
        name: shown in logs and metrics.
        requests_per_second: the long-term rate limit; None for no limit.
        burst: the most requests at once.
    """

    name: str
    requests_per_second: float | None
    burst: int


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    # Also the name of a file (`RateLimiter`), so "." and ".." are invalid.
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")]
    key: str
    requests_per_second: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class _Refused(NamedTuple):
    reason: str
    key: str


class Keys:
    """The keys of a file, by digest, so that the time of a look-up reveals nothing about a key.

    Args:
        path: the file.

    Raises:
        KeysError: the file cannot be read, or has no valid key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Nobody can choose a digest without this salt, so timing answers does not help to find one.
        self._salt = secrets.token_bytes(32)
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        self.broken = False
        """Whether the file, or an entry in it, is invalid."""
        self._state: object = _state(path)
        self._read()
        if not self._callers:
            raise KeysError(f"{path} has no valid key, so no client could use the API")

    def caller(self, authorization: bytes | None) -> Caller | None:
        """Return the caller of a header ``Authorization``; None if the key is unknown.

        The key is the bearer token or, because clients send that for a URL with credentials, the
        password of Basic.
        """
        key = _key_of(authorization)
        if key is None:
            return None
        digest = self._digest(key)
        found = self._callers.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]

    def refresh(self) -> None:
        """Read the file again if it has changed; if it is not a list of entries, the keys stay."""
        state = _state(self._path)
        if state == self._state:
            return
        try:
            self._read()
        except KeysError as error:
            self.broken = True
            logger.error("the keys are unchanged: %s", error)
        else:
            logger.info("%s was read again: %d keys", self._path, len(self._callers))
        # Only now: after any other exception, the next call must read the file again.
        self._state = state

    def _read(self) -> None:
        callers: dict[bytes, tuple[bytes, Caller]] = {}
        broken = False
        for entry in _parsed(self._path):
            if isinstance(entry, _Entry):
                digest = self._digest(entry.key.encode())
                callers[digest] = digest, Caller(entry.name, entry.requests_per_second, entry.burst)
                continue
            broken = True
            logger.error("an entry is ignored: %s", entry.reason)
            digest = self._digest(entry.key.encode(errors="replace"))
            if digest in self._callers:
                # Its holder keeps access, because the file still has the key.
                callers.setdefault(digest, self._callers[digest])
        self._callers, self.broken = callers, broken

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=32, key=self._salt).digest()


def read(path: Path) -> list[_Entry]:
    """Return the entries of the file.

    Raises:
        KeysError: the file cannot be read, or an entry is invalid.
    """
    entries = []
    for entry in _parsed(path):
        if isinstance(entry, _Refused):
            raise KeysError(entry.reason)
        entries.append(entry)
    if not entries:
        raise KeysError(f"{path} has no key, so no client could use the API: add one")
    return entries


def _parsed(path: Path) -> Iterator[_Entry | _Refused]:
    """Yield each entry or why it is invalid; KeysError if the file is not a list of entries."""
    try:
        # This also reads text that is not Unicode, so such text costs only its own entry.
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise KeysError(f"{path} is not a list of {_SHAPE}: {error}") from None
    if not isinstance(entries, list):
        raise KeysError(f"{path} is not a list of {_SHAPE}")
    names: set[str] = set()
    keys: set[str] = set()
    for number, content in enumerate(entries, start=1):
        try:
            entry = msgspec.convert(content, _Entry)
        except msgspec.ValidationError as error:
            key = content.get("key") if isinstance(content, dict) else None
            reason = f"{path}, entry {number} is not {_SHAPE}: {error}"
            yield _Refused(reason, key if isinstance(key, str) else "")
            continue
        fault = _weakness(entry.key)
        if entry.name in names:
            yield _Refused(
                f"{path} has the name {entry.name!r} twice: each client needs its own name",
                entry.key,
            )
        elif entry.key in keys:
            yield _Refused(
                f"{path}: the key of {entry.name!r} is also the key of another client", entry.key
            )
        elif fault is not None:
            yield _Refused(f"{path}: the key of {entry.name!r} {fault}", entry.key)
        else:
            names.add(entry.name)
            keys.add(entry.key)
            yield entry


def _key_of(authorization: bytes | None) -> bytes | None:
    if authorization is None:
        return None
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:]
    if authorization[:6].lower() == b"basic ":
        with suppress(binascii.Error):
            return base64.b64decode(authorization[6:], validate=True).partition(b":")[2]
    return None


def _weakness(key: str) -> str | None:
    if not key.isascii() or not key.isprintable() or " " in key:
        return "must be ASCII without spaces, because it is sent in an HTTP header"
    if len(key) < MINIMUM_LENGTH:
        return f"has fewer than {MINIMUM_LENGTH} characters: {_MAKE_ONE}"
    if len(set(key)) < 8 or _PLACEHOLDER.search(key):
        return f"looks like a placeholder: {_MAKE_ONE}"
    return None


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns
