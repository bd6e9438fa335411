"""Object uploads: decoded, verified and written to disk before moto sees the request."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from werkzeug.wrappers import Request
from werkzeug.wsgi import get_input_stream

from .bodies import CHUNK, BodyStore, Checksum, Stored
from .errors import AwsError

STAGED = "local_aws.staged_body"
"""The key under which a request's environment carries its staged body."""

_SUBRESOURCES = {"acl", "legal-hold", "retention", "tagging", "renameObject", "encryption"}


def bucket_and_key(request: Request) -> tuple[str, str]:
    """The bucket and the key in the path of an S3 request; either may be empty."""
    bucket, _, key = request.path.removeprefix("/").partition("/")
    return bucket, key


def carries_body(request: Request) -> bool:
    """Whether a signed S3 request is a PutObject or an UploadPart."""
    return (
        request.method == "PUT"
        and bool(bucket_and_key(request)[1])
        and "x-amz-copy-source" not in request.headers
        and not _SUBRESOURCES.intersection(request.args)
    )


def stage(request: Request, bodies: BodyStore) -> Stored:
    """Write a request's body to a file and leave moto a request with nothing but headers.

    Raises:
        AwsError: the bytes that arrived are not those the client signed or checksummed.
    """
    environ = request.environ
    stream = get_input_stream(environ)
    content_hash = request.headers.get("X-Amz-Content-SHA256", "")
    trailers: dict[str, str] = {}
    chunked = content_hash.startswith("STREAMING-")
    chunks = _decode(stream, trailers) if chunked else _plain(stream)
    sha256 = hashlib.sha256()
    checksums = {name: Checksum(name) for name in _announced(request)}
    stored = bodies.write(
        chunks, sha256.update, *(checksum.update for checksum in checksums.values())
    )
    try:
        _verify(request, stored, content_hash, sha256.hexdigest(), checksums, trailers)
    except AwsError:
        bodies.discard([stored.body_id])
        raise
    for name, checksum in checksums.items():
        environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = name.upper()
        environ[f"HTTP_X_AMZ_CHECKSUM_{name.upper()}"] = checksum.value()
    if not checksums:
        # moto would compute the checksum from the empty body it gets.
        environ.pop("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", None)
    environ.pop("HTTP_X_AMZ_TRAILER", None)
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["HTTP_X_AMZ_CONTENT_SHA256"] = "UNSIGNED-PAYLOAD"
    environ["CONTENT_LENGTH"] = "0"
    environ["wsgi.input"] = io.BytesIO()
    environ[STAGED] = stored
    return stored


def _announced(request: Request) -> set[str]:
    """The checksum algorithms a request says it sends, as far as they can be verified."""
    named = {request.headers.get("X-Amz-Sdk-Checksum-Algorithm", "").lower()}
    named |= {
        name.removeprefix("x-amz-checksum-")
        for name in request.headers.get("X-Amz-Trailer", "").lower().split(",")
    }
    named |= {name for name in Checksum.ALGORITHMS if f"X-Amz-Checksum-{name}" in request.headers}
    return named.intersection(Checksum.ALGORITHMS)


def _verify(
    request: Request,
    stored: Stored,
    content_hash: str,
    sha256: str,
    checksums: dict[str, Checksum],
    trailers: dict[str, str],
) -> None:
    if re.fullmatch("[0-9a-f]{64}", content_hash) and content_hash != sha256:
        raise AwsError(
            400, "XAmzContentSHA256Mismatch", "the body is not the one whose hash was signed"
        )
    decoded_length = request.headers.get("X-Amz-Decoded-Content-Length")
    if decoded_length is not None and int(decoded_length) != stored.size:
        raise AwsError(400, "IncompleteBody", f"expected {decoded_length} bytes, got {stored.size}")
    md5 = request.headers.get("Content-MD5")
    if md5 is not None and stored.md5 != _hex(md5):
        raise AwsError(400, "BadDigest", "the Content-MD5 is not that of the body")
    for name, checksum in checksums.items():
        header = f"x-amz-checksum-{name}"
        expected = request.headers.get(header) or trailers.get(header)
        if expected is not None and expected != checksum.value():
            raise AwsError(400, "BadDigest", f"the {header} is not that of the body")


def _hex(md5: str) -> str:
    try:
        return base64.b64decode(md5, validate=True).hex()
    except ValueError as error:
        raise AwsError(400, "InvalidDigest", f"Content-MD5 {md5!r} is not base64") from error


def _plain(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _decode(stream: BinaryIO, trailers: dict[str, str]) -> Iterator[bytes]:
    """The payload of an aws-chunked body; its trailing headers are put into `trailers`.

    Each chunk is `<hex size>[;chunk-signature=...]\\r\\n<bytes>\\r\\n`, the last one is empty.
    """
    while size := _chunk_size(stream.readline(1024)):
        while size:
            data = stream.read(min(CHUNK, size))
            if not data:
                raise AwsError(400, "IncompleteBody", "the body ends within a chunk")
            size -= len(data)
            yield data
        stream.readline(1024)
    while line := stream.readline(4096).strip():
        name, _, value = line.decode("latin-1").partition(":")
        trailers[name.lower()] = value.strip()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise AwsError(400, "IncompleteBody", "the body is not aws-chunked") from error
