"""Files in S3 or in a folder, with pyarrow, whose environment can also have pandas."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyarrow import Buffer, NativeFile
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem


def locate(url: str) -> tuple[FileSystem, str]:
    """Return the file system of a URL and the path in it; %-escapes are not decoded.

    ``AWS_ENDPOINT_URL`` and ``AWS_REGION`` locate S3. The AWS SDK searches for credentials as
    usual; the instance's role is its last choice.

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
        # pyarrow itself reads the variable only where it makes a file system from a URL.
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
        # A small file takes one request, and an empty one none until it is closed.
        allow_delayed_open=True,
        connect_timeout=5,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )
    return system, path


@contextmanager
def writing(system: FileSystem, path: str) -> Iterator[NativeFile]:
    """Yield the stream of a file that gets its name only once it is complete.

    In a folder the file is written under another name, which starts with a dot so that readers of
    Parquet ignore it. S3 shows an object once its stream is closed, and pyarrow cannot close a
    stream without completing the object, so an object that the block did not finish is removed
    right afterwards. Callers for which even that moment is too long use `put`.
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
    """Write a whole file at once: a reader finds either all of it or the earlier file."""
    with writing(system, path) as sink:
        sink.write(content)
