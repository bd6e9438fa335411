"""Files in S3 or in a folder, by pyarrow, whose environment can also hold pandas."""

import os

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem


def locate(url: str) -> tuple[FileSystem, str]:
    """Return the file system of a URL, and the path in it, as it stands: without %-escapes.

    S3 is found by ``AWS_ENDPOINT_URL`` and ``AWS_REGION``; credentials are those of the AWS SDK's
    own search, at last the instance's role.

    Args:
        url: ``s3://bucket/prefix`` or ``file:///folder``.

    Raises:
        ValueError: it is neither.
    """
    scheme, _, path = url.partition("://")
    path = path.rstrip("/")
    if scheme == "file" and path.startswith("/"):
        return LocalFileSystem(), path
    if scheme != "s3" or not path:
        raise ValueError(f"{url!r} is neither s3://bucket/prefix nor file:///folder")
    system = S3FileSystem(
        # pyarrow itself heeds the variable only where it makes the file system of a URL.
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
        # A small file is one request, and an empty one none until it is closed.
        allow_delayed_open=True,
        connect_timeout=5,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )
    return system, path
