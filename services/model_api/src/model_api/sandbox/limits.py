"""The settings of a sandbox, which it applies to itself before foreign code runs."""

import msgspec

MIB = 2**20
# Each thread of a library counts as a process.
PROCESSES = 256
# Size of each memory-backed folder, /tmp and /dev/shm, as a share of the memory.
_FOLDER_SHARE = 4


class Limits(msgspec.Struct, frozen=True):
    """Limits of foreign code's resources.

    Attributes:
        memory: the most bytes, of each process and of all together.
        file: the most bytes of one file.
        processes: the most processes and threads in total.
    """

    memory: int
    file: int
    processes: int = PROCESSES

    @property
    def folder(self) -> int:
        """The most bytes in each folder in memory."""
        return self.memory // _FOLDER_SHARE


class Expected(msgspec.Struct, frozen=True):
    """The conditions that a sandbox must find inside.

    Attributes:
        limits: the limits that it sets itself.
        writable: the only folder of the disk that it may write to, if there is one.
        readable: folders that it must not be able to write to.
        network: whether it may have a network.
    """

    limits: Limits
    writable: str | None
    readable: tuple[str, ...]
    network: bool
