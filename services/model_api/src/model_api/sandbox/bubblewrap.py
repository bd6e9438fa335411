"""The command that starts one of our programs in a sandbox.

bubblewrap (https://github.com/containers/bubblewrap) gives the program its own namespaces: it sees
no other process, no network, and only the files listed here. bubblewrap needs no privilege.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from model_api.sandbox.limits import Expected, Limits

PROGRAM = "bwrap"

# Libraries' paths, and the time zone. None of these files reveals the host's users or secrets.
_CONFIGURATION = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/ssl", "/etc/ca-certificates", "/etc/pki"),
)
# The files that libraries read to count processors and memory. A whole /proc would need a privilege
# in containers, or show other processes.
_MACHINE = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu")
# The folder that this package is imported from.
_SOURCES = Path(__file__).parents[2]
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def environment() -> dict[str, str]:
    """Return all environment variables of a program in a sandbox."""
    return {
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def command(
    module: str,
    arguments: Sequence[str],
    *,
    writable: Path | None,
    readable: Sequence[Path],
    limits: Limits,
    network: bool = False,
) -> list[str]:
    """Return the command that runs one of our modules in a sandbox.

    Args:
        module: as in ``python -m``.
        arguments: the module's arguments.
        writable: the only folder of the disk that it may write to; it must exist. None for none.
        readable: files and folders, possibly within ``writable``, that it may only read.
        limits: the limits of its resources.
        network: whether it may use the host's network.
    """
    read = [sys.prefix, sys.base_prefix, str(_SOURCES), "/usr"]
    expected = Expected(
        limits, str(writable) if writable is not None else None, tuple(map(str, readable)), network
    )
    return [
        *(PROGRAM, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *(() if network else ("--unshare-net",)),
        *("--uid", "65534", "--gid", "65534"),
        # It stays in its starter's session, which has the right priority and no terminal.
        "--die-with-parent",
        *("--dev", "/dev", "--size", str(limits.folder), "--tmpfs", "/dev/shm"),
        *("--size", str(limits.folder), "--tmpfs", "/tmp"),
        *_read_only("--ro-bind", read),
        *_system(),
        *_read_only("--ro-bind-try", (*_CONFIGURATION, *_MACHINE, *(_NETWORK if network else ()))),
        *(("--bind", str(writable), str(writable)) if writable is not None else ()),
        *_read_only("--ro-bind", map(str, readable)),
        # Folders that bubblewrap itself creates use memory as well.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *("--chdir", "/tmp", "--"),
        *(sys.executable, "-I", "-m", "model_api.sandbox"),
        *(msgspec.json.encode(expected).decode(), module, *arguments),
    ]


def _read_only(option: str, paths: Iterable[str]) -> list[str]:
    # The shortest first, because a later mount covers an earlier one.
    return [word for path in sorted(set(paths)) for word in (option, path, path)]


def _system() -> list[str]:
    """Return the options for the folders next to /usr, which are links into it on most systems."""
    words = []
    for path in _SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    return words
