"""Refuses the system calls that reach out of a sandbox, with libseccomp.

Namespaces hide files and processes. They do not stop code from tracing the process that made them,
from creating its own namespaces, or from using memory that no limit counts.
"""

import ctypes
import errno
from collections.abc import Iterator

_ALLOW = 0x7FFF0000
_EPERM, _ENOSYS, _EAFNOSUPPORT = (
    0x00050000 | code for code in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT)
)
_EQUAL, _AT_LEAST, _MASKED_EQUAL = 4, 5, 7

# Calls for other processes, the kernel's tables, mounts, and memory that RLIMIT_DATA does not
# count.
_REFUSED = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    *("pidfd_getfd", "unshare", "setns", "mount", "umount2", "pivot_root", "move_mount"),
    *("open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "chroot"),
    *("open_by_handle_at", "name_to_handle_at", "add_key", "request_key", "keyctl", "bpf"),
    *("perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("memfd_create", "memfd_secret", "shmget", "semget", "msgget", "mq_open", "quotactl"),
    *("quotactl_fd", "kexec_load", "init_module", "finit_module", "delete_module", "swapon"),
)
# New namespaces (clone(2)).
_NAMESPACES = (0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00020000)
# Unix, IPv4, IPv6.
_FAMILIES = (1, 2, 10)
_LAST_FAMILY = 63
_UNKNOWN_CALL = -1


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def refuse_calls() -> None:
    """Refuse these calls from here on, in this process and everything that it starts.

    Raises:
        OSError: libseccomp is not installed, or the kernel refuses the filter.
    """
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    rule_add = library.seccomp_rule_add_array
    rule_add.argtypes = (
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.POINTER(_Comparison),
    )
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = (ctypes.c_void_p,)
    rules = library.seccomp_init(_ALLOW)
    if not rules:
        raise OSError(errno.ENOMEM, "libseccomp cannot create a filter")
    try:
        for action, name, comparison in _rules():
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN_CALL:
                # This libseccomp is older than the call, and does not know it.
                continue
            count = 0 if comparison is None else 1
            code = rule_add(rules, action, number, count, comparison)
            if code:
                raise OSError(-code, f"libseccomp refuses the rule of {name}")
        if code := library.seccomp_load(rules):
            raise OSError(-code, "the kernel refuses the filter")
    finally:
        library.seccomp_release(rules)


def _rules() -> Iterator[tuple[int, str, "_Comparison | None"]]:
    """Yield an action, the name of a call, and the condition for its argument."""
    for name in _REFUSED:
        yield _EPERM, name, None
    # Its flags are in memory, which a filter cannot read; the C library then calls clone instead.
    yield _ENOSYS, "clone3", None
    for flag in _NAMESPACES:
        yield _EPERM, "clone", _Comparison(0, _MASKED_EQUAL, flag, flag)
    for family in range(_LAST_FAMILY + 1):
        if family not in _FAMILIES:
            yield _EAFNOSUPPORT, "socket", _Comparison(0, _EQUAL, family, 0)
    yield _EAFNOSUPPORT, "socket", _Comparison(0, _AT_LEAST, _LAST_FAMILY + 1, 0)
