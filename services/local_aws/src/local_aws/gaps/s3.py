"""Gaps of moto's S3."""

import json
from collections.abc import Mapping
from typing import TypedDict
from urllib.parse import quote

import moto.settings
from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.s3 import utils
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, S3Backend
from moto.s3.responses import S3Response


class _Expiration(TypedDict, total=False):
    """When old versions expire: the member that moto drops."""

    NewerNoncurrentVersions: str


class _LifecycleRule(TypedDict, total=False):
    """A lifecycle rule of a request: the member that is read here."""

    NoncurrentVersionExpiration: _Expiration


def use_path_style_only() -> None:
    """`http://any.name:4566/bucket/key` means that key of that bucket.

    moto/s3/responses.py: `subdomain_based_buckets` takes the first label of a host name for a
    bucket. Everything is one endpoint here, so a bucket is never in the host name.
    """
    moto.settings.S3_IGNORE_SUBDOMAIN_BUCKETNAME = True
    utils.S3_IGNORE_SUBDOMAIN_BUCKETNAME = True


def accept_any_principal_in_log_target_policies() -> None:
    """A bucket can log into one whose policy has a statement for `"Principal": "*"`.

    moto/s3/models.py: `FakeBucket._log_permissions_enabled_policy` expects an object there.
    """
    original = FakeBucket._log_permissions_enabled_policy

    class Target:
        def __init__(self, bucket: FakeBucket, statements: list[Mapping[str, object]]) -> None:
            self.name, self.partition = bucket.name, bucket.partition
            self.policy = json.dumps({"Statement": statements}).encode()

    def enabled(target_bucket: FakeBucket, target_prefix: str | None) -> bool:
        if not target_bucket.policy:
            return False
        statements = json.loads(target_bucket.policy)["Statement"]
        named = [
            statement
            for statement in (statements if isinstance(statements, list) else [statements])
            if isinstance(statement.get("Principal"), dict)
        ]
        permitted: bool = original(Target(target_bucket, named), target_prefix)
        return permitted

    FakeBucket._log_permissions_enabled_policy = staticmethod(enabled)


def deliver_no_access_logs() -> None:
    """A logging configuration is kept, but no logs are delivered.

    moto/s3/models.py: `S3Backend.log_incoming_request` writes an object with invented contents
    for every single request, reads included.
    """
    S3Backend.log_incoming_request = lambda self, request, bucket_name: None


def treat_requests_as_tls() -> None:
    """A TLS-only bucket policy does not lock everyone out.

    moto/iam/access_control.py: `IAMPolicyStatement.is_action_permitted` knows no condition but
    StringEquals and denies where it should look at `aws:SecureTransport`. Requests stay on this
    machine, so they count as secure.
    """
    original = IAMPolicyStatement.is_action_permitted

    def is_action_permitted(
        self: IAMPolicyStatement, *args: object, **kwargs: object
    ) -> PermissionResult:
        condition = self._statement.get("Condition") or {}
        denied = self._statement.get("Effect") == "Deny"
        if denied and "aws:SecureTransport" in condition.get("Bool", {}):
            return PermissionResult.NEUTRAL
        return original(self, *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = is_action_permitted


def recompute_checksums_of_copies() -> None:
    """The copy of an object that was uploaded in parts can be read.

    moto/s3/models.py: `S3Backend.copy_object` gives the copy, which is one piece, the checksum
    of the parts' checksums, and boto3 refuses it when it reads the copy.
    """
    original = S3Backend.copy_object

    def copy_object(
        self: S3Backend,
        src_key: FakeKey,
        dest_bucket_name: str,
        dest_key_name: str,
        *args: object,
        **kwargs: object,
    ) -> None:
        original(self, src_key, dest_bucket_name, dest_key_name, *args, **kwargs)
        if src_key.checksum_type == "COMPOSITE":
            copy = self.get_object(dest_bucket_name, dest_key_name)
            checksum = utils.compute_checksum(copy.value, copy.checksum_algorithm)
            copy.checksum_value = checksum.decode()

    S3Backend.copy_object = copy_object


def show_how_many_old_versions_are_kept() -> None:
    """A lifecycle rule shows how many old versions outlive their days.

    moto/s3/models.py: `FakeBucket.set_lifecycle` reads only the days of
    NoncurrentVersionExpiration, and `S3Response.get_bucket_lifecycle` (moto/s3/responses.py) writes
    only those. Terraform waits three minutes for the rest.
    """
    set_lifecycle, get_lifecycle = FakeBucket.set_lifecycle, S3Response.get_bucket_lifecycle

    def keep(self: FakeBucket, rules: list[_LifecycleRule]) -> None:
        set_lifecycle(self, rules)
        for rule, given in zip(self.rules, rules, strict=True):
            expiration = given.get("NoncurrentVersionExpiration") or {}
            rule.newer_noncurrent_versions = expiration.get("NewerNoncurrentVersions")

    def show(self: S3Response) -> TYPE_RESPONSE:
        serialized = self.serialized

        def complete(answer: ActionResult) -> TYPE_RESPONSE:
            # An error is serialized the same way.
            if not isinstance(answer.result, dict):
                return serialized(answer)
            rules = self.backend.get_bucket(self.bucket_name).rules
            for shown, rule in zip(answer.result["Rules"], rules, strict=True):
                if newer := getattr(rule, "newer_noncurrent_versions", None):
                    shown["NoncurrentVersionExpiration"]["NewerNoncurrentVersions"] = newer
            return serialized(answer)

        self.serialized = complete
        return get_lifecycle(self)

    FakeBucket.set_lifecycle = keep
    S3Response.get_bucket_lifecycle = show


def let_go_of_delete_markers() -> None:
    """A key can be removed whose last versions are delete markers: a bucket can be emptied.

    moto/s3/utils.py: `_VersionedKeyStore.pop` disposes of all versions, and `FakeDeleteMarker`
    (moto/s3/models.py) has nothing that could be disposed of.
    """
    FakeDeleteMarker.dispose = lambda self: None


def escape_keys_of_versions() -> None:
    """Keys in a listing of versions are escaped if the request says so, as in other listings.

    moto/s3/responses.py: `S3Response.list_object_versions` ignores ``encoding-type``. A client that
    sets it takes ``%3A`` in a key for a colon, and then deletes a key that does not exist.
    """
    list_versions = S3Response.list_object_versions

    def escape(self: S3Response) -> TYPE_RESPONSE:
        serialized = self.serialized

        def complete(answer: ActionResult) -> TYPE_RESPONSE:
            # An error is serialized the same way.
            if isinstance(answer.result, dict) and self._get_param("encoding-type") == "url":
                for entry in (*answer.result["Versions"], *answer.result["DeleteMarkers"]):
                    entry["Key"] = quote(entry["Key"])
                answer.result["EncodingType"] = "url"
            return serialized(answer)

        self.serialized = complete
        return list_versions(self)

    S3Response.list_object_versions = escape
