"""The WSGI application: authenticate, let moto work, save, answer."""

import fcntl
import io
import logging
import re
import secrets
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

import moto
from flask import Flask
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.exceptions import HTTPException
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import get_input_stream

from . import gaps, object_state, pickles, run_command, tracking, uploads
from .auth import Authenticator, Signature, sha256
from .bodies import BodyStore
from .control_state import ControlState
from .errors import AwsError
from .gaps import sts
from .metadata import MetadataService
from .object_state import ObjectState
from .sessions import Sessions
from .store import Rows, Store

MAX_BODY = 64 * 1024 * 1024
"""The largest request in bytes that is not the upload of an object."""

log = logging.getLogger(__name__)

_READ_METHODS = {"GET", "HEAD", "OPTIONS"}
_READ_ACTIONS = re.compile(r"(BatchGet|Describe|Get|Head|List|Lookup|Simulate)[A-Z]")
_ACTION = "local_aws.action"
_AGENTS = "/latest/run-command"


@dataclass(frozen=True)
class Settings:
    """The settings of the emulator; `state` is a directory that it owns."""

    state: Path
    access_key_id: str
    secret_access_key: str


class StateError(Exception):
    """The emulator cannot start with the state directory it was given."""


def create_app(settings: Settings) -> "LocalAws":
    """Close moto's gaps, load the state, and return the application.

    moto is changed in place: one application per process.

    Raises:
        StateError: another emulator has the state, or this moto cannot read it.
    """
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _own(settings.state)
    store = Store(settings.state / "state.sqlite3")
    signing_key = _signing_key(store)
    sessions = Sessions(signing_key)
    bodies = BodyStore(settings.state / "bodies")
    control, objects = ControlState(store), ObjectState(store, bodies)

    gaps.close_all(sessions)
    pickles.install()
    object_state.install(bodies)
    try:
        control.load()
        orphans = objects.load()
    except Exception as error:
        raise StateError(
            f"{settings.state} cannot be read with moto {moto.__version__} ({error!r}): start the"
            " version that wrote it, or remove the directory and apply Terraform again"
        ) from error
    if orphans:
        log.info("removed %d bodies without an object", orphans)
    tracking.install()
    return LocalAws(
        lock=lock,
        store=store,
        bodies=bodies,
        control=control,
        objects=objects,
        authenticator=Authenticator(settings.access_key_id, settings.secret_access_key, sessions),
        metadata=MetadataService(sessions, signing_key),
    )


