"""The limits of foreign code in a sandbox: real bubblewrap, and code that tries to escape."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_api.sandbox import bubblewrap
from model_api.sandbox.limits import MIB, Limits

LIMITS = Limits(memory=600 * MIB, file=8 * MIB, processes=64)


class Box:
    """A folder with a model, and code that runs in its sandbox."""

    def __init__(self, path: Path) -> None:
        self.folder = path / "prepared" / ".wine-1"
        (self.folder / "model").mkdir(parents=True)
        (self.folder / "model/MLmodel").write_text("a model")
        self.secret = path / "state.json"
        self.secret.write_text("a secret")

    def command(self, code: str, network: bool = False) -> list[str]:
        program = self.folder / "model/hostile.py"
        program.write_text(textwrap.dedent(code))
        # Instead of our preparing module: a module of Python that runs a program.
        return bubblewrap.command(
            "cProfile",
            ["-o", "/dev/null", str(program)],
            writable=self.folder,
            readable=[self.folder / "model"],
            limits=LIMITS,
            network=network,
        )

    def run(self, code: str, network: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(code, network),
            env=bubblewrap.environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def says(self, code: str, network: bool = False) -> str:
        """Run code, which must succeed; return its output."""
        ended = self.run(code, network)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    """A server on an address of this machine, not the loopback address if it has another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # This sends nothing.
        probe.connect(("10.255.255.255", 9))
        address = probe.getsockname()[0]
    with socket.create_server((address, 0)) as server:
        yield server.getsockname()[:2]


def test_it_computes_and_writes_into_its_folder(box: Box) -> None:
    said = box.says(f"""
        import numpy, os, sys, tempfile
        open({str(box.folder / "compiled.npz")!r}, "w").write("sums")
        tempfile.TemporaryFile().write(b"x")
        print(numpy.arange(3).sum(), os.cpu_count() > 0)
    """)
    assert said == "3 True"
    assert (box.folder / "compiled.npz").read_text() == "sums"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/etc/lastro", "/root/.ssh", "/home", "/var/log", "/run/systemd", "/proc/1"],
)
def test_it_sees_no_file_of_the_host(box: Box, path: str) -> None:
    said = box.says(f"import os; print(os.path.exists({path!r}))")
    assert said == "False"


def test_it_sees_neither_state_nor_other_versions(box: Box) -> None:
    other = box.folder.parent / "other-2"
    other.mkdir()
    said = box.says(f"""
        import os
        print(os.path.exists({str(box.secret)!r}), os.listdir({str(box.folder.parent)!r}))
    """)
    assert said == "False ['.wine-1']"


def test_it_changes_nothing_on_the_host_except_its_folder(box: Box) -> None:
    others = [
        *(str(box.folder / "model/MLmodel"), f"{sys.prefix}/x", "/usr/x", "/x", "/dev/x", "/etc/x"),
        # Above its folder, it sees its own memory in place of the host's folders.
        *(str(box.secret), str(box.folder.parent / "x")),
    ]
    box.says(f"""
        import os
        for path in {others!r}:
            try:
                os.write(os.open(path, os.O_WRONLY | os.O_CREAT), b"hostile")
            except OSError:
                pass
    """)
    assert (box.folder / "model/MLmodel").read_text() == "a model"
    assert box.secret.read_text() == "a secret"
    assert not [path for path in others[1:] if path != str(box.secret) and Path(path).exists()]


