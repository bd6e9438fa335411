"""Files in S3 or in a folder, by pyarrow, whose environment can also hold pandas."""

import os

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem


def locate(url: str) -> tuple[FileSystem, str]:
    """Return the file system of a URL, and the path in it.

    S3 is found by ``AWS_ENDPOINT_URL`` and ``AWS_REGION``; credentials are those of the AWS SDK's
    own search, at last the instance's role.

    Args:
        url: ``s3://bucket/prefix`` or ``file:///folder``.

    Raises:
        pyarrow.ArrowInvalid: it is neither.
    """
    if not url.startswith("s3://"):
        return FileSystem.from_uri(url)
    system = S3FileSystem(
        # pyarrow itself heeds the variable only where it makes the file system of a URL.
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
        # A small file is one request, and an empty one none until it is closed.
        allow_delayed_open=True,
        connect_timeout=5,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )
    return system, url.removeprefix("s3://").rstrip("/")
