"""The prediction log, with a real writing process as in production."""

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from aws_emulator import KEYS, Emulator
from conftest import eventually, free_port
from pyarrow.fs import LocalFileSystem

from model_api.common import storage
from model_api.common.storage import locate
from model_api.model.manifest import FORMAT
from model_api.prediction_log import PredictionLog, Settings, tables
from model_api.prediction_log import __main__ as prediction_log
from model_api.prediction_log.sender import MAXIMUM_BYTES, Record
from model_api.prediction_log.writer import Writer

INPUTS = [
    {"name": "flag", "type": "boolean", "required": True},
    {"name": "count", "type": "integer", "required": True},
    {"name": "total", "type": "long", "required": True},
    {"name": "ratio", "type": "float", "required": True},
    {"name": "width", "type": "double", "required": False},
    {"name": "kind", "type": "string", "required": True},
    {"name": "when", "type": "datetime", "required": True},
    {"name": "tags", "type": "array", "items": {"type": "string"}, "required": True},
    {"name": "row", "type": "long", "required": True},
]
ROW = {
    "flag": True,
    "count": 3,
    "total": 2**40,
    "ratio": 0.5,
    "width": 1.25,
    "kind": "red",
    "when": "2026-11-24T06:00:00",
    "tags": ["a", "b"],
    "row": 7,
}


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knocker:
        return knocker.connect_ex(str(path)) == 0


class Host:
    """A host's state folder with two prepared versions, and the writing process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file://{folder}/log"
        self.environment: dict[str, str] = {}
        self.output = folder / "output"
        signatures = {"wine": INPUTS, "sum %": [{"name": "a", "type": "double", "required": True}]}
        models = {}
        for name, inputs in signatures.items():
            prepared = folder / "prepared" / name
            prepared.mkdir(parents=True)
            manifest = {
                "format": FORMAT,
                "name": name,
                "version": "1",
                "signature": {"inputs": inputs},
                "categories": None,
                "gaps": [],
            }
            (prepared / "manifest.json").write_text(json.dumps(manifest))
            models[name] = {"versions": {str(n): {"folder": f"prepared/{name}"} for n in range(9)}}
        (folder / "state.json").write_text(json.dumps({"models": models}))

    def settings(self, **changes: Any) -> Settings:
        values = {"url": self.url, "state_directory": self.folder, "per_second": 10**6}
        return Settings(**values | changes)

    @contextmanager
    def writing(self, **changes: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run the writing process until the block ends, unless it has already ended."""
        values = {"url": self.url, "flush_seconds": 0.3} | changes
        environment = {f"MODEL_API_PREDICTION_LOG_{k.upper()}": str(v) for k, v in values.items()}
        environment["MODEL_API_STATE_DIRECTORY"] = str(self.folder)
        with self.output.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "model_api.prediction_log"],
                env=os.environ | self.environment | environment,
                stderr=sink,
            )
        try:
            eventually(lambda: listens(self.settings().socket))
            yield process
        finally:
            process.kill()
            process.wait()

    def offer(self, log: PredictionLog, *rows: dict[str, Any], name: str = "sum %") -> None:
        answer = {"predictions": [float(i) for i in range(len(rows))], "model": {"name": name}}
        body = json.dumps({"inputs": rows}).encode()
        log.offer(name, "1", "champion", "request-1", body, json.dumps(answer).encode())

    def send(self, log: PredictionLog, *rows: dict[str, Any], name: str = "sum %") -> None:
        """Offer rows until they are accepted."""
        _until_taken(log, lambda: self.offer(log, *rows, name=name))

    def rows(self) -> list[dict[str, Any]]:
        """Return the written rows, read by a Parquet reader that knows Hive's partitions."""
        return self.table().to_pylist() if self.files() else []

    def table(self) -> pa.Table:
        system, root = locate(self.url)
        return ds.dataset(root, filesystem=system, format="parquet", partitioning="hive").to_table()

    def files(self) -> list[str]:
        system, root = locate(self.url)
        found = system.get_file_info(pa.fs.FileSelector(root, recursive=True, allow_not_found=True))
        return [file.path for file in found if file.path.endswith(".parquet")]


def _until_taken(log: PredictionLog, offer: Callable[[], None]) -> None:
    """Offer one record until it is accepted: the socket holds ten unread ones."""
    before = log.sent
    eventually(lambda: offer() or log.sent > before)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path_factory.mktemp("aws"), free_port())
    emulator.start()
    yield emulator
    emulator.stop()


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=120)


# ---- written records ----------------------------------------------------------------------------


