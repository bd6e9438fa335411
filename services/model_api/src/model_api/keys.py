"""The bearer keys: who may ask, and how often.

The file is a JSON list of ``{"name", "key", "requests_per_second", "burst"}``; the last two may be
left out, which sets no limit.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

MINIMUM_LENGTH = 32
_PLACEHOLDERS = ("change", "example", "placeholder", "secret", "password", "todo", "xxxx", "your")
_MAKE_ONE = "make one with `openssl rand -hex 32`"

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
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    key: str
    requests_per_second: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class Keys:
    """The keys of a file, by digest: the time of a look-up tells nothing of a key.

    Args:
        path: the file.

    Raises:
        KeysError: the file cannot be read, or is not acceptable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Nobody can choose a digest without knowing it, so no answer's time leads towards one.
        self._salt = secrets.token_bytes(32)
        self._state: object = _state(path)
        self._callers = self._read()
        self.broken = False
        """Whether the file has become one that cannot be taken; the keys before it are in force."""

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
        """Read the file again if it has changed; if it cannot be taken, the keys stay."""
        state = _state(self._path)
        if state == self._state:
            return
        try:
            self._callers = self._read()
        except KeysError as error:
            self._state = state
            self.broken = True
            logger.error("the keys stay as they were: %s", error)
            return
        # Only now: after any other exception the next look must read the file again.
        self._state = state
        self.broken = False
        logger.info("%s was read again: %d keys", self._path, len(self._callers))

    def _read(self) -> dict[bytes, tuple[bytes, Caller]]:
        callers = {}
        for entry in read(self._path):
            digest = self._digest(entry.key.encode())
            caller = Caller(entry.name, entry.requests_per_second, entry.burst)
            callers[digest] = (digest, caller)
        return callers

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=32, key=self._salt).digest()


def read(path: Path) -> list[_Entry]:
    """Return what the file has.

    Raises:
        KeysError: the file cannot be read, or is not acceptable.
    """
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(
            f'{path} is not a list of {{"name", "key", "requests_per_second", "burst"}}: {error}'
        ) from None
    if not entries:
        raise KeysError(f"{path} has no key, so nobody could ask anything: add one")
    names: set[str] = set()
    keys: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise KeysError(f"{path} has the name {entry.name!r} twice: names tell who asks")
        if entry.key in keys:
            raise KeysError(f"{path}: the key of {entry.name!r} is another one's, too")
        names.add(entry.name)
        keys.add(entry.key)
        if fault := _weakness(entry.key):
            raise KeysError(f"{path}: the key of {entry.name!r} {fault}")
    return entries


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
        return "must be ASCII without blanks, as it travels in an HTTP header"
    if len(key) < MINIMUM_LENGTH:
        return f"has fewer than {MINIMUM_LENGTH} characters: {_MAKE_ONE}"
    if len(set(key)) < 8 or any(word in key.lower() for word in _PLACEHOLDERS):
        return f"looks like a placeholder: {_MAKE_ONE}"
    return None


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns
