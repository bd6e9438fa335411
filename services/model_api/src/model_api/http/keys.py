"""The bearer keys: who may ask, and how often.

The file is a JSON list of ``{"name", "key", "requests_per_second", "burst"}``; the last two may be
left out, which sets no limit. A key is valid only while the file has it: an entry that is not
acceptable never keeps another key alive, nor takes one out of service.
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
# Where a word begins: a random key may well have one of them among its letters.
_PLACEHOLDER = re.compile(
    r"(?<![a-z0-9])(change|example|placeholder|secret|password|todo|xxxx|your)", re.IGNORECASE
)
_SHAPE = '{"name", "key", "requests_per_second", "burst"}'
_MAKE_ONE = "create one with `openssl rand -hex 32`"

logger = logging.getLogger(__name__)


class KeysError(ValueError):
    """The file of keys is not acceptable; the message repeats no key."""


class Caller(msgspec.Struct, frozen=True):
    """Whoever holds a key.

    Attributes:
        name: shown in logs and metrics.
        requests_per_second: that may be asked for in the long run; None for no limit.
        burst: how many of them at once.
    """

    name: str
    requests_per_second: float | None
    burst: int


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    # Also the name of a file (`limits.Rates`), so "." and ".." are none.
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")]
    key: str
    requests_per_second: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class _Refused(NamedTuple):
    reason: str
    key: str


class Keys:
    """The keys of a file, by digest: the time of a look-up tells nothing of a key.

    Args:
        path: the file.

    Raises:
        KeysError: the file cannot be read, or has no key that is acceptable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Nobody can choose a digest without knowing it, so no answer's time leads towards one.
        self._salt = secrets.token_bytes(32)
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        self.broken = False
        """Whether the file, or an entry in it, is not acceptable."""
        self._state: object = _state(path)
        self._read()
        if not self._callers:
            raise KeysError(f"{path} has no valid key, so no client could use the API")

    def caller(self, authorization: bytes | None) -> Caller | None:
        """Return who sends this header ``Authorization``; None if nobody that is known.

        The key is the bearer token, or the password of Basic: clients send that for a URL with
        credentials.
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
        """Read the file again if it has changed; the keys stay if it is no list of entries."""
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
        # Only now: after any other exception the next look must read the file again.
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
                # Its holder goes on as before: the file still has the key.
                callers.setdefault(digest, self._callers[digest])
        self._callers, self.broken = callers, broken

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=32, key=self._salt).digest()


def read(path: Path) -> list[_Entry]:
    """Return what the file has.

    Raises:
        KeysError: the file cannot be read, or an entry is not acceptable.
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
    """Yield each entry, or why it is not acceptable; KeysError if it is no list of entries."""
    try:
        # It also reads text that is not Unicode, which costs only the entry that has it.
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
