"""The status of a host's runners: where each listens, and how it is.

Only the process `model_api.runners` writes it; workers and the follower read it.
"""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from model_api.common.state import replace

DIRECTORY = Path("/run/model-api-runners")
STATUS = "runners.json"
CONTROL = "control"
"""The datagram socket that receives complaints: see `Complaint`."""


class RunnerStatus(msgspec.Struct, frozen=True):
    """The status of a version's runner.

    Attributes:
        state: "idle" if it starts with the next request; "failed" if there is no retry for now.
        reason: why it last failed.
        deaths: how often it has died since it last worked.
    """

    state: Literal["idle", "starting", "ready", "failed"]
    reason: str | None = None
    deaths: int = 0


class Complaint(msgspec.Struct, frozen=True):
    """A worker's report that it waited for an answer in vain.

    Attributes:
        folder: name of the version's folder.
        seconds: how long it has waited.
    """

    folder: str
    seconds: float


def socket_of(directory: Path, folder: str) -> Path:
    """Return the socket of the version in a folder; its name is short because addresses must be."""
    return directory / f"{hashlib.sha256(folder.encode()).hexdigest()[:16]}.sock"


def read_statuses(directory: Path) -> dict[str, RunnerStatus]:
    """Return the known statuses, by name of the version's folder; none if no runners run."""
    try:
        content = (directory / STATUS).read_bytes()
        return msgspec.json.decode(content, type=dict[str, RunnerStatus])
    except (OSError, msgspec.MsgspecError):
        return {}


def write_statuses(directory: Path, statuses: dict[str, RunnerStatus]) -> None:
    """Replace the known statuses."""
    replace(directory / STATUS, msgspec.json.encode(statuses))
