"""Who is calling: Signature Version 4, verified with botocore's own implementation.

Headers and presigned URLs are both verified, and so is the payload: against its hash where the
client signed one, against its checksum where it sent one (`uploads`). One thing is not: the
signature of each single chunk of a `STREAMING-AWS4-HMAC-SHA256-PAYLOAD` upload; its seed
signature is.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.iam.models import iam_backends
from werkzeug.wrappers import Request

from .errors import AwsError
from .sessions import Sessions, expired
from .tracking import ACCOUNT_ID

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
MAX_PRESIGNED = timedelta(days=7)
TIMESTAMP = "%Y%m%dT%H%M%SZ"
# A region or service that is more than a label would choose another backend inside moto.
_SCOPE = re.compile(r"([A-Z0-9]{4,128})/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


@dataclass(frozen=True)
class Identity:
    """A caller: its secret, and its names in GetCallerIdentity."""

    arn: str
    user_id: str
    secret_access_key: str


@dataclass(frozen=True)
class Signature:
    """A request's statement about its signer, not yet verified."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: datetime
    session_token: str | None
    lifetime: timedelta | None  # of a presigned URL

    @classmethod
    def of(cls, request: Request) -> "Signature":
        """Read the signature from the Authorization header or from the query.

        Raises:
            AwsError: there is none, or it is malformed.
        """
        try:
            if "Authorization" in request.headers:
                return cls._from_header(request)
            return cls._from_query(request)
        except (KeyError, ValueError) as error:
            raise AwsError(
                403,
                "IncompleteSignature",
                "the request must be signed with AWS Signature Version 4"
                " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
            ) from error

    @classmethod
    def _from_header(cls, request: Request) -> "Signature":
        algorithm, _, rest = request.headers["Authorization"].partition(" ")
        if algorithm != ALGORITHM:
            raise ValueError(algorithm)
        fields = dict(item.strip().split("=", 1) for item in rest.split(","))
        return cls(
            *_scope(fields["Credential"]),
            signed_headers=tuple(fields["SignedHeaders"].split(";")),
            signature=fields["Signature"],
            timestamp=_time(request.headers["X-Amz-Date"]),
            session_token=request.headers.get("X-Amz-Security-Token"),
            lifetime=None,
        )

    @classmethod
    def _from_query(cls, request: Request) -> "Signature":
        fields = dict(parse_qsl(request.query_string.decode()))
        if "AWSAccessKeyId" in fields:
            raise AwsError(
                400,
                "InvalidRequest",
                "Signature Version 2 is not supported: presign with AWS4-HMAC-SHA256"
                " (boto3: Config(signature_version='s3v4'))",
            )
        if "X-Amz-Algorithm" not in fields:
            raise AwsError(403, "MissingAuthenticationToken", "the request is not signed")
        if fields["X-Amz-Algorithm"] != ALGORITHM:
            raise ValueError(fields["X-Amz-Algorithm"])
        return cls(
            *_scope(fields["X-Amz-Credential"]),
            signed_headers=tuple(fields["X-Amz-SignedHeaders"].split(";")),
            signature=fields["X-Amz-Signature"],
            timestamp=_time(fields["X-Amz-Date"]),
            session_token=fields.get("X-Amz-Security-Token"),
            lifetime=timedelta(seconds=int(fields["X-Amz-Expires"])),
        )

    def header(self) -> str:
        """An Authorization header with everything but the signature itself."""
        scope = f"{self.access_key_id}/{self.date}/{self.region}/{self.service}/aws4_request"
        return f"{ALGORITHM} Credential={scope}, SignedHeaders=host, Signature=verified"


def _scope(credential: str) -> tuple[str, str, str, str]:
    match = _SCOPE.fullmatch(credential)
    if match is None:
        raise ValueError(credential)
    access_key_id, date, region, service = match.groups()
    return access_key_id, date, region, service


def _time(value: str) -> datetime:
    return datetime.strptime(value, TIMESTAMP).replace(tzinfo=UTC)


