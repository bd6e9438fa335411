"""The settings of the processes that start sandboxes."""

import shutil
import sys
from pathlib import Path

from pydantic import PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_api.common.memory import half_of_memory
from model_api.common.runners import DIRECTORY
from model_api.common.settings import read_or_exit
from model_api.sandbox.bubblewrap import PROGRAM
from model_api.sandbox.limits import MIB


class SandboxSettings(BaseSettings):
    """Each field is the variable ``MODEL_API_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_API_", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    state_directory: Path = Path("/var/lib/model_api")
    """The folder of the follower's state and prepared versions."""
    runners_directory: Path = DIRECTORY
    """The directory of the runners' sockets."""
    network_models: tuple[str, ...] = ()
    """Models whose code may use the network: a list in JSON."""
    sandbox_memory_mib: PositiveInt | None = None
    """The most memory of a sandbox; by default half of the machine's."""

    @property
    def memory(self) -> int:
        """The most bytes of memory of a sandbox."""
        return self.sandbox_memory_mib * MIB if self.sandbox_memory_mib else half_of_memory()


def read_with_sandbox_or_exit[T: SandboxSettings](kind: type[T], program: str) -> T:
    """Like `read_or_exit`; also exit with 2 if bubblewrap is not installed."""
    settings = read_or_exit(kind, program)
    if shutil.which(PROGRAM) is None:
        print(
            f"{program}: {PROGRAM} is not on PATH, and no model runs without its sandbox:"
            " install the package bubblewrap",
            file=sys.stderr,
        )
        sys.exit(2)
    return settings