def test_it_has_no_secret_of_the_environment(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert "secret" not in box.says("import os; print(dict(os.environ))")


@pytest.mark.parametrize("network", [False, True])
def test_it_reaches_a_server_only_if_its_model_may(
    box: Box, listener: tuple[str, int], network: bool
) -> None:
    said = box.says(
        f"""
        import socket
        try:
            socket.create_connection({listener!r}, 5)
        except OSError as error:
            print("refused")
        else:
            print("reached")
        """,
        network,
    )
    assert said == ("reached" if network else "refused")


def test_it_sees_and_signals_no_other_process(box: Box) -> None:
    said = box.says(f"""
        import os, signal
        try:
            os.kill({os.getpid()}, 0)
        except ProcessLookupError:
            print("none")
    """)
    assert said == "none"


def test_memory_beyond_the_limit_is_refused(box: Box) -> None:
    ended = box.run("x = bytearray(10 * 2**30)")
    assert ended.returncode == 1
    assert "MemoryError" in ended.stderr


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_folders_in_memory_are_bounded(box: Box, folder: str) -> None:
    said = box.says(f"""
        try:
            for number in range(1000):
                open(f"{folder}/{{number}}", "wb").write(b"x" * 2**20)
        except OSError as error:
            print(number * 2**20 <= {LIMITS.folder}, error.strerror)
    """)
    assert said == "True No space left on device"


def test_a_file_beyond_the_limit_is_refused(box: Box) -> None:
    said = box.says(f"""
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open({str(box.folder / "big")!r}, "wb") as big:
                for _ in range(1000):
                    big.write(b"x" * 2**20)
        except OSError as error:
            print(error.strerror)
    """)
    assert said == "File too large"
    assert (box.folder / "big").stat().st_size <= LIMITS.file


def test_nothing_outlives_it(box: Box) -> None:
    lasting = "lastro-sandbox-outlives"
    code = f"""
        import os, sys, time
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(999)",
                                              {lasting!r}])
                os._exit(0)
        print("started", flush=True)
        time.sleep(999)
    """
    process = subprocess.Popen(
        box.command(code), env=bubblewrap.environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    wait_until(lambda: len(running(lasting)) == 3)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not running(lasting))


def running(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in command and b"sleep" in command and b"bwrap" not in command:
                found.append(entry.name)
    return found


def wait_until(condition: object) -> None:
    assert callable(condition)
    waiting = threading.Event()
    for _ in range(1200):
        if condition():
            return
        waiting.wait(0.05)
    raise AssertionError("the condition was not true within a minute")


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        ("--unshare-net", "interface|packets"),
        ("--unshare-pid", "process numbers"),
        (("--remount-ro", "/"), "can write to /"),
    ],
)
def test_nothing_runs_if_the_sandbox_does_not_hold(
    box: Box, without: str | tuple[str, str], reason: str
) -> None:
    words = without if isinstance(without, tuple) else (without,)
    command = box.command("print('ran')")
    for place in range(len(command)):
        if tuple(command[place : place + len(words)]) == words:
            del command[place : place + len(words)]
            break
    ended = subprocess.run(command, env=bubblewrap.environment(), capture_output=True, text=True)
    assert ended.returncode == 1
    assert "the sandbox does not hold on this host, so the model was not run" in ended.stderr
    assert any(part in ended.stderr for part in reason.split("|")), ended.stderr
    assert "ran" not in ended.stdout


def test_a_variable_that_leaks_stops_it(box: Box) -> None:
    leaking = bubblewrap.environment() | {"AWS_SECRET_ACCESS_KEY": "secret"}
    ended = subprocess.run(box.command("print('ran')"), env=leaking, capture_output=True, text=True)
    assert "it has the environment variables AWS_SECRET_ACCESS_KEY" in ended.stderr
    assert ended.returncode == 1


@pytest.mark.parametrize(
    "call",
    [
        "libc.ptrace(0x4206, 1, 0, 0)",
        "libc.process_vm_readv(1, None, 0, None, 0, 0)",
        "libc.unshare(0x10000000)",
        "libc.memfd_create(b'x', 0)",
        "libc.shmget(0, 4096, 0o1600)",
        "libc.syscall(425, 8, ctypes.byref(ctypes.create_string_buffer(200)))",
    ],
    ids=["ptrace", "process_vm_readv", "unshare", "memfd_create", "shmget", "io_uring_setup"],
)
def test_calls_that_reach_out_of_it_are_refused(box: Box, call: str) -> None:
    said = box.says(f"""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        print({call}, ctypes.get_errno())
    """)
    assert said == "-1 1"


@pytest.mark.parametrize("family", [16, 17, 38, 40], ids=["NETLINK", "PACKET", "ALG", "VSOCK"])
def test_it_opens_no_socket_of_the_kernels_own(box: Box, family: int) -> None:
    said = box.says(f"""
        import socket
        try:
            socket.socket({family}, socket.SOCK_RAW if {family} in (16, 17) else socket.SOCK_STREAM)
        except OSError as error:
            print(error.errno)
    """)
    assert said == "97"


def test_what_libraries_need_works(box: Box) -> None:
    said = box.says("""
        import multiprocessing, subprocess, threading
        thread = threading.Thread(target=print, args=("thread",))
        thread.start()
        thread.join()
        context = multiprocessing.get_context("fork")
        process = context.Process(target=lambda: print("process", flush=True))
        process.start()
        process.join()
        print(subprocess.run(["/bin/sh", "-c", "echo shell"], capture_output=True).stdout)
    """)
    assert said.split() == ["thread", "process", "b'shell\\n'"]
