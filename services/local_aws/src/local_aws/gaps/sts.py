"""Gaps of moto's STS."""

import time
from contextvars import ContextVar

from moto.core.responses import ActionResult
from moto.iam.models import AccessKey
from moto.sts.models import AssumedRole, STSBackend
from moto.sts.responses import TokenResponse

from ..auth import Identity
from ..sessions import Session, Sessions

caller: ContextVar[Identity] = ContextVar("caller")
"""Who signed the request being served; set before moto is called."""


def issue_sessions(sessions: Sessions) -> None:
    """Credentials from STS are accepted, and GetCallerIdentity names their holder.

    moto/sts/models.py: `STSBackend.assume_role` keeps every session forever;
    moto/sts/responses.py: `get_session_token` and `get_federation_token` hand out a constant key;
    `STSBackend.get_caller_identity` does not know the root user.
    """
    role_arn_of = AssumedRole.arn.fget
    federate = TokenResponse.get_federation_token

    def assume_role(
        self: STSBackend,
        region_name: str,
        role_session_name: str,
        role_arn: str,
        policy: str,
        duration: int,
        external_id: str,
    ) -> AssumedRole:
        blank = AccessKey(None, "ASIA", self.account_id)
        role = AssumedRole(
            self.account_id,
            region_name,
            blank,
            role_session_name,
            role_arn,
            policy,
            duration,
            external_id,
        )
        session = _issue(sessions, role_arn_of(role), role.user_id, duration)
        role.access_key_id = session.access_key_id
        role.secret_access_key = session.secret_access_key
        role.session_token = session.session_token
        role.expiration = session.expiration
        return role

    def get_session_token(self: TokenResponse) -> ActionResult:
        duration = self._get_int_param("DurationSeconds", 43200)
        identity = caller.get()
        session = _issue(sessions, identity.arn, identity.user_id, duration)
        return ActionResult({"Credentials": _credentials(session)})

    def get_federation_token(self: TokenResponse) -> ActionResult:
        result = federate(self).result
        duration = self._get_int_param("DurationSeconds", 43200)
        user = result["FederatedUser"]
        session = _issue(sessions, user["Arn"], user["FederatedUserId"], duration)
        return ActionResult(result | {"Credentials": _credentials(session)})

    def get_caller_identity(
        self: STSBackend, access_key_id: str, region: str
    ) -> tuple[str, str, str]:
        identity = caller.get()
        return identity.user_id, identity.arn, self.account_id

    STSBackend.assume_role = assume_role
    STSBackend.get_caller_identity = get_caller_identity
    TokenResponse.get_session_token = get_session_token
    TokenResponse.get_federation_token = get_federation_token


def _issue(sessions: Sessions, arn: str, user_id: str, duration: int) -> Session:
    return sessions.issue(arn=arn, user_id=user_id, expires=int(time.time()) + duration)


def _credentials(session: Session) -> dict[str, object]:
    return {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "SessionToken": session.session_token,
        "Expiration": session.expiration,
    }