def test_predictions_are_in_s3_with_the_types_of_the_signature(
    host: Host, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.make_bucket("artifacts")
    host.url = "s3://artifacts/predictions"
    # The process has no key: as on an instance, the role gives it credentials.
    host.environment = emulator.be_an_instance()
    before = datetime.now(UTC)
    # It would wait for an hour, so the remaining records are written when it is told to stop.
    with host.writing(flush_seconds=3600) as process:
        log = PredictionLog(host.settings())
        host.send(log, ROW, ROW | {"width": None}, name="wine")
        host.send(log, {"a": 1.5})
        assert (log.offered, log.sent, dict(log.dropped)) == (2, 2, {})
        assert stop(process) == 0
    for name, value in (emulator.environment | KEYS).items():
        monkeypatch.setenv(name, value)
    assert {path.rpartition("/")[0] for path in host.files()} == {
        f"artifacts/predictions/model={name}/version=1/date={before.date()}"
        for name in ("wine", "sum%20%25")
    }
    [path] = [path for path in host.files() if "wine" in path]
    system, _ = locate(host.url)
    table = ds.dataset(path, filesystem=system, format="parquet").to_table()
    assert {field.name: str(field.type) for field in table.schema} == {
        "at": "timestamp[ms, tz=UTC]",
        "request_id": "string",
        "row": "int32",
        "alias": "string",
        "flag": "bool",
        "count": "int32",
        "total": "int64",
        "ratio": "float",
        "width": "double",
        "kind": "string",
        "when": "timestamp[us]",
        "tags": "string",
        "input_row": "int64",
        "prediction": "double",
    }
    first, second = table.to_pylist()
    assert before.replace(microsecond=0) <= first.pop("at") <= datetime.now(UTC)
    assert first == {
        **{name: value for name, value in ROW.items() if name != "row"},
        "when": datetime(2026, 11, 24, 6),
        "tags": '["a","b"]',
        "input_row": 7,
        "row": 0,
        "request_id": "request-1",
        "alias": "champion",
        "prediction": 0.0,
    }
    assert (second["row"], second["width"], second["prediction"]) == (1, None, 1.0)
    assert {row["model"] for row in host.rows()} == {"wine", "sum %"}


def test_records_are_written_after_a_time_or_a_number(host: Host) -> None:
    log = PredictionLog(host.settings())
    with host.writing(flush_seconds=0.5):
        host.send(log, {"a": 1.0})
        assert eventually(host.rows)[0]["a"] == 1.0
    with host.writing(flush_seconds=3600, flush_records=3):
        for _ in range(3):
            host.send(log, {"a": 2.0})
        eventually(lambda: len(host.rows()) == 4)
    assert len(host.files()) == 2


def test_predictions_of_any_type_are_kept(host: Host) -> None:
    expected: dict[str, tuple[list[Any], str, list[Any]]] = {
        "1": (["red", "blue"], "string", ["red", "blue"]),
        "2": ([1, 0], "int64", [1, 0]),
        "3": ([None, 1.5], "double", [None, 1.5]),
        "4": ([None, None], "double", [None, None]),
        "5": ([[0.5, 0.5], [1.0, 0.0]], "list<element: double>", [[0.5, 0.5], [1.0, 0.0]]),
        "6": (["red", 1], "string", ["red", "1"]),
        "7": ([2**70, 1], "string", [str(2**70), "1"]),
        "8": ([2**53 + 1, 0.5], "double", [2.0**53, 0.5]),
    }
    log = PredictionLog(host.settings())
    with host.writing(flush_seconds=3600) as process:
        body = json.dumps({"instances": [{"a": 1.0}, {"a": 2.0}]}).encode()
        for version, (predictions, _, _) in expected.items():
            answer = json.dumps({"predictions": predictions}).encode()
            _until_taken(
                log, lambda v=version, a=answer: log.offer("sum %", v, None, "id", body, a)
            )
        assert stop(process) == 0
    for version, (_, type_, kept) in expected.items():
        [path] = [path for path in host.files() if f"/version={version}/" in path]
        table = ds.dataset(path, format="parquet").to_table()
        assert str(table.schema.field("prediction").type) == type_
        assert table["prediction"].to_pylist() == kept
        assert table["alias"].to_pylist() == [None, None]


@pytest.mark.parametrize(
    "prediction",
    [
        {},
        {"label": "red", "details": {}},
        [[{}]],
        json.loads("[" * 60 + "1" + "]" * 60),
        json.loads('{"a":' * 200 + "1" + "}" * 200),
        {f"user-{i}": 0.5 for i in range(3000)},
    ],
    ids=["empty", "empty inside", "empty in lists", "deep", "deep objects", "wide"],
)
def test_answers_that_readers_of_parquet_refuse_are_json(host: Host, prediction: Any) -> None:
    log = PredictionLog(host.settings())
    writer = Writer(host.settings(flush_seconds=3600))
    body = b'{"inputs":[{"a":1.0}]}'
    log.offer("sum %", "1", None, "id", body, json.dumps({"predictions": [prediction]}).encode())
    writer.stop()
    assert writer.run()
    [row] = host.rows()
    assert json.loads(row["prediction"]) == prediction


def test_answers_keyed_by_ids_take_no_memory_for_each_id_in_each_row(host: Host) -> None:
    rows, ids = 400, 20
    log = PredictionLog(host.settings())
    body = json.dumps({"inputs": [{"a": 1.0}] * rows}).encode()
    answers = [{f"user-{row}-{i}": 0.5 for i in range(ids)} for row in range(rows)]
    before = pa.total_allocated_bytes()
    array = tables._inferred(answers)
    # An array of objects takes 8 bytes for each of 8,000 ids in each of 400 rows: 25 MB.
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert [json.loads(text) for text in array.to_pylist()] == answers
    writer = Writer(host.settings(flush_seconds=3600))
    answer = json.dumps({"predictions": [{"user-1": 0.5}] * rows}).encode()
    log.offer("sum %", "1", None, "id", body, answer)
    writer.stop()
    assert writer.run()
    assert host.rows()[0]["prediction"] == {"user-1": 0.5}


def test_only_its_own_user_may_send(host: Host) -> None:
    with host.writing():
        assert stat.S_IMODE(host.settings().socket.stat().st_mode) == 0o600


# ---- failures -----------------------------------------------------------------------------------


def test_without_a_url_nothing_is_offered(host: Host) -> None:
    log = PredictionLog(host.settings(url=None))
    host.offer(log, {"a": 1.0})
    assert (log.enabled, log.offered) == (False, 0)


def test_records_for_a_missing_or_full_socket_are_counted_until_it_works_again(host: Host) -> None:
    log = PredictionLog(host.settings())
    host.offer(log, {"a": 1.0})
    assert dict(log.dropped) == {"absent": 1}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody_reads:
        nobody_reads.bind(str(host.settings().socket))
        for _ in range(10_000):
            host.offer(log, {"a": 1.0})
    assert log.dropped["full"] > 0
    assert log.sent + log.dropped["full"] == 10_000
    host.offer(log, {"a": 1.0})
    assert log.dropped["absent"] == 2
    # The socket file of a killed process does not block a new one.
    with host.writing():
        eventually(lambda: host.offer(log, {"a": 2.0}) or host.rows())
    with host.writing():
        host.send(log, {"a": 3.0})
        eventually(lambda: any(row["a"] == 3.0 for row in host.rows()))


def test_a_huge_body_is_dropped_and_the_largest_is_not(host: Host) -> None:
    log = PredictionLog(host.settings())
    with host.writing():
        log.offer("sum %", "1", None, "id", b" " * 50_000_000, b"{}")
        assert dict(log.dropped) == {"too-large": 1}
        answer = b'{"predictions":[1]}'
        body = b'{"inputs":[{"a":1}]}'
        body += b" " * (MAXIMUM_BYTES - len(body) - len(answer))
        log.offer("sum %", "1", None, "id", body, answer)
        assert log.sent == 1
        assert eventually(host.rows)[0]["a"] == 1.0


def test_no_more_than_the_sample_and_the_bound_are_sent(host: Host) -> None:
    with host.writing(flush_seconds=3600):
        log = PredictionLog(host.settings(sample=0.25))
        for _ in range(4000):
            host.offer(log, {"a": 1.0})
        assert 800 < log.offered < 1200
        log = PredictionLog(host.settings(per_second=5))
        began = time.time()
        for _ in range(1000):
            host.offer(log, {"a": 1.0})
        assert log.sent <= 5 * (int(time.time()) - int(began) + 1)
        assert log.sent + log.dropped.total() == 1000


def test_during_an_outage_of_s3_the_newest_records_wait_and_one_line_says_so(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator(tmp_path / "aws", free_port())
    host.url = "s3://artifacts/predictions"
    host.environment = emulator.environment | KEYS
    log = PredictionLog(host.settings())
    try:
        with host.writing(max_bytes=20_000) as process:
            for number in range(1000):
                host.send(log, {"a": float(number)})
            eventually(lambda: "dropped the oldest" in host.output.read_text())
            assert log.sent == 1000
            emulator.start()
            emulator.make_bucket("artifacts")
            for name, value in host.environment.items():
                monkeypatch.setenv(name, value)
            eventually(lambda: "again" in host.output.read_text())
            assert stop(process) == 0
        numbers = {int(row["a"]) for row in host.rows()}
        # Older records may be among them, from a file that was being uploaded when S3 came back.
        newest = next(count for count in range(1001) if 999 - count not in numbers)
        assert newest > 100
        assert len(numbers) < 500
        assert host.output.read_text().count("cannot be written to") == 1
    finally:
        emulator.stop()


def test_a_fault_of_the_writing_loop_costs_no_record(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(host.settings(flush_seconds=0.05))
    group, faults = writer._tables.group, [RuntimeError("an unforeseen fault")] * 2

    def failing(raw: dict[int, bytes]) -> Any:
        if faults:
            raise faults.pop()
        return group(raw)

    monkeypatch.setattr(writer._tables, "group", failing)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(writer.run()))
    thread.start()
    try:
        host.send(PredictionLog(host.settings()), {"a": 1.0})
        eventually(lambda: writer.written == 1)
        assert not faults
    finally:
        writer.stop()
        thread.join()
    assert results == [True]
    assert [row["a"] for row in host.rows()] == [1.0]


def test_a_reader_never_finds_a_file_that_is_being_written(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(host.settings(flush_seconds=3600))
    host.send(PredictionLog(host.settings()), {"a": 1.0})
    found: list[list[str]] = []
    move = LocalFileSystem.move

    class Watched:
        """The writer's file system; it reads the folder, as a reader would, before each rename."""

        def __getattr__(self, name: str) -> Any:
            return getattr(writer_files, name)

        def move(self, source: str, target: str) -> None:
            found.append(host.files())
            move(writer_files, source, target)

    writer_files = writer._files
    writer._files = Watched()  # type: ignore[assignment]
    writer.stop()
    writer.run()
    assert found == [[]]
    assert [row["a"] for row in host.rows()] == [1.0]


def test_a_table_that_parquet_cannot_hold_affects_only_its_version(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table = pq.write_table

    def failing(table: pa.Table, sink: Any) -> None:
        if "flag" in table.column_names:
            raise pa.ArrowNotImplementedError("Unhandled type for Arrow to Parquet conversion")
        write_table(table, sink)

    monkeypatch.setattr(pq, "write_table", failing)
    writer = Writer(host.settings(flush_seconds=3600))
    log = PredictionLog(host.settings())
    host.send(log, ROW, name="wine")
    host.send(log, {"a": 1.0})
    writer.stop()
    assert writer.run()
    assert [row["a"] for row in host.rows()] == [1.0]
    assert writer.undecodable == 1


def test_a_group_that_cannot_be_uploaded_blocks_and_loses_no_other(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put, stuck, tried = storage.put, {"sum%20%25", "wine"}, []

    def failing(system: Any, path: str, content: Any) -> None:
        [name] = [name for name in ("sum%20%25", "wine") if f"model={name}/" in path]
        tried.append(name)
        if name in stuck:
            # Not an OSError: any error counts only for its group.
            raise ValueError("no such name here")
        put(system, path, content)

    monkeypatch.setattr(storage, "put", failing)
    # More records of the stuck group than fit: only the group's own records may be dropped for
    # them.
    writer = Writer(host.settings(flush_seconds=0.05, flush_records=5, max_bytes=8_000))
    thread = threading.Thread(target=writer.run)
    thread.start()
    log = PredictionLog(host.settings())
    try:
        stuck.discard("wine")
        for number in range(150):
            host.send(log, {"a": float(number)})
            if number % 30 == 0:
                before = writer.written
                host.send(log, ROW, name="wine")
                eventually(lambda n=before: writer.written > n)
        assert writer.written == 5
        # Retried less and less often, and never in the way.
        assert tried.count("sum%20%25") < 20
        assert caplog.text.count("records of 'sum %', version 1, cannot be uploaded") == 1
        # S3 itself may seem unreachable only until another group has been uploaded.
        assert caplog.text.count("cannot be written to") <= 1
        stuck.clear()
    finally:
        # The waiting records are tried once more.
        writer.stop()
        thread.join()
    rows = host.rows()
    assert [row["model"] for row in rows].count("wine") == 5
    numbers = sorted(row["a"] for row in rows if row["model"] == "sum %")
    assert writer._waiting.dropped > 0
    assert numbers == [float(n) for n in range(150 - len(numbers), 150)]
    assert len(numbers) + writer._waiting.dropped == 150


class EndingSocket:
    """A socket whose read ends the thread with an error that is not caught."""

    def recv(self, size: int) -> bytes:
        raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_receiver_that_ends_for_any_reason_ends_the_process(host: Host) -> None:
    writer = Writer(host.settings(flush_seconds=3600))
    with writer._socket:
        writer._socket = EndingSocket()  # type: ignore[assignment]
        assert not writer.run()


class DeafSocket:
    """A socket that can be read once."""

    def __init__(self, record: bytes) -> None:
        self._records = [record]

    def recv(self, size: int) -> bytes:
        if not self._records:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return self._records.pop()


def test_a_writer_that_can_no_longer_receive_writes_its_records_and_ends(host: Host) -> None:
    writer = Writer(host.settings(flush_seconds=3600))
    host.send(PredictionLog(host.settings()), {"a": 1.0})
    record = writer._socket.recv(2**20)
    # An unread socket fills up: telling the receiver to end must not wait for room.
    sender = PredictionLog(host.settings())
    while not sender.dropped["full"]:
        host.offer(sender, {"a": 2.0})
    with writer._socket:
        writer._socket = DeafSocket(record)  # type: ignore[assignment]
        assert not writer.run()
    assert [row["a"] for row in host.rows()] == [1.0]


def test_a_socket_that_cannot_be_removed_costs_no_record(host: Host) -> None:
    writer = Writer(host.settings(flush_seconds=3600))
    host.send(PredictionLog(host.settings()), {"a": 1.0})

    def receive_once() -> None:
        writer._waiting.add(writer._socket.recv(2**20))
        host.settings().socket.unlink()
        host.settings().socket.mkdir()

    writer._receive = receive_once  # type: ignore[method-assign]
    writer.stop()
    assert writer.run()
    assert [row["a"] for row in host.rows()] == [1.0]


def test_undecodable_records_affect_no_others_and_are_not_quoted(host: Host) -> None:
    log = PredictionLog(host.settings())
    answer = b'{"predictions":[1]}'

    def offer(*record: Any) -> None:
        _until_taken(log, lambda: log.offer(*record))

    with host.writing(flush_seconds=3600) as process:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\xff\x00 nothing", str(host.settings().socket))
            stranger.sendto(b"", str(host.settings().socket))
            for at in (float("nan"), float("inf"), 1e18, -1e18, 1e12):
                record = Record(at, "sum %", "1", None, "id", b'{"inputs":[{"a":1}]}', answer)
                stranger.sendto(msgspec.msgpack.encode(record), str(host.settings().socket))
        offer("sum %", "1", None, "id", b'{"inputs":[{"a":"s3cret"}]}', answer)
        offer("sum %", "1", None, "id", b'{"inputs":[{"a":1},{"a":2}]}', answer)
        offer("sum %", "1", None, "id", b'{"inputs":[{"a":1}]}', b'{"s3cret":1}')
        offer("sum %", "9", None, "id", b'{"inputs":[{"a":1}]}', answer)
        offer("gone", "1", None, "id", b'{"inputs":[{"a":1}]}', answer)
        log.offer("sum %", "1", "\udc80", "id", b"{}", answer)
        offer("sum %", "1", None, "id", b'{"inputs":[{"a":5.0}]}', answer)
        assert (log.sent, log.dropped["failed"]) == (6, 1)
        assert log.dropped.keys() <= {"failed", "full"}
        assert stop(process) == 0
    assert [row["a"] for row in host.rows()] == [5.0]
    output = host.output.read_text()
    assert "12 that could not be decoded" in output
    assert "s3cret" not in output


def test_predictions_are_logged_for_versions_of_any_release(host: Host) -> None:
    for name, release in (("wine", 1), ("sum %", "of another time")):
        manifest = host.folder / "prepared" / name / "manifest.json"
        written = json.loads(manifest.read_text())
        del written["gaps"]
        manifest.write_text(json.dumps(written | {"format": release}))
    log = PredictionLog(host.settings())
    with host.writing(flush_seconds=3600) as process:
        host.send(log, {"a": 5.0})
        host.send(log, ROW, name="wine")
        assert stop(process) == 0
    assert {row["model"] for row in host.rows()} == {"wine", "sum %"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("URL", "artifacts/predictions"), ("URL", ""), ("SAMPLE", "2"), ("FLUSH_SECONDS", "0")],
)
def test_a_wrong_setting_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, text in {"URL": "file:///nowhere/log", name: value}.items():
        monkeypatch.setenv(f"MODEL_API_PREDICTION_LOG_{variable}", text)
    with pytest.raises(SystemExit) as ended:
        prediction_log.main()
    assert ended.value.code == 2
    assert f"MODEL_API_PREDICTION_LOG_{name}" in capsys.readouterr().err
