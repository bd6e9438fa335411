"""The state of S3: a row per bucket, per key, per upload and per part; bodies in files.

A PutObject writes one row however many objects there are. moto's S3 is hooked in two places:
`FakeKey`, so that a body is a file and not memory, and `S3Backend`, so that a request leaves a
record of the buckets, keys and uploads it worked on.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from moto.s3 import models
from moto.s3.models import FakeBucket, FakeKey, FakeMultipart, S3Backend, s3_backends
from moto.s3.responses import S3Response
from werkzeug.wrappers import Request

from . import pickles
from .bodies import Body, BodyStore, Stored
from .store import Store
from .tracking import ACCOUNT_ID, Touched, current
from .uploads import STAGED

type Row = tuple[str, str]

_STRIPES = 64
_PARTITION = "aws"


class ObjectState:
    """Loads S3 at start, finds what has to be written after a call, and keeps writers apart."""

    def __init__(self, store: Store, bodies: BodyStore) -> None:
        self._store = store
        self._bodies = bodies
        self._buckets: dict[str, bytes] = {}
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]

    @contextmanager
    def writing(self, bucket: str, key: str) -> Iterator[None]:
        """Keep other writers of the same key away, or all writers when `key` is empty."""
        stripes = self._stripes
        if key:
            stripes = [stripes[hash((bucket, key)) % _STRIPES]]
        with ExitStack() as stack:
            for stripe in stripes:
                stack.enter_context(stripe)
            yield

    def load(self) -> int:
        """Load S3; returns how many orphaned bodies were removed."""
        backend = _backend()
        bodies: set[str] = set()
        for name, content in self._store.read("bucket"):
            state, tags = _load(content)
            bucket = FakeBucket(name, state["account_id"], state["region_name"])
            vars(bucket).update(state)
            backend.buckets[name] = bucket
            _set_tags(backend, bucket.arn, tags)
            self._buckets[name] = content
        for name, content in self._store.read("object"):
            bucket_name, _, key = name.partition("/")
            versions, tags = _load(content)
            backend.buckets[bucket_name].keys.setlist(key, versions)
            for arn, values in tags.items():
                _set_tags(backend, arn, values)
            bodies |= {version.body_id for version in versions if isinstance(version, FakeKey)}
        for name, content in self._store.read("upload"):
            bucket_name, upload_id = name.split("/")
            upload = _load(content)
            upload.parts, upload.partlist = {}, []
            backend.buckets[bucket_name].multiparts[upload_id] = upload
        for name, content in self._store.read("part"):
            bucket_name, upload_id, number = name.split("/")
            upload = backend.buckets[bucket_name].multiparts[upload_id]
            part = _load(content)
            upload.parts[int(number)] = part
            upload.partlist = sorted(upload.parts)
            bodies.add(part.body_id)
        return self._bodies.sweep(bodies)

    def changes(self, touched: Touched) -> dict[Row, bytes | None]:
        """The rows of what a call touched; None where it is gone.

        Call it, and queue the rows, inside `writing`.
        """
        rows: dict[Row, bytes | None] = {}
        backend = _backend()
        for name in touched.buckets:
            content = _bucket_row(backend, name)
            if content != self._buckets.get(name):
                rows["bucket", name] = content
                if content is None:
                    del self._buckets[name]
                else:
                    self._buckets[name] = content
        for bucket, key in touched.objects:
            rows["object", f"{bucket}/{key}"] = _object_row(backend, bucket, key)
        for bucket, upload_id in touched.uploads:
            rows["upload", f"{bucket}/{upload_id}"] = _upload_row(backend, bucket, upload_id)
        for bucket, upload_id, number in touched.parts:
            row = _part_row(backend, bucket, upload_id, number)
            rows["part", f"{bucket}/{upload_id}/{number}"] = row
        return rows

    def forget(self, rows: Iterable[Row]) -> None:
        """These rows could not be written: the next call that touches them tries again."""
        for kind, name in rows:
            if kind == "bucket":
                self._buckets.pop(name, None)


def _dump(value: object) -> bytes:
    content, _ = pickles.dumps(value)
    return content


def _load(content: bytes) -> Any:
    value, _ = pickles.loads(content)
    return value


def _backend() -> S3Backend:
    return s3_backends[ACCOUNT_ID][_PARTITION]


def _set_tags(backend: S3Backend, arn: str, tags: dict[str, str]) -> None:
    backend.tagger.tag_resource(arn, backend.tagger.convert_dict_to_tags_input(tags))


def _bucket_row(backend: S3Backend, name: str) -> bytes | None:
    bucket = backend.buckets.get(name)
    if bucket is None:
        return None
    state = {key: value for key, value in vars(bucket).items() if key not in ("keys", "multiparts")}
    return _dump((state, backend.tagger.get_tag_dict_for_resource(bucket.arn)))


def _object_row(backend: S3Backend, bucket_name: str, key: str) -> bytes | None:
    bucket = backend.buckets.get(bucket_name)
    versions = bucket.keys.getlist(key) if bucket else None
    if not versions:
        return None
    arns = {version.arn for version in versions if isinstance(version, FakeKey)}
    tags = {arn: backend.tagger.get_tag_dict_for_resource(arn) for arn in arns}
    return _dump((versions, {arn: values for arn, values in tags.items() if values}))


def _upload(backend: S3Backend, bucket_name: str, upload_id: str) -> FakeMultipart | None:
    bucket = backend.buckets.get(bucket_name)
    return bucket.multiparts.get(upload_id) if bucket else None


def _upload_row(backend: S3Backend, bucket: str, upload_id: str) -> bytes | None:
    upload = _upload(backend, bucket, upload_id)
    if upload is None:
        return None
    bare = object.__new__(FakeMultipart)
    vars(bare).update(vars(upload), parts={}, partlist=[])
    return _dump(bare)


def _part_row(backend: S3Backend, bucket: str, upload_id: str, number: int) -> bytes | None:
    upload = _upload(backend, bucket, upload_id)
    part = upload.parts.get(number) if upload else None
    return None if part is None else _dump(part)


def install(bodies: BodyStore) -> None:
    """Hook moto's S3 (moto/s3/models.py, moto/s3/responses.py)."""
    _keep_bodies_in_files(bodies)
    _join_parts_on_disk(bodies)
    _take_staged_bodies()
    _record_what_is_touched()