class Authenticator:
    """Knows every key the emulator accepts: the root key, IAM users' keys, its own sessions."""

    def __init__(self, access_key_id: str, secret_access_key: str, sessions: Sessions) -> None:
        self._root_key = access_key_id
        self._root = Identity(f"arn:aws:iam::{ACCOUNT_ID}:root", ACCOUNT_ID, secret_access_key)
        self._sessions = sessions

    def authenticate(
        self, request: Request, signature: Signature, body_hash: Callable[[], str]
    ) -> Identity:
        """Verify a request's signature; `body_hash` gives the SHA-256 of its body as hex.

        Raises:
            AwsError: the key is unknown or expired, the signature wrong, or the time far off.
        """
        identity = self._identity(signature)
        _check_time(signature)
        if not hmac.compare_digest(
            _expected(request, signature, identity, body_hash), signature.signature
        ):
            raise AwsError(
                403,
                "SignatureDoesNotMatch",
                "the signature does not match: check the secret access key",
            )
        return identity

    def _identity(self, signature: Signature) -> Identity:
        key_id, token = signature.access_key_id, signature.session_token
        if token is not None:
            session = self._sessions.recognise(key_id, token)
            if session is None:
                raise _unknown_key(signature)
            if expired(session):
                raise AwsError(403, "ExpiredToken", "the security token has expired")
            return Identity(session.arn, session.user_id, session.secret_access_key)
        if key_id == self._root_key:
            return self._root
        user = iam_backends[ACCOUNT_ID]["aws"].get_user_from_access_key_id(key_id)
        for key in user.access_keys if user else ():
            if key.access_key_id == key_id and key.status == "Active":
                return Identity(user.arn, user.id, key.secret_access_key)
        raise _unknown_key(signature)


def _unknown_key(signature: Signature) -> AwsError:
    code = {"s3": "InvalidAccessKeyId", "ec2": "AuthFailure"}.get(
        signature.service, "InvalidClientTokenId"
    )
    return AwsError(403, code, f"the emulator has no access key {signature.access_key_id}")


def _check_time(signature: Signature) -> None:
    age = datetime.now(UTC) - signature.timestamp
    if signature.date != signature.timestamp.strftime("%Y%m%d"):
        raise AwsError(403, "SignatureDoesNotMatch", "the credential's date is not the request's")
    if signature.lifetime is None:
        if abs(age) > MAX_SKEW:
            raise AwsError(
                403, "RequestTimeTooSkewed", "the request's time is more than 15 minutes off"
            )
    elif signature.lifetime > MAX_PRESIGNED or age > signature.lifetime or -age > MAX_SKEW:
        raise AwsError(403, "AccessDenied", "Request has expired")


def _expected(
    request: Request, signature: Signature, identity: Identity, body_hash: Callable[[], str]
) -> str:
    headers = {name: _header(request, name) for name in signature.signed_headers}
    # Only signed headers count, but the payload's hash is always part of the signature.
    if signature.lifetime is not None and signature.service == "s3":
        payload = "UNSIGNED-PAYLOAD"
    else:
        payload = request.headers.get("X-Amz-Content-SHA256") or body_hash()
    credentials = Credentials(signature.access_key_id, identity.secret_access_key)
    signer_class = _S3Signer if signature.service == "s3" else _Signer
    signer = signer_class(credentials, signature.service, signature.region)
    signer.payload_hash = payload
    query = "&".join(
        pair
        for pair in request.environ.get("QUERY_STRING", "").split("&")
        if not pair.startswith("X-Amz-Signature=")
    )
    path = request.environ["RAW_URI"].partition("?")[0]
    if not path.startswith("/"):  # absolute-form request target
        path = "/" + path.split("/", 3)[3]
    aws_request = AWSRequest(
        method=request.method, url=f"http://{request.host}{path}?{query}", headers=headers
    )
    aws_request.context["timestamp"] = signature.timestamp.strftime(TIMESTAMP)
    string_to_sign = signer.string_to_sign(aws_request, signer.canonical_request(aws_request))
    signed: str = signer.signature(string_to_sign, aws_request)
    return signed


def _header(request: Request, name: str) -> str:
    key = name.upper().replace("-", "_")
    environ_key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
    value: str = request.environ.get(environ_key, "")
    return value


class _GivenPayload:
    """Takes the payload's hash as given instead of reading a body."""

    payload_hash: str

    def payload(self, request: AWSRequest) -> str:
        return self.payload_hash


class _Signer(_GivenPayload, SigV4Auth):
    pass


class _S3Signer(_GivenPayload, S3SigV4Auth):
    pass


def sha256(body: bytes) -> str:
    """The hash of a body as Signature Version 4 writes it."""
    return hashlib.sha256(body).hexdigest()
