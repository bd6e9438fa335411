"""Temporary credentials that contain their own identity, so that none are stored."""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from itsdangerous import BadSignature, URLSafeSerializer


@dataclass(frozen=True)
class Session:
    """Temporary credentials of an identity; `expires` is a Unix time in seconds."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    arn: str
    user_id: str
    expires: int

    @property
    def expiration(self) -> datetime:
        """When the credentials end, in UTC."""
        return datetime.fromtimestamp(self.expires, UTC)


class Sessions:
    """Issues and recognises temporary credentials.

    The session token is the signed identity; the key id and the secret are derived from it with
    the emulator's own key. Instances fetching credentials for years add nothing to the state,
    and what was issued stays valid across restarts.
    """

    def __init__(self, signing_key: bytes) -> None:
        self._key = signing_key
        self._serializer = URLSafeSerializer(signing_key, salt="session")

    def issue(self, *, arn: str, user_id: str, expires: int) -> Session:
        """Credentials for an identity until `expires`; the same arguments give the same ones."""
        token = self._serializer.dumps([arn, user_id, expires])
        return self._session(str(token), arn, user_id, expires)

    def recognise(self, access_key_id: str, session_token: str) -> Session | None:
        """The session of this token, if the emulator issued it with this key id.

        The caller decides what an expired session (`expires` in the past) means.
        """
        try:
            arn, user_id, expires = self._serializer.loads(session_token)
        except BadSignature:
            return None
        session = self._session(session_token, arn, user_id, expires)
        return session if session.access_key_id == access_key_id else None

    def _session(self, token: str, arn: str, user_id: str, expires: int) -> Session:
        digest = hmac.digest(self._key, token.encode(), hashlib.sha512)
        return Session(
            access_key_id="ASIA" + base64.b32encode(digest[:10]).decode(),
            secret_access_key=base64.b64encode(digest[10:40]).decode(),
            session_token=token,
            arn=arn,
            user_id=user_id,
            expires=expires,
        )


def expired(session: Session) -> bool:
    """Whether a session has ended."""
    return session.expires <= time.time()