def _keep_bodies_in_files(bodies: BodyStore) -> None:
    """`FakeKey` holds its value in a temporary file of its own and reads it whole."""

    def get_value(self: FakeKey) -> Body:
        return Body(bodies.path(self.body_id), md5=self.body_md5)

    def set_value(self: FakeKey, value: Stored | Body | bytes | str) -> None:
        match value:
            case Stored():
                stored = value
            case Body():
                stored = bodies.copy(value)
            case _:
                stored = bodies.write([value.encode() if isinstance(value, str) else value])
        stored.claimed = True
        vars(self).pop("_value_buffer", None)
        self.body_id, self.body_md5, self.contentsize = stored.body_id, stored.md5, stored.size
        if self._etag is None:
            self._etag = stored.md5

    def dispose(self: FakeKey, garbage: bool = False) -> None:
        self.disposed = True
        touched = current()
        if touched is not None and not garbage:
            touched.discarded_bodies.append(self.body_id)

    def getstate(self: FakeKey) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def setstate(self: FakeKey, state: Mapping[str, object]) -> None:
        vars(self).update(state)
        self.lock = threading.Lock()

    FakeKey.value = property(get_value, set_value)
    FakeKey.dispose = dispose
    FakeKey.__getstate__ = getstate
    FakeKey.__setstate__ = setstate
    FakeKey.__del__ = lambda self: None


