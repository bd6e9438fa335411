"""The instance metadata service (IMDSv2 only), for the instances that moto knows.

A caller is the running instance whose private address is the source address of the request, so
the network between instances and the emulator must not translate addresses. Credentials are
those of the role in the instance's profile.
"""

import json
import time
from datetime import UTC, datetime

from itsdangerous import BadSignature, TimestampSigner
from moto.ec2.models.instances import Instance
from moto.iam.models import Role, iam_backends
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, Unauthorized
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from .run_command import running_instances
from .sessions import Session, Sessions
from .tracking import ACCOUNT_ID

MAX_TOKEN_SECONDS = 21600
CREDENTIALS_SECONDS = 6 * 3600
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"
_ROLES = "/latest/meta-data/iam/security-credentials"


class MetadataService:
    """Answers everything under /latest/."""

    def __init__(self, sessions: Sessions, signing_key: bytes) -> None:
        self._sessions = sessions
        self._signer = TimestampSigner(signing_key, salt="metadata-token")
        self._urls = Map(
            [
                Rule("/latest/api/token", endpoint=self._token, methods=["PUT"]),
                Rule("/latest/meta-data/instance-id", endpoint=self._instance_id),
                Rule("/latest/meta-data/local-ipv4", endpoint=self._local_ipv4),
                Rule("/latest/meta-data/placement/region", endpoint=self._region),
                Rule("/latest/meta-data/placement/availability-zone", endpoint=self._zone),
                Rule(f"{_ROLES}/", endpoint=self._role_name),
                Rule(f"{_ROLES}/<role>", endpoint=self._credentials),
                Rule("/latest/dynamic/instance-identity/document", endpoint=self._document),
            ],
            strict_slashes=False,
        )

    def respond(self, request: Request) -> Response:
        """The answer to a request of an instance.

        Raises:
            HTTPException: 404 for a caller that is no running instance and for unknown paths,
                401 without a valid token, 403 through a proxy, 400 for a bad token lifetime.
        """
        endpoint, arguments = self._urls.bind_to_environ(request.environ).match()
        instance = _sender(request)
        if endpoint != self._token:
            self._check_token(request, instance)
        return endpoint(request, instance, **arguments)

    def caller(self, request: Request) -> Instance:
        """The instance that a request comes from, and that has a token.

        Raises:
            HTTPException: as `respond`.
        """
        instance = _sender(request)
        self._check_token(request, instance)
        return instance

    def _check_token(self, request: Request, instance: Instance) -> None:
        try:
            value, signed_at = self._signer.unsign(
                request.headers.get(_TOKEN, ""), return_timestamp=True
            )
        except BadSignature as error:
            raise Unauthorized(f"{_TOKEN} is missing or was not issued here") from error
        instance_id, _, ttl = value.decode().partition(" ")
        if instance_id != instance.id or signed_at.timestamp() + int(ttl) < time.time():
            raise Unauthorized(f"{_TOKEN} has expired or belongs to another instance")

    def _token(self, request: Request, instance: Instance) -> Response:
        ttl = request.headers.get(_TTL, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= MAX_TOKEN_SECONDS:
            raise BadRequest(f"{_TTL} must be between 1 and {MAX_TOKEN_SECONDS}")
        token = self._signer.sign(f"{instance.id} {int(ttl)}").decode()
        return Response(token, headers={_TTL: ttl})

    def _instance_id(self, request: Request, instance: Instance) -> Response:
        return Response(instance.id)

    def _local_ipv4(self, request: Request, instance: Instance) -> Response:
        return Response(instance.private_ip)

    def _region(self, request: Request, instance: Instance) -> Response:
        return Response(instance.region_name)

    def _zone(self, request: Request, instance: Instance) -> Response:
        return Response(instance.placement.zone)

    def _role_name(self, request: Request, instance: Instance) -> Response:
        return Response(_role_of(instance).name)

    def _credentials(self, request: Request, instance: Instance, role: str) -> Response:
        found = _role_of(instance)
        if found.name != role:
            raise NotFound(f"{instance.id} has no role {role}")
        session, issued = self._session(instance, found)
        return _json(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": _zulu(issued),
                "AccessKeyId": session.access_key_id,
                "SecretAccessKey": session.secret_access_key,
                "Token": session.session_token,
                "Expiration": _zulu(session.expires),
            }
        )

    def _session(self, instance: Instance, role: Role) -> tuple[Session, int]:
        # Renewed at half their lifetime: they are always valid for another 3 to 6 hours.
        period = CREDENTIALS_SECONDS // 2
        issued = int(time.time()) // period * period
        arn = f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{role.name}/{instance.id}"
        session = self._sessions.issue(
            arn=arn, user_id=f"{role.id}:{instance.id}", expires=issued + CREDENTIALS_SECONDS
        )
        return session, issued

    def _document(self, request: Request, instance: Instance) -> Response:
        return _json(
            {
                "accountId": ACCOUNT_ID,
                "architecture": instance.architecture,
                "availabilityZone": instance.placement.zone,
                "imageId": instance.image_id,
                "instanceId": instance.id,
                "instanceType": instance.instance_type,
                "pendingTime": _zulu(instance.launch_time.timestamp()),
                "privateIp": instance.private_ip,
                "region": instance.region_name,
                "version": "2017-09-30",
            }
        )


def _sender(request: Request) -> Instance:
    if "X-Forwarded-For" in request.headers:
        raise Forbidden("metadata is not served through proxies")
    address = request.remote_addr
    found = [each for each in running_instances() if each.private_ip == address]
    if len(found) != 1:
        ids = ", ".join(sorted(instance.id for instance in found)) or "none"
        raise NotFound(f"expected one running instance at {address}, found {ids}")
    return found[0]


def _role_of(instance: Instance) -> Role:
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    if association is None:
        raise NotFound(f"{instance.id} has no instance profile")
    name = association.iam_instance_profile.name
    # EC2 has a copy of the profile as it was at launch; IAM has its current role.
    profile = iam_backends[ACCOUNT_ID]["aws"].instance_profiles.get(name)
    if profile is None or not profile.roles:
        raise NotFound(f"the instance profile {name} of {instance.id} has no role")
    return profile.roles[0]


def _json(value: dict[str, str | None]) -> Response:
    return Response(json.dumps(value), content_type="application/json")


def _zulu(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
