"""Files in S3 or in a folder, by pyarrow, whose environment can also hold pandas."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyarrow import Buffer, NativeFile
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


@contextmanager
def writing(system: FileSystem, path: str) -> Iterator[NativeFile]:
    """Yield the stream of a file that has its name only once it is whole.

    In a folder the file is written under another name, which begins with a dot for readers of
    Parquet to pass over it. S3 shows an object when its stream is closed, which pyarrow cannot do
    without completing the object: one that the block did not finish is removed right afterwards.
    Whoever must not see it even for that moment hands everything to `put`.
    """
    aside = path
    if system.type_name == "local":
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)  # S3 has no folders
        aside = f"{folder}/.{name}.partial"
    sink = system.open_output_stream(aside)
    try:
        yield sink
        sink.close()
    except BaseException:
        with suppress(OSError):
            sink.close()
        with suppress(OSError):
            system.delete_file(aside)
        raise
    if aside != path:
        system.move(aside, path)


def put(system: FileSystem, path: str, content: bytes | Buffer) -> None:
    """Write a file as a whole: a reader finds all of it, or what was there before."""
    with writing(system, path) as sink:
        sink.write(content)