def _own(state: Path) -> TextIO:
    """Keep other emulators away from a state directory for as long as the file is open."""
    file = (state / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateError(f"{state} is in use by another emulator: use another directory") from error
    return file


def _signing_key(store: Store) -> bytes:
    for _, content in store.read("signing-key"):
        return content
    key = secrets.token_bytes(32)
    store.submit({("signing-key", ""): key}).result()
    return key


class LocalAws:
    """AWS and its instance metadata service, on one endpoint."""

    def __init__(
        self,
        *,
        lock: TextIO,
        store: Store,
        bodies: BodyStore,
        control: ControlState,
        objects: ObjectState,
        authenticator: Authenticator,
        metadata: MetadataService,
    ) -> None:
        self._lock = lock
        self._store = store
        self._bodies = bodies
        self._control = control
        self._objects = objects
        self._authenticator = authenticator
        self._metadata = metadata
        self._moto = DomainDispatcherApplication(_backend_app)
        self._control_lock = threading.Lock()

    def close(self) -> None:
        """Finish writing."""
        self._store.close()
        self._lock.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        response = self._respond(request)
        if request.path != "/health":
            # The path as the client sent it, which is one line, without the signature in its query.
            path = environ["RAW_URI"].partition("?")[0]
            name = environ.get(_ACTION) or f"{request.method} {path}"
            log.info("%s %s: %s", request.remote_addr, name, response.status_code)
        content: Iterable[bytes] = response(environ, start_response)
        return content

    def _respond(self, request: Request) -> Response:
        if request.path == "/health" and request.method == "GET":
            return Response('{"status": "ok"}', content_type="application/json")
        if request.path.startswith("/latest/"):
            try:
                if request.path.startswith(_AGENTS):
                    return self._serve_agent(request)
                return self._metadata.respond(request)
            except HTTPException as error:
                return Response(f"{error.description}\n", error.code)
        service = None
        try:
            signature = Signature.of(request)
            service = signature.service
            return self._serve(request, signature)
        except AwsError as error:
            return error.response(request, service)
        except HTTPException as error:  # a malformed request, for example one that was cut off
            refusal = AwsError(error.code or 400, "BadRequest", str(error.description))
            return refusal.response(request, service)
        except Exception:
            return _failure(request, service)

    def _serve(self, request: Request, signature: Signature) -> Response:
        # moto's own API can reset and replay everything; nobody needs it here.
        if request.path.startswith("/moto-api") or request.path == "/favicon.ico":
            raise AwsError(404, "NotFound", f"there is nothing at {request.path}")
        is_s3 = signature.service == "s3"
        is_upload = is_s3 and uploads.carries_body(request)
        body = b"" if is_upload else _read_body(request)
        identity = self._authenticator.authenticate(request, signature, lambda: sha256(body))
        sts.caller.set(identity)
        # moto looks for service, region and key in this header only, presigned or not.
        request.environ["HTTP_AUTHORIZATION"] = signature.header()
        if is_upload:
            return self._upload(request)
        content_hash = request.headers.get("X-Amz-Content-SHA256", "")
        if re.fullmatch("[0-9a-f]{64}", content_hash) and content_hash != sha256(body):
            raise AwsError(
                400, "XAmzContentSHA256Mismatch", "the body is not the one whose hash was signed"
            )
        if is_s3:
            return self._serve_objects(request)
        action = _action(request, body)
        if action is not None:
            request.environ[_ACTION] = f"{signature.service} {action}"
        return self._serve_control(request, signature.service, _may_change(request, action))

    def _upload(self, request: Request) -> Response:
        staged = uploads.stage(request, self._bodies)
        try:
            return self._serve_objects(request)
        finally:
            if not staged.claimed:
                self._bodies.discard([staged.body_id])

    def _serve_objects(self, request: Request) -> Response:
        if request.method in _READ_METHODS:
            return self._call_moto(request, "s3")
        bucket, key = uploads.bucket_and_key(request)
        with tracking.track() as touched:
            with self._objects.writing(bucket, key):
                response = self._call_moto(request, "s3")
                if "x-amz-copy-source" not in request.headers:
                    # A copy's source is not ours to save: its own writers may be at work.
                    touched.objects |= touched.fetched
                pending = self._submit(self._objects, self._objects.changes(touched))
            if touched.backends:  # services that listen to the bucket's events
                with self._control_lock:
                    changes = self._control.changes(touched.backends)
                    self._submit(self._control, changes).wait()
            pending.wait()
            self._bodies.discard(touched.discarded_bodies)
        return response

    def _serve_control(self, request: Request, service: str, may_change: bool) -> Response:
        with tracking.track() as touched:
            if may_change:
                with self._control_lock:
                    response = self._call_moto(request, service)
                    changes = self._control.changes(touched.backends)
                    pending = self._submit(self._control, changes)
                pending.wait()
            else:
                response = self._call_moto(request, service)
                if created := self._control.unsaved(touched.backends):
                    with self._control_lock:
                        changes = self._control.changes(created)
                        self._submit(self._control, changes).wait()
            if may_change and touched.buckets:  # services that write to buckets
                with self._objects.writing("", ""):
                    self._submit(self._objects, self._objects.changes(touched)).wait()
                self._bodies.discard(touched.discarded_bodies)
        return response

    def _serve_agent(self, request: Request) -> Response:
        instance = self._metadata.caller(request)
        command_id = request.path.removeprefix(_AGENTS).strip("/")
        if request.method == "GET":
            return run_command.offer(instance)
        with tracking.track() as touched:
            with self._control_lock:
                if request.method == "POST":
                    response = run_command.take(instance, command_id)
                else:
                    response = run_command.finish(instance, command_id, request)
                changes = self._control.changes(touched.backends)
                pending = self._submit(self._control, changes)
            pending.wait()
        return response

    def _call_moto(self, request: Request, service: str) -> Response:
        """moto's answer, also when it fails: its changes until then must be saved."""
        try:
            app_iter, status, headers = run_wsgi_app(self._moto, request.environ)
        except NotImplementedError as error:
            # Not moto's 500, which SDKs retry for minutes.
            missing = AwsError(
                501, "NotImplemented", f"the emulator does not implement this: {error}"
            )
            return missing.response(request, service)
        except Exception:
            return _failure(request, service)
        return Response(app_iter, status, headers, direct_passthrough=True)

    def _submit(self, state: ControlState | ObjectState, rows: Rows) -> "_Pending":
        return _Pending(state, rows, self._store.submit(rows))


@dataclass(frozen=True)
class _Pending:
    """Rows on their way to disk."""

    state: ControlState | ObjectState
    rows: Rows
    written: Future[None]

    def wait(self) -> None:
        """Return when they are on disk."""
        try:
            self.written.result()
        except Exception:
            self.state.forget(self.rows)
            raise


def _backend_app(service: str | None) -> Flask:
    if service is None:
        raise NotImplementedError("moto has no such service")
    return create_backend_app(service)


def _failure(request: Request, service: str | None) -> Response:
    log.exception("%s %s failed", request.method, request.path)
    failure = AwsError(500, "InternalFailure", "the emulator failed: see its log")
    return failure.response(request, service)


def _read_body(request: Request) -> bytes:
    """The whole body, which moto can read again."""
    body: bytes = get_input_stream(request.environ).read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise AwsError(413, "RequestEntityTooLarge", f"the request exceeds {MAX_BODY} bytes")
    request.environ["wsgi.input"] = io.BytesIO(body)
    request.environ["CONTENT_LENGTH"] = str(len(body))
    request.environ.pop("HTTP_TRANSFER_ENCODING", None)
    return body


def _action(request: Request, body: bytes) -> str | None:
    """The action a request names, in the JSON and query protocols; REST has none."""
    action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
    if not action and request.mimetype == "application/x-www-form-urlencoded":
        action = parse_qs(body.decode()).get("Action", [""])[0]
    action = action or request.args.get("Action", "")
    return action if action.isalnum() else None


def _may_change(request: Request, action: str | None) -> bool:
    """Whether a call may change state: all calls but those known to be read-only.

    To take a reader for a writer costs a few milliseconds; the opposite would lose state.
    """
    if action is None:
        return request.method not in _READ_METHODS
    return not _READ_ACTIONS.match(action)
