"""Checks from the inside whether a sandbox holds."""

import ctypes
import errno
import mmap
import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

from model_api.sandbox.bubblewrap import environment
from model_api.sandbox.calls import refuse_calls
from model_api.sandbox.limits import Expected, Limits

# The metadata service of cloud instances, which hands out the host's credentials (IPv4, IPv6).
_METADATA = (("169.254.169.254", 80), ("fd00:ec2::254", 80))
# In addition to `environment`: the one of a preparation, and those that bubblewrap, Python or the C
# library may add.
_VARIABLES = {
    *environment(),
    *("MODEL_API_PREPARE_SECONDS", "PWD", "SHLVL", "LC_CTYPE", "OLDPWD", "_"),
}
# Data that waits in sockets and pipes uses memory that no limit counts.
_FILES = 1024
_PRIVATE = ("/etc/lastro", "/etc/shadow", "/etc/passwd", "/root/.aws", "/run/systemd", "/var/log")


class SandboxError(RuntimeError):
    """The sandbox does not hold; the message says what gets through."""


def hold(expected: Expected) -> None:
    """Set the limits for this process and everything that it starts, and check that nothing leaks.

    Raises:
        SandboxError: something leaks.
    """
    _limit(expected.limits)
    _check_processes()
    _check_variables()
    _check_files(expected)
    if not expected.network:
        _check_network()
    _check_memory(expected.limits)
    _refuse_calls()


def _refuse_calls() -> None:
    try:
        refuse_calls()
    except OSError as error:
        raise SandboxError(f"all system calls are open to it: {error}") from None
    # A call that systemd's filters permit, with nothing to read.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.process_vm_readv(1, None, 0, None, 0, 0) != -1 or ctypes.get_errno() != errno.EPERM:
        raise SandboxError("it can read the memory of its parent")


def _limit(limits: Limits) -> None:
    for what, most in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        # A host may allow less.
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(what, (most, most))


def _check_processes() -> None:
    if os.getppid() != 1:
        raise SandboxError("it has no process numbers of its own")
    with suppress(FileNotFoundError):
        if any(entry.isdecimal() for entry in os.listdir("/proc")):
            raise SandboxError("it sees processes in /proc")


def _check_variables() -> None:
    if more := sorted(os.environ.keys() - _VARIABLES):
        raise SandboxError(f"it has the environment variables {', '.join(more)}")


def _check_files(expected: Expected) -> None:
    for path in _PRIVATE:
        if os.path.exists(path):
            raise SandboxError(f"it sees {path}")
    for folder in ("/", "/usr", *expected.readable):
        if _writes(Path(folder)):
            raise SandboxError(f"it can write to {folder}")
    above = Path(expected.writable or "/").parent
    while above != above.parent:
        # /tmp is separate memory.
        if not above.is_relative_to("/tmp") and _writes(above):
            raise SandboxError(f"it can write to {above}")
        above = above.parent


def _writes(folder: Path) -> bool:
    probe = folder / ".sandbox-probe"
    try:
        probe.touch()
    except OSError:
        return False
    probe.unlink()
    return True


def _check_network() -> None:
    if others := [name for _, name in socket.if_nameindex() if name != "lo"]:
        raise SandboxError(f"it has the network interfaces {', '.join(others)}")
    for address in _METADATA:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(0.2)
                probe.connect(address)
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
        raise SandboxError(f"packets to {address[0]} leave it")


def _check_memory(limits: Limits) -> None:
    try:
        # Nothing is written to it: a limit that works refuses the allocation.
        mmap.mmap(-1, limits.memory, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return
    raise SandboxError(f"a process can take {limits.memory} bytes and more")