def _join_parts_on_disk(bodies: BodyStore) -> None:
    """`FakeMultipart.complete` joins the parts of an upload in memory, twice."""

    def complete(
        self: FakeMultipart, body: Iterator[tuple[int, str]]
    ) -> tuple[Stored, str, tuple[str, str, int] | None]:
        parts: list[FakeKey] = []
        for number, etag in body:
            part = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise models.InvalidPart()
            if parts and parts[-1].contentsize < models.S3_UPLOAD_PART_MIN_SIZE:
                raise models.EntityTooSmall()
            parts.append(part)
        if not parts:
            raise models.MalformedXML
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
        stored = bodies.join(part.body_id for part in parts)
        etag = f"{models.md5_hash(digests).hexdigest()}-{len(parts)}"
        return stored, etag, self._checksum(parts, stored)

    def checksum(
        self: FakeMultipart, parts: list[FakeKey], stored: Stored
    ) -> tuple[str, str, int] | None:
        algorithm = self.metadata.get("x-amz-checksum-algorithm")
        if algorithm is None:
            return None
        if self.metadata.get("x-amz-checksum-type") == "FULL_OBJECT":
            whole = Body(bodies.path(stored.body_id))
            return "FULL_OBJECT", models.compute_checksum(whole, algorithm).decode(), 1
        digests = b"".join(
            models.compute_checksum(part.value, algorithm, encode_base64=False) for part in parts
        )
        return "COMPOSITE", models.compute_checksum(digests, algorithm).decode(), len(parts)

    FakeMultipart.complete = complete
    FakeMultipart._checksum = checksum


def _take_staged_bodies() -> None:
    """`S3Response` takes the body from the request: give it the one that was staged."""
    original = S3Response.setup_class

    def setup_class(self: S3Response, request: Request, *args: object, **kwargs: object) -> None:
        original(self, request, *args, **kwargs)
        if STAGED in request.environ:
            self.body = request.environ[STAGED]

    S3Response.setup_class = setup_class


def _record_what_is_touched() -> None:
    """Everything that changes S3 fetches its bucket or key through these methods."""

    def recording(name: str, record: Callable[..., object]) -> None:
        original = getattr(S3Backend, name)

        def method(self: S3Backend, bucket_name: str, *args: object, **kwargs: object) -> object:
            touched = current()
            if touched is not None:
                record(touched, self, bucket_name, *args, **kwargs)
            return original(self, bucket_name, *args, **kwargs)

        setattr(S3Backend, name, method)

    def bucket(touched: Touched, backend: S3Backend, bucket_name: str) -> None:
        touched.buckets.add(bucket_name)

    def fetched(
        touched: Touched, backend: S3Backend, bucket: str, key_name: str, *_: object, **__: object
    ) -> None:
        touched.fetched.add((bucket, key_name))

    def written(
        touched: Touched, backend: S3Backend, bucket: str, key_name: str, *_: object, **__: object
    ) -> None:
        touched.objects.add((bucket, key_name))

    def part(
        touched: Touched,
        backend: S3Backend,
        bucket: str,
        multipart_id: str,
        part_id: int,
        *_: object,
    ) -> None:
        touched.parts.add((bucket, multipart_id, part_id))

    def upload(
        touched: Touched,
        backend: S3Backend,
        bucket: str,
        multipart_id: str,
        *_: object,
        **__: object,
    ) -> None:
        touched.uploads.add((bucket, multipart_id))
        upload = _upload(backend, bucket, multipart_id)
        touched.parts |= {(bucket, multipart_id, n) for n in (upload.parts if upload else ())}

    def all_uploads(touched: Touched, backend: S3Backend, bucket_name: str) -> None:
        touched.buckets.add(bucket_name)
        bucket = backend.buckets.get(bucket_name)
        for upload_id in bucket.multiparts if bucket else ():
            upload(touched, backend, bucket_name, upload_id)

    recording("get_bucket", bucket)
    recording("delete_bucket", all_uploads)
    recording("create_bucket", lambda touched, backend, name, *_, **__: touched.buckets.add(name))
    recording("get_object", fetched)
    for name in ("put_object", "delete_object"):
        recording(name, written)
    for name in ("upload_part", "upload_part_copy"):
        recording(name, part)
    for name in ("complete_multipart_upload", "abort_multipart_upload"):
        recording(name, upload)

    create = S3Backend.create_multipart_upload

    def create_multipart_upload(
        self: S3Backend, bucket_name: str, *args: object, **kwargs: object
    ) -> FakeMultipart:
        upload = create(self, bucket_name, *args, **kwargs)
        if (touched := current()) is not None:
            touched.uploads.add((bucket_name, upload.id))
        return upload

    S3Backend.create_multipart_upload = create_multipart_upload
